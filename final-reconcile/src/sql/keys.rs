//! Conditions on keys, and how a key is handed back to its database.
//!
//! Input: the columns of a key, and keys in canonical form. Output: SQL with its values.
//!
//! A value goes as text, and SQL casts it to the column's type. So the index is used, and nothing is lost on the way.

use final_core::database::{Dialect, Value};

use super::{
    fit::{Fit, fit},
    key_column::KeyColumn,
};
use crate::{
    form::{Form, Row, uuid::dashed},
    table::{ColumnClass, Family},
};

/// How rows are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Search {
    /// By the index, in the ways in which a UUID is mostly written.
    ByIndex,
    /// By the digits of UUIDs, however they are written. This reads no index.
    ByDigits,
}

/// A condition that grows, with its values.
#[derive(Debug)]
pub(crate) struct Condition<'k> {
    dialect: Dialect,
    keys: &'k [KeyColumn],
    pub(crate) sql: String,
    pub(crate) values: Vec<Value<'static>>,
    /// The key that was written last, and how: where placeholders have numbers, it is sent only once.
    last: Option<(Row, Vec<String>)>,
}

impl<'k> Condition<'k> {
    pub(crate) fn new(dialect: Dialect, keys: &'k [KeyColumn]) -> Self {
        Self {
            dialect,
            keys,
            sql: String::from("1 = 1"),
            values: Vec::new(),
            last: None,
        }
    }

    /// Begins another condition of the same statement. Returns the one that is finished.
    pub(crate) fn another(&mut self) -> String {
        std::mem::replace(&mut self.sql, String::from("1 = 1"))
    }

    /// Only keys after this one, or up to it; it may have only the first columns. Whether the key could be read.
    pub(crate) fn bound(&mut self, key: &Row, sign: &str) -> bool {
        let Some(mut fields) = self.fields(key) else {
            return false;
        };
        // A value that the column cannot hold is before all of its values, or behind them.
        let mut sign = sign;
        if let Some((at, fit)) = self.first_misfit(&fields) {
            sign = match (fit, sign) {
                (Fit::Unlike | Fit::Among, _) => return false,
                (Fit::Below, ">") => ">=",
                (Fit::Below, _) => "<",
                (Fit::Above, sign) => sign,
            };
            fields.truncate(at);
            if fields.is_empty() {
                let is_all = (fit == Fit::Below) == (sign == ">=");
                self.sql.push_str(match is_all {
                    true => " AND 1 = 1",
                    false => " AND 1 = 0",
                });
                return true;
            }
        }
        self.sql.push_str(" AND ");
        if self.dialect == Dialect::MySql && fields.len() > 1 {
            self.bound_written_out(&fields, sign);
            return true;
        }
        let names = self.keys.iter().map(KeyColumn::order).take(fields.len());
        let names: Vec<&str> = names.collect();
        let values = match self.last.take() {
            Some((last, values)) if last == *key && self.dialect != Dialect::MySql => values,
            _ => (0..fields.len())
                .map(|at| self.value(at, &fields))
                .collect(),
        };
        let condition = match names.len() {
            1 => format!("{} {sign} {}", names.join(""), values.join("")),
            _ => format!("({}) {sign} ({})", names.join(", "), values.join(", ")),
        };
        self.sql.push_str(&condition);
        self.last = Some((key.clone(), values));
        true
    }

    /// The first value that its column cannot hold.
    fn first_misfit(&self, fields: &[Option<String>]) -> Option<(usize, Fit)> {
        let keys = self.keys.iter().zip(fields).enumerate();
        let mut fits = keys.filter_map(|(at, (key, text))| {
            let text = text.as_deref()?;
            Some((at, fit(self.dialect, key, text)))
        });
        fits.find(|(_, fit)| *fit != Fit::Among)
    }

    /// MySQL reads `(a, b) > (?, ?)` by no index.
    fn bound_written_out(&mut self, fields: &[Option<String>], sign: &str) {
        let strict = sign.trim_end_matches('=');
        let last = fields.len() - 1;
        for at in 0..=last {
            let name = self.keys[at].order();
            let sign = if at == last { sign } else { strict };
            let value = self.value(at, fields);
            self.sql.push_str(&format!("({name} {sign} {value}"));
            if at < last {
                let value = self.value(at, fields);
                self.sql.push_str(&format!(" OR ({name} = {value} AND "));
            }
        }
        self.sql.push_str(&")".repeat(2 * last + 1));
    }

    /// Only these keys. A list is filled up with its last key, so that few statements have to be prepared. A key that its
    /// columns cannot hold has no row.
    pub(crate) fn one_of(&mut self, keys: &[Row], search: Search) -> bool {
        let mut all = Vec::with_capacity(keys.len());
        for key in keys {
            let fields = self.fields(key);
            let Some(fields) = fields.filter(|fields| fields.len() == self.keys.len()) else {
                return false;
            };
            if self.first_misfit(&fields).is_none() {
                all.push(fields);
            }
        }
        let Some(last) = all.last() else {
            self.sql.push_str(" AND 1 = 0");
            return true;
        };
        let room = [1, 10, 100]
            .into_iter()
            .find(|room| *room >= all.len())
            .unwrap_or(all.len());
        let filled = all
            .iter()
            .chain(std::iter::repeat_n(last, room - all.len()));
        let choices: Vec<String> = filled.map(|fields| self.choice(fields, search)).collect();
        self.sql
            .push_str(&format!(" AND ({})", choices.join(" OR ")));
        true
    }

