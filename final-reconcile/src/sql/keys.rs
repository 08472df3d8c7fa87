//! Conditions on keys, and how a key is handed back to its database.
//!
//! Input: the columns of a key, and keys in canonical form. Output: SQL with its values.
//!
//! A value goes as text, and SQL casts it to the column's type. So the index is used, and nothing is lost on the way.

use final_core::database::{Dialect, Value};

use crate::{
    form::{Form, Row},
    side::table::{ColumnClass, Family, KeyOrder, SideColumn},
};

/// A column of a key.
#[derive(Clone, Debug)]
pub(crate) struct KeyColumn {
    /// Its name, quoted.
    pub(crate) name: String,
    pub(crate) column: SideColumn,
    pub(crate) form: Form,
    /// The expression that rows are ordered by, where it is not the column itself: the digits of UUIDs that are written in
    /// several ways.
    pub(crate) digits: Option<String>,
}

impl KeyColumn {
    /// What rows are ordered by.
    pub(crate) fn order(&self) -> &str {
        self.digits.as_deref().unwrap_or(&self.name)
    }

    /// The condition for a UUID that has another place in the index than its digits say. None if there can be none.
    pub(crate) fn misplaced(&self, family: Family) -> Option<String> {
        let (name, class) = (&self.name, self.column.class);
        let is_text = matches!(class, ColumnClass::Text { .. });
        if self.form != Form::Uuid {
            return None;
        }
        match family {
            Family::Postgres if is_text => Some(format!(
                "octet_length({name}::text) <> 36 OR {name}::text COLLATE \"C\" <> lower({name}::text) COLLATE \"C\""
            )),
            Family::MySql | Family::MariaDb if is_text => {
                let length = format!("CHAR_LENGTH({name}) <> 36");
                let text = format!("CONVERT({name} USING utf8mb4)");
                let is_of_any_case =
                    matches!(&self.column.order, KeyOrder::Own(order) if order.contains("_ci"));
                Some(match is_of_any_case {
                    true => length,
                    false => format!(
                        "{length} OR CAST({text} AS BINARY) <> CAST(LOWER({text}) AS BINARY)"
                    ),
                })
            }
            Family::Sqlite => Some(match class {
                ColumnClass::Bytes { .. } => {
                    format!("typeof({name}) <> 'blob' OR length({name}) <> 16")
                }
                _ => format!(
                    "typeof({name}) <> 'text' OR length({name}) <> 36 OR {name} COLLATE BINARY <> lower({name})"
                ),
            }),
            _ => None,
        }
    }

    /// Orders rows by the digits of their UUIDs. This reads no index.
    pub(crate) fn order_by_digits(&mut self, family: Family) {
        if self.misplaced(family).is_none() {
            return;
        }
        let (name, column) = (&self.name, &self.column);
        self.digits = match family {
            #[cfg(feature = "postgres")]
            Family::Postgres => {
                let text = super::postgres::text(column, self.form, name);
                Some(format!("({text}) COLLATE \"C\""))
            }
            #[cfg(feature = "mysql")]
            Family::MySql | Family::MariaDb => {
                let text = super::mysql::text(column, self.form, name);
                Some(format!("CAST({text} AS BINARY)"))
            }
            Family::Sqlite => Some(format!(
                "CASE typeof({name}) WHEN 'blob' THEN lower(hex({name})) ELSE replace(lower({name}), '-', '') END"
            )),
            #[cfg(not(all(feature = "postgres", feature = "mysql")))]
            _ => {
                let _ = column;
                None
            }
        };
    }
}

/// A condition that grows, with its values.
#[derive(Debug)]
pub(crate) struct Condition<'k> {
    dialect: Dialect,
    keys: &'k [KeyColumn],
    pub(crate) sql: String,
    pub(crate) values: Vec<Value<'static>>,
}

impl<'k> Condition<'k> {
    pub(crate) fn new(dialect: Dialect, keys: &'k [KeyColumn]) -> Self {
        Self {
            dialect,
            keys,
            sql: String::from("1 = 1"),
            values: Vec::new(),
        }
    }

    /// Only keys after this one, or up to it; it may have only the first columns. Whether the key could be read.
    pub(crate) fn bound(&mut self, key: &Row, sign: &str) -> bool {
        let Some(fields) = self.fields(key) else {
            return false;
        };
        self.sql.push_str(" AND ");
        if self.dialect == Dialect::MySql && fields.len() > 1 {
            self.bound_written_out(&fields, sign);
            return true;
        }
        let names = self.keys.iter().map(KeyColumn::order).take(fields.len());
        let names: Vec<&str> = names.collect();
        let values: Vec<String> = (0..fields.len())
            .map(|at| self.value(at, &fields))
            .collect();
        let condition = match names.len() {
            1 => format!("{} {sign} {}", names.join(""), values.join("")),
            _ => format!("({}) {sign} ({})", names.join(", "), values.join(", ")),
        };
        self.sql.push_str(&condition);
        true
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

    /// Only these keys. A list is filled up with its last key, so that few statements have to be prepared.
    pub(crate) fn one_of(&mut self, keys: &[Row]) -> bool {
        let room = [1, 10, 100]
            .into_iter()
            .find(|room| *room >= keys.len())
            .unwrap_or(keys.len());
        let filled = keys
            .iter()
            .chain(std::iter::repeat_n(keys.last(), room - keys.len()).flatten());
        let mut choices = Vec::with_capacity(room);
        for key in filled {
            let fields = self.fields(key);
            let Some(fields) = fields.filter(|fields| fields.len() == self.keys.len()) else {
                return false;
            };
            let mut parts = Vec::with_capacity(self.keys.len());
            for at in 0..self.keys.len() {
                let key = &self.keys[at];
                let values = match (key.form, key.column.class) {
                    (Form::Uuid, ColumnClass::Text { .. } | ColumnClass::Words) => {
                        self.spellings(at, &fields)
                    }
                    (Form::Uuid, _) if self.dialect == Dialect::Sqlite => {
                        self.spellings(at, &fields)
                    }
                    _ => vec![self.value(at, &fields)],
                };
                parts.push(match values.as_slice() {
                    [value] => format!("{} = {value}", key.name),
                    values => format!("{} IN ({})", key.name, values.join(", ")),
                });
            }
            choices.push(format!("({})", parts.join(" AND ")));
        }
        self.sql
            .push_str(&format!(" AND ({})", choices.join(" OR ")));
        true
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

/// 32 digits with dashes, as a UUID is printed.
pub(crate) fn dashed(digits: &str) -> String {
    match (digits.len(), digits.is_ascii()) {
        (32, true) => {
            let parts = [
                &digits[..8],
                &digits[8..12],
                &digits[12..16],
                &digits[16..20],
                &digits[20..],
            ];
            parts.join("-")
        }
        _ => digits.to_owned(),
    }
}
