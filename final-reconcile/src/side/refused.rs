//! What a database says about a row that it does not take, without the values in it.
//!
//! Input: the error, and the columns that were written. Output: a text for logs and operators. A message such as
//! `Duplicate entry 'ann@shop.example' for key 'mail'` has a value, which is the user's.

use crate::table::SideColumn;

/// The text.
pub(crate) fn refused(error: &sqlx::Error, columns: &[SideColumn]) -> String {
    let Some(said) = error.as_database_error() else {
        return error.to_string();
    };
    let message = said.message();
    let code = said.code().unwrap_or_default();
    #[cfg(feature = "postgres")]
    if let Some(said) = said.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        return match said.routine() {
            Some(RAISE) => raised(&code),
            _ => of_postgres(&code, message, columns),
        };
    }
    #[cfg(feature = "mysql")]
    if let Some(said) = said.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        return match said.number() {
            SIGNAL => raised(&code),
            _ => of_mysql(&code, message),
        };
    }
    let _ = columns;
    // Otherwise SQLite names columns and constraints, and no values.
    match &*code {
        SQLITE_RAISE => RAISED.to_owned(),
        _ => message.to_owned(),
    }
}

/// The routine of PostgreSQL that carries a RAISE of PL/pgSQL out, whatever SQLSTATE it has.
#[cfg(feature = "postgres")]
const RAISE: &str = "exec_stmt_raise";

/// The number of MySQL and MariaDB for a SIGNAL (ER_SIGNAL_EXCEPTION).
#[cfg(feature = "mysql")]
const SIGNAL: u16 = 1644;

/// SQLite's extended code for a RAISE (SQLITE_CONSTRAINT_TRIGGER).
const SQLITE_RAISE: &str = "1811";

/// What is told in place of a message that the author of a trigger has written, perhaps with values of the row.
const RAISED: &str = "a trigger or a function of the database has refused the row";

#[cfg(any(feature = "postgres", feature = "mysql", test))]
fn raised(code: &str) -> String {
    format!("{RAISED} (SQLSTATE {code})")
}

/// Errors about data (class 22) and those of triggers and functions (classes P0 and 38) may have values in their message, in any language.
/// So these messages are not told. Those about data name the type, and not the column.
#[cfg(any(feature = "postgres", test))]
fn of_postgres(code: &str, message: &str, columns: &[SideColumn]) -> String {
    let why = match code {
        "22001" => "a text is too long for its column",
        "22003" => "a number is out of range",
        "22007" | "22008" => "a day or a time is no value of the type",
        "22021" | "22P05" => "a text has a sign that the server cannot hold",
        "22P02" => "a text is no value of the type",
        _ if code.starts_with("22") => "a value is not as its column wants it",
        _ if code.starts_with("P0") || code.starts_with("38") => return raised(code),
        _ => return format!("{message} (SQLSTATE {code})"),
    };
    let is_meant =
        |column: &&SideColumn| message.contains(&column.declared) || message.contains(&column.cast);
    let names: Vec<String> = columns
        .iter()
        .filter(is_meant)
        .filter(|_| code.starts_with("22"))
        .map(|column| format!("`{}`", column.name))
        .collect();
    match names.is_empty() {
        true => format!("{why} (SQLSTATE {code})"),
        false => format!(
            "{why} (SQLSTATE {code}); columns of this type: {}",
            names.join(", ")
        ),
    }
}

/// A SIGNAL may have another number, and the class 45 is for users alone. The key of a duplicate stands at the end, in quotes as the
/// value is. Other messages name the column behind the value.
#[cfg(any(feature = "mysql", test))]
fn of_mysql(code: &str, message: &str) -> String {
    const DUPLICATE: &str = "Duplicate entry";
    const HAVE_NO_VALUES: [&str; 7] = [
        "Data too long",
        "Out of range value for column",
        "Data truncated",
        "Column ",
        "Field ",
        "CONSTRAINT ",
        "Cannot ",
    ];
    if code.starts_with("45") {
        return raised(code);
    }
    if message.starts_with(DUPLICATE) {
        let key = message.rsplit_once(" for key ").map(|(_, key)| key);
        return format!(
            "another row has its values in the unique key {} ({code})",
            key.unwrap_or("of the table")
        );
    }
    if HAVE_NO_VALUES
        .iter()
        .any(|begin| message.starts_with(begin))
    {
        return format!("{message} ({code})");
    }
    match message.rsplit_once(" for column ") {
        Some((value, column)) => format!("{} for column {column} ({code})", without(value, '\'')),
        None => format!("{} ({code})", without(message, '\'')),
    }
}

/// The message without what stands between the first and the last of these quotes.
#[cfg(any(feature = "mysql", test))]
fn without(message: &str, quote: char) -> String {
    match (message.find(quote), message.rfind(quote)) {
        (Some(first), Some(last)) if first < last => {
            let (begin, end) = (message.get(..first), message.get(last + 1..));
            format!("{}…{}", begin.unwrap_or_default(), end.unwrap_or_default())
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{ColumnClass, KeyOrder};

    #[test]
    fn what_a_server_says_about_a_row_tells_no_value() {
        let column = SideColumn {
            name: "amount".into(),
            declared: "numeric(8,2)".into(),
            cast: "numeric".into(),
            class: ColumnClass::Other,
            nullable: true,
            is_generated: false,
            is_invisible: false,
            is_utf8: false,
            order: KeyOrder::Number,
        };
        let columns = [column];
        let cases = [
            (
                of_postgres(
                    "22P02",
                    "invalid input syntax for type numeric: \"my \"secret\"\"",
                    &columns,
                ),
                "a text is no value of the type (SQLSTATE 22P02); columns of this type: `amount`",
            ),
            (
                of_postgres(
                    "22P02",
                    "ungültige Eingabesyntax für Typ numeric: »my secret«",
                    &columns,
                ),
                "a text is no value of the type (SQLSTATE 22P02); columns of this type: `amount`",
            ),
            (
                of_postgres("P0001", "my secret is no amount", &columns),
                "a trigger or a function of the database has refused the row (SQLSTATE P0001)",
            ),
            (
                of_postgres(
                    "23505",
                    "duplicate key value violates unique constraint \"mail\"",
                    &columns,
                ),
                "duplicate key value violates unique constraint \"mail\" (SQLSTATE 23505)",
            ),
            (
                of_mysql("23000", "Duplicate entry 'my 'secret'' for key 'mail'"),
                "another row has its values in the unique key 'mail' (23000)",
            ),
            (
                of_mysql("22001", "Data too long for column 'name' at row 1"),
                "Data too long for column 'name' at row 1 (22001)",
            ),
            (
                of_mysql(
                    "22007",
                    "Incorrect date value: 'my secret' for column `s`.`t`.`day` at row 1",
                ),
                "Incorrect date value: … for column `s`.`t`.`day` at row 1 (22007)",
            ),
            (
                of_mysql("22007", "Truncated incorrect INTEGER value: 'my secret'"),
                "Truncated incorrect INTEGER value: … (22007)",
            ),
        ];
        for (made, expected) in cases {
            assert_eq!(made, expected);
        }
    }
}
