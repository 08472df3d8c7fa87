//! How a server's column takes a value that comes as a text.
//!
//! Input: the column, and the form of the text. Output: the expression that is assigned to the column.
//!
//! The cast is never to the column's own length or scale, because an explicit cast cuts and a server says nothing. The
//! assignment behind it refuses what does not fit.

use final_core::database::Dialect;

use crate::{
    form::{Form, uuid::dashed},
    table::{ColumnClass, SideColumn},
};

/// The expression. `placeholder` stands for the text.
pub(crate) fn taken(
    dialect: Dialect,
    column: &SideColumn,
    form: Form,
    placeholder: &str,
) -> String {
    use ColumnClass::*;
    match (dialect, column.class, form) {
        (Dialect::Postgres, Bytes { .. }, _) => format!("decode({placeholder}, 'hex')"),
        (Dialect::Postgres, Bool, Form::Integer) => format!("{placeholder}::numeric::int::bool"),
        (Dialect::Postgres, Bits { length }, Form::Integer) => {
            format!("{placeholder}::bigint::bit({length})")
        }
        // The assignment rounds it.
        (Dialect::Postgres, Integer { .. } | Decimal { .. }, Form::Number | Form::Float { .. }) => {
            format!("{placeholder}::numeric")
        }
        (Dialect::Postgres, ..) => format!("{placeholder}::{}", column.cast),
        (Dialect::MySql, Bytes { .. }, _) => format!("UNHEX({placeholder})"),
        (Dialect::MySql, Bits { .. }, Form::Bits { .. }) => {
            format!("CAST(CONV({placeholder}, 2, 10) AS UNSIGNED)")
        }
        // The text '0' would be the year 2000, and '5' the byte of a digit.
        (Dialect::MySql, Integer { unsigned: true, .. } | Bits { .. }, Form::Integer) => {
            format!("CAST({placeholder} AS UNSIGNED)")
        }
        (Dialect::MySql, Integer { .. } | Bool, Form::Integer) => {
            format!("CAST({placeholder} AS SIGNED)")
        }
        (Dialect::MySql | Dialect::Sqlite, ..) => placeholder.to_owned(),
    }
}

/// The text that such an expression takes.
pub(crate) fn text_for(column: &SideColumn, form: Form, value: &str) -> String {
    use ColumnClass::*;
    match (form, column.class) {
        (Form::Uuid, Bytes { .. }) => value.to_owned(),
        // There is no room for dashes.
        (Form::Uuid, Text { .. }) if column.declared.contains("(32)") => value.to_owned(),
        (Form::Uuid, _) => dashed(value),
        _ => value.to_owned(),
    }
}
