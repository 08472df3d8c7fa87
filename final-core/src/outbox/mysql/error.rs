//! What the server's errors mean.

use sqlx::mysql::MySqlDatabaseError;

fn server(error: &sqlx::Error) -> Option<&MySqlDatabaseError> {
    error.as_database_error()?.try_downcast_ref()
}

/// Errors of COMMIT after which nothing of the transaction stands: a deadlock (also a Galera conflict),
/// a constraint, a conflict in a replication group. A lock wait that timed out is not among them: it
/// ends a statement and not the transaction.
pub(super) fn is_surely_rolled_back(error: &sqlx::Error) -> bool {
    const SURE: [u16; 6] = [1062, 1213, 1451, 1452, 3101, 4025];
    server(error).is_some_and(|error| SURE.contains(&error.number()))
}

/// How often one of the relay's statements is sent before its deadlock counts as a failure.
pub(super) const TRIES: u32 = 5;

/// Whether the statement was the victim of a deadlock, so that sending it again is all there is to do.
///
/// A claim comes to a row by the index of what is due and a settlement by its id, so two instances can
/// each hold what the other wants. Callers are not part of it: they only insert.
pub(super) fn is_deadlock(error: &sqlx::Error) -> bool {
    server(error).is_some_and(|error| error.number() == 1213)
}

pub(super) fn is_missing_table(error: &sqlx::Error) -> bool {
    server(error).is_some_and(|error| error.number() == 1146 && error.message().contains("_outbox"))
}

/// The CHECK on the status refused what the guarded INSERT writes outside a transaction. We write no
/// other status that it refuses.
pub(super) fn is_not_in_transaction(error: &sqlx::Error) -> bool {
    const MARIADB_CONSTRAINT: u16 = 4025;
    server(error).is_some_and(|error| {
        error.number() == MARIADB_CONSTRAINT
            && error.message().contains("`final_")
            && error.message().contains("_status`")
    })
}

/// A transaction is open, or one of XA, so that no other can begin.
pub(super) fn is_in_transaction(error: &sqlx::Error) -> bool {
    const OPEN: [u16; 3] = [1399, 1400, 1568];
    server(error).is_some_and(|error| OPEN.contains(&error.number()))
}

/// The INSERT of one row would not have committed by itself: it writes NULL then, which it never does
/// otherwise where that is refused. Or it is an XA transaction that takes no more statements.
pub(crate) fn is_not_alone(error: &sqlx::Error) -> bool {
    const NO_NULL: u16 = 1048;
    const XA_IS_OVER: u16 = 1399;
    server(error).is_some_and(|error| [NO_NULL, XA_IS_OVER].contains(&error.number()))
}
