//! A column of a key, with what its rows are ordered by.

use crate::{
    form::Form,
    table::{ColumnClass, Family, KeyOrder, SideColumn},
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
                "octet_length({name}::text) <> 36 OR {name}::text COLLATE \"C\" <> lower({name}::text) COLLATE \"C\" \
                 OR {name}::text COLLATE \"C\" ~ '[^0-9a-f-]'"
            )),
            Family::MySql | Family::MariaDb if is_text => {
                let length = format!("CHAR_LENGTH({name}) <> 36 OR {name} REGEXP '[^0-9A-Fa-f-]'");
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
                    "typeof({name}) <> 'text' OR length({name}) <> 36 OR {name} GLOB '*[^0-9a-f-]*'"
                ),
            }),
            _ => None,
        }
    }

    /// The condition for a UUID that is written in a way that a search
    /// [`ByIndex`](super::keys::Search::ByIndex) does not ask for. None if there can be none.
    pub(crate) fn odd(&self, family: Family) -> Option<String> {
        let name = &self.name;
        let is_text = matches!(
            self.column.class,
            ColumnClass::Text { .. } | ColumnClass::Words
        );
        if self.form != Form::Uuid || !(is_text || family == Family::Sqlite) {
            return None;
        }
        let (text, is_meant) = match family {
            Family::Postgres => (format!("{name}::text"), String::new()),
            Family::MySql | Family::MariaDb => (name.clone(), String::new()),
            Family::Sqlite => (name.clone(), format!("typeof({name}) = 'text' AND ")),
        };
        let digits = format!("replace(lower({text}), '-', '')");
        let parts = [(1, 8), (9, 4), (13, 4), (17, 4), (21, 12)];
        let parts = parts.map(|(from, length)| format!("substr({digits}, {from}, {length})"));
        let dashed = match family {
            Family::Sqlite => parts.join(" || '-' || "),
            _ => format!("concat_ws('-', {})", parts.join(", ")),
        };
        Some(format!(
            "({is_meant}{text} NOT IN ({digits}, upper({digits})) AND (length({digits}) <> 32 \
             OR {text} NOT IN ({dashed}, upper({dashed}))))"
        ))
    }

    /// Orders rows by the digits of their UUIDs. This reads no index.
    pub(crate) fn order_by_digits(&mut self, family: Family) {
        if self.misplaced(family).is_some() {
            self.digits = self.digits_in(family);
        }
    }

    /// The digits of a UUID that is written as a text.
    pub(super) fn digits_in(&self, family: Family) -> Option<String> {
        let (name, column) = (&self.name, &self.column);
        match family {
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
        }
    }
}
