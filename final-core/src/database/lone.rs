//! How the INSERT of one row writes nothing where it would not be its own commit.
//!
//! So a message that is published without a transaction costs one round trip: the statement finds out by
//! itself whether the connection has a transaction open. SQLite and MySQL have no words for that; MariaDB and
//! PostgreSQL have.

/// Behind the values of an `INSERT … SELECT` on PostgreSQL: where the statement is its own transaction.
///
/// A transaction begins with the message that binds the statement, which is when the statement's cursor (the
/// one without a name) is made; inside a transaction that was begun before, the two times differ.
/// `txid_current_if_assigned` would not do, because a transaction has no number before it writes.
pub(crate) const OWN_TRANSACTION: &str = "WHERE now() = \
    (SELECT creation_time FROM pg_catalog.pg_cursor() WHERE name = '')";

/// What a column is given on MariaDB that must not be NULL, so that the INSERT is refused where it would not
/// commit by itself. A row alone is refused in every `sql_mode`, and no session can switch that off, as it can
/// the CHECKs.
pub(crate) fn unless_in_transaction(value: &str) -> String {
    format!("IF(@@autocommit AND NOT @@in_transaction, {value}, NULL)")
}