    /// Only this key.
    fn choice(&mut self, fields: &[Option<String>], search: Search) -> String {
        let family = match self.dialect {
            Dialect::Postgres => Family::Postgres,
            Dialect::MySql => Family::MySql,
            Dialect::Sqlite => Family::Sqlite,
        };
        let mut parts = Vec::with_capacity(self.keys.len());
        for at in 0..self.keys.len() {
            let key = &self.keys[at];
            let is_spelled = key.odd(family).is_some();
            let digits = match (is_spelled, search) {
                (true, Search::ByDigits) => key.digits_in(family),
                _ => None,
            };
            if let Some(expression) = digits {
                let digits = fields.get(at).cloned().flatten().unwrap_or_default();
                let digits = self.text(digits);
                let cast = match self.dialect {
                    Dialect::Postgres => "::text",
                    Dialect::MySql | Dialect::Sqlite => "",
                };
                parts.push(format!("{expression} = {digits}{cast}"));
                continue;
            }
            let values = match is_spelled {
                true => self.spellings(at, fields),
                false => vec![self.value(at, fields)],
            };
            parts.push(match values.as_slice() {
                [value] => format!("{} = {value}", key.name),
                values => format!("{} IN ({})", key.name, values.join(", ")),
            });
        }
        format!("({})", parts.join(" AND "))
    }

    /// Adds a value without a cast.
    pub(crate) fn text(&mut self, value: impl Into<Value<'static>>) -> String {
        self.values.push(value.into());
        placeholder(self.dialect, self.values.len())
    }

    fn fields(&self, key: &Row) -> Option<Vec<Option<String>>> {
        let forms: Vec<Form> = self.keys.iter().map(|key| key.form).collect();
        let fields = key.leading(&forms)?.into_iter();
        let text = |field: Option<&[u8]>| match field {
            None => Some(None),
            Some(bytes) => String::from_utf8(bytes.to_vec()).ok().map(Some),
        };
        fields.map(text).collect()
    }

    /// How a UUID may be written in a column of text.
    fn spellings(&mut self, at: usize, fields: &[Option<String>]) -> Vec<String> {
        let digits = fields.get(at).cloned().flatten().unwrap_or_default();
        let dashed = dashed(&digits);
        let spellings = [
            dashed.to_uppercase(),
            dashed,
            digits.to_uppercase(),
            digits.clone(),
        ];
        let mut values: Vec<String> = spellings.into_iter().map(|text| self.text(text)).collect();
        if self.dialect == Dialect::Postgres {
            let casts = values
                .iter()
                .map(|value| cast(self.dialect, &self.keys[at], value));
            values = casts.collect();
        }
        if self.dialect == Dialect::Sqlite {
            let digits = self.text(digits);
            values.push(format!("unhex({digits})"));
        }
        values
    }

    /// The placeholder of a field, cast to the column's type.
    fn value(&mut self, at: usize, fields: &[Option<String>]) -> String {
        let key = &self.keys[at];
        let text = fields.get(at).cloned().flatten();
        if key.digits.is_some() {
            let digits = self.text(text.unwrap_or_default());
            return match self.dialect {
                Dialect::Postgres => format!("{digits}::text"),
                _ => digits,
            };
        }
        let text = match (key.form, key.column.class) {
            (Form::Uuid, ColumnClass::Bytes { .. }) => text,
            (Form::Uuid, _) => text.map(|digits| dashed(&digits)),
            _ => text,
        };
        self.values.push(Value::from(text));
        cast(
            self.dialect,
            key,
            &placeholder(self.dialect, self.values.len()),
        )
    }
}

fn placeholder(dialect: Dialect, number: usize) -> String {
    match dialect {
        Dialect::Postgres => format!("${number}"),
        Dialect::MySql => "?".to_owned(),
        Dialect::Sqlite => format!("?{number}"),
    }
}

fn cast(dialect: Dialect, key: &KeyColumn, placeholder: &str) -> String {
    use ColumnClass::*;
    let class = key.column.class;
    match dialect {
        Dialect::Postgres => match class {
            Bytes { .. } => format!("decode({placeholder}, 'hex')"),
            Bool => format!("{placeholder}::int::bool"),
            _ => format!("{placeholder}::{}", key.column.cast),
        },
        Dialect::MySql => match class {
            Integer { unsigned: true, .. } | Bits { .. } => {
                format!("CAST({placeholder} AS UNSIGNED)")
            }
            Integer { .. } | Bool => format!("CAST({placeholder} AS SIGNED)"),
            Decimal { .. } => format!("CAST({placeholder} AS DECIMAL(65, 30))"),
            Bytes { .. } => format!("UNHEX({placeholder})"),
            Date => format!("CAST({placeholder} AS DATE)"),
            DateTime { .. } | Moment { .. } => format!("CAST({placeholder} AS DATETIME(6))"),
            Time { .. } => format!("CAST({placeholder} AS TIME(6))"),
            _ => placeholder.to_owned(),
        },
        Dialect::Sqlite => match (class, key.form) {
            (_, Form::Integer) => format!("CAST({placeholder} AS INTEGER)"),
            (_, Form::Decimal { .. } | Form::Number) => format!("CAST({placeholder} AS NUMERIC)"),
            (Bytes { .. }, _) => format!("unhex({placeholder})"),
            _ => placeholder.to_owned(),
        },
    }
}
