//! What the server's errors mean.

/// SQLSTATE classes that say that the transaction was rolled back: data, constraints, transaction
/// states, serialization and deadlocks, object states, and what a function raised.
///
/// Not here, because the commit may stand all the same: 08 (connection), 53 (resources), 57 (going
/// down), 58, XX, and 40003, which says that nobody knows.
const ROLLED_BACK: [&str; 7] = ["22", "23", "25", "2D", "40", "55", "P0"];

fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

pub(super) fn is_surely_rolled_back(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| {
        code != "40003" && ROLLED_BACK.iter().any(|class| code.starts_with(class))
    })
}

pub(super) fn is_missing_table(error: &sqlx::Error) -> bool {
    // 42P01: the table; 3F000: its schema.
    code(error).is_some_and(|code| code == "3F000")
        || (code(error).is_some_and(|code| code == "42P01")
            && error
                .as_database_error()
                .is_some_and(|error| error.message().contains("_outbox")))
}

/// Nothing is guarded here: see `insert`.
pub(super) fn is_not_in_transaction(_: &sqlx::Error) -> bool {
    false
}

/// An earlier statement has failed, so that the transaction can only be rolled back.
pub(crate) fn is_aborted(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| code == "25P02")
}
