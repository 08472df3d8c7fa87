//! INSERTs that write nothing where they should not: one row that would not be its own commit, and rows of a
//! transaction that is over.
//!
//! Input: the values of a row. Output: the words in the INSERT that make it find out, in the same round trip,
//! whether the connection has a transaction open.
//!
//! PostgreSQL and MariaDB have such words. SQLite and MySQL have none: there a message without a transaction
//! gets one.

use super::says;

/// A condition behind the values of an `INSERT … SELECT` on PostgreSQL: true if the statement is a transaction
/// of its own.
///
/// A lone statement begins its transaction when it is bound, and the server makes the cursor of the statement
/// (the one without a name) at the same time. In a transaction that was begun before, the two times differ.
/// `txid_current_if_assigned` would not do, because a transaction has no number before it writes.
pub(crate) const OWN_TRANSACTION: &str = "WHERE now() = \
    (SELECT creation_time FROM pg_catalog.pg_cursor() WHERE name = '')";

/// The value of a column that must not be NULL, on MariaDB: NULL if the row would not be its own commit. The
/// INSERT is then refused. For a single row that holds in every `sql_mode`, and no session can switch it off,
/// as it can switch off CHECKs.
pub(crate) fn unless_in_transaction(value: &str) -> String {
    format!("IF(@@autocommit AND NOT @@in_transaction, {value}, NULL)")
}

/// What MariaDB refuses to compute, whatever a session says about modes and checks. NULL would not do for several rows:
/// without strict mode it becomes 0.
const OUT_OF_RANGE: &str = "9223372036854775807 + 1";

/// A value on MariaDB that is an error where no transaction is open. A deadlock ends a transaction at once, and a
/// closure that goes on would otherwise have its messages committed alone.
pub(crate) fn in_transaction(value: &str) -> String {
    format!("IF(@@in_transaction, {value}, {OUT_OF_RANGE})")
}

/// A value on MariaDB that is an error where the statement would not be its own commit, in each of several rows.
pub(crate) fn outside_transaction(value: &str) -> String {
    format!("IF(@@autocommit AND NOT @@in_transaction, {value}, {OUT_OF_RANGE})")
}

/// Whether the error is that of such a value, or of one of [`outside_transaction`].
pub(crate) fn is_not_in_transaction(error: &sqlx::Error) -> bool {
    says(error, OUT_OF_RANGE)
}
