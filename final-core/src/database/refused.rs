//! The meaning of a database's error.
//!
//! Input: an error of a statement. Output: whether the values are at fault, or the statement, or something that
//! passes.

use sqlx::{
    SqlSafeStr, Transaction,
    error::{DatabaseError, ErrorKind},
};

use super::{DbResult, Dialect, Driver, limits::ExceedsPacket};

/// Whether the values themselves are refused: by a type, a size, a charset, a constraint or a trigger. Other
/// values may be taken.
///
/// Any other answer is no fault of the values: the database is read-only, its disk is full, a table is locked
/// or missing.
pub(crate) fn refuses_values(error: &sqlx::Error) -> bool {
    if let sqlx::Error::Configuration(error) = error {
        return error.is::<ExceedsPacket>();
    }
    error.as_database_error().is_some_and(|error| {
        !matches!(error.kind(), ErrorKind::Other)
            || error.message().contains("max_allowed_packet")
            || matches!(meaning(error), Meaning::Values)
    })
}

/// Whether the statement is refused, and will be as long as the database stays as it is: for its values, for a
/// missing privilege, or for a missing table. An outage, a lock or a full disk is not such a refusal.
pub(crate) fn refuses(error: &sqlx::Error) -> bool {
    let meaning = error.as_database_error().map(meaning);
    refuses_values(error) || matches!(meaning, Some(Meaning::Statement))
}

/// Whether the server does not let the role in.
pub(crate) fn refuses_login(error: &dyn DatabaseError) -> bool {
    error
        .code()
        .is_some_and(|code| code.len() == 5 && code.starts_with("28"))
}

/// Whether the server has ended the transaction because it and others waited for each other, or could not be put in
/// a row. The same transaction may be sent again.
pub(crate) fn is_victim<DB: Driver>(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    DB::is_deadlock(error) || code.is_some_and(|code| ["40001", "40P01"].contains(&&*code))
}

/// Rolls back after a statement was refused.
pub(crate) async fn roll_back<DB: Driver>(mut tx: Transaction<'_, DB>) -> DbResult<()> {
    if DB::DIALECT == Dialect::Sqlite {
        // A trigger's RAISE(ROLLBACK) has ended the transaction. sqlx does not know, and could not begin another on
        // this connection.
        let _ = DB::run_sql(&mut tx, &"BEGIN".into_sql_str(), &[]).await;
    }
    tx.rollback().await
}

/// The code a database gives, for texts.
pub(crate) fn code(error: &sqlx::Error) -> String {
    let code = error.as_database_error().and_then(DatabaseError::code);
    let plain = |code: &str| code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match code {
        Some(code) if code.len() <= 5 && plain(&code) => code.into_owned(),
        _ => "none".to_owned(),
    }
}

/// What an error says about a statement that is sent again.
enum Meaning {
    /// Other values may be taken.
    Values,
    /// It is refused until a person has changed something.
    Statement,
    /// It may be taken later, as it is.
    Passes,
}

fn meaning(error: &dyn DatabaseError) -> Meaning {
    let code = error.code().unwrap_or_default();
    #[cfg(feature = "mysql")]
    if let Some(error) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        return of_mysql(&code, error.number());
    }
    // SQLSTATEs have five characters, and SQLite's numbers have four at most.
    match code.parse::<u32>() {
        Ok(number) if code.len() < 5 => of_sqlite(number),
        _ if error.message().contains("row-level security") => Meaning::Values,
        _ => of_postgres(&code),
    }
}

fn of_postgres(code: &str) -> Meaning {
    match code.get(..2).unwrap_or_default() {
        // Data, constraints, limits of the program, a view's CHECK OPTION; what a function raises.
        "09" | "21" | "22" | "23" | "27" | "38" | "39" | "44" | "54" | "P0" => Meaning::Values,
        // Connections, plans, transactions, resources, locks, operators, the server itself.
        "" | "08" | "0A" | "25" | "26" | "28" | "40" | "53" | "55" | "57" | "58" | "F0" | "HV"
        | "XX" => Meaning::Passes,
        class if is_own(class) => Meaning::Values,
        _ => Meaning::Statement,
    }
}

/// Whether no database uses this class of codes itself, so that the code comes from a trigger of the service.
fn is_own(class: &str) -> bool {
    class.starts_with(|first: char| matches!(first, '5'..='9' | 'I'..='Z'))
}

#[cfg(feature = "mysql")]
fn of_mysql(state: &str, number: u16) -> Meaning {
    match (number, state.get(..2).unwrap_or_default()) {
        // A column without a default; a text or a number of another kind; collations that do not mix; a
        // generated column; a CHECK; no partition for the row; a trigger that fails.
        (
            1267 | 1300 | 1364 | 1366 | 1442 | 1526 | 1748 | 1901 | 1906 | 3819 | 3903 | 3988
            | 4025,
            _,
        ) => Meaning::Values,
        // A packet, a row that is too large.
        (1118 | 1153 | 1301, _) => Meaning::Values,
        // What an account may use has been used up.
        (1203 | 1226 | 1461, _) => Meaning::Passes,
        (_, "01" | "21" | "22" | "23" | "44" | "45") => Meaning::Values,
        (_, "42" | "3D" | "3F") => Meaning::Statement,
        (_, "70" | "HY" | "XA") => Meaning::Passes,
        (_, class) if is_own(class) => Meaning::Values,
        _ => Meaning::Passes,
    }
}

fn of_sqlite(number: u32) -> Meaning {
    match number & 0xff {
        // SQLITE_TOOBIG, SQLITE_CONSTRAINT (triggers included), SQLITE_MISMATCH.
        18..=20 => Meaning::Values,
        // SQLITE_ERROR: a table or column that is missing. SQLITE_AUTH.
        1 | 23 => Meaning::Statement,
        _ => Meaning::Passes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_trigger_raises_is_about_the_values_whatever_code_it_has_thought_of() {
        for code in [
            "P0001", "23514", "22P05", "54000", "44000", "MY001", "77777",
        ] {
            assert!(matches!(of_postgres(code), Meaning::Values), "{code}");
        }
        for (state, number) in [
            ("45000", 1644),
            ("77777", 1644),
            ("HY000", 3819),
            ("HY000", 1366),
        ] {
            assert!(
                matches!(of_mysql(state, number), Meaning::Values),
                "{number}"
            );
        }
        for number in [1811, 275, 1299, 3091, 18] {
            assert!(matches!(of_sqlite(number), Meaning::Values), "{number}");
        }
    }

    #[test]
    fn what_passes_is_nobodys_fault() {
        for code in [
            "", "08006", "40001", "40P01", "53100", "55P03", "57014", "25006", "XX000",
        ] {
            assert!(matches!(of_postgres(code), Meaning::Passes), "{code}");
        }
        for (state, number) in [
            ("HY000", 1205),
            ("40001", 1213),
            ("HY000", 1290),
            ("HY000", 1114),
        ] {
            assert!(
                matches!(of_mysql(state, number), Meaning::Passes),
                "{number}"
            );
        }
        for number in [5, 6, 8, 10, 13, 517] {
            assert!(matches!(of_sqlite(number), Meaning::Passes), "{number}");
        }
    }

    #[test]
    fn what_may_not_be_written_or_is_missing_is_refused_whatever_the_values() {
        assert!(matches!(of_postgres("42501"), Meaning::Statement));
        assert!(matches!(of_mysql("42000", 1142), Meaning::Statement));
        assert!(matches!(of_mysql("42S02", 1146), Meaning::Statement));
        assert!(matches!(of_sqlite(1), Meaning::Statement));
    }
}
