//! The table in which messages wait between the caller's COMMIT and the broker's confirm.
//!
//! `Outbox` is the one door to it: the bus writes records through it, and the relay claims and settles them
//! through its `Table`. What is asked is written once; only the texts of SQL are each database's own, in
//! `statements/` and `schema/`. Times are the database's running clock, never the time a transaction began,
//! and never ours.

pub(crate) mod claims;
mod door;
mod insert;
mod migrate;
#[cfg(feature = "mysql")]
pub(crate) mod predecessor;
mod record;
mod schema;
pub(crate) mod statements;
mod table;
#[cfg(all(test, feature = "postgres", feature = "mysql", feature = "sqlite"))]
mod tests;

pub use self::record::FailedRecord;
pub(crate) use self::{
    door::Outbox,
    record::{Claimed, NewRecord, Position, Record},
    table::{PutBack, RETRY_BATCH, Table},
};
use crate::database::Driver;

/// The databases an outbox can live in: `sqlx::Postgres`, `sqlx::MySql` (also MariaDB) and
/// `sqlx::Sqlite`, each behind the cargo feature of its name.
///
/// Sealed: its methods are those of [`Driver`], which are the bus's own and change with it.
pub trait OutboxDatabase: Driver {}

impl<DB: Driver> OutboxDatabase for DB {}
