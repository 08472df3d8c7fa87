//! The outbox: the table in which messages wait between the caller's COMMIT and the broker's confirm.
//!
//! Input: messages of the bus, inside the caller's transactions; claims and settlements of the relay. State:
//! `final_<service>_outbox`, a record for each message, and `final_<service>_claims`, a row for each claim.
//! Output: due records, each leased to one process at a time; counts for `Bus::stats`.
//!
//! ```text
//!   bus ─ insert ─▶ record ─ claim ─▶ relay ─ ack ────────────────▶ deleted, or kept as acked
//!                     ▲                  ├─── put_back, release ──▶ due again ─┐
//!                     │                  ├─── park ─▶ unroutable ─ unpark ─────┤
//!                     │                  └─── fail ─▶ failed ─ retry_failed ───┤
//!                     └────────────────────────────────────────────────────────┘
//! ```
//!
//! | part | does |
//! | --- | --- |
//! | `door` | `Outbox`, the only way in: writes on the caller's connections, and lends the `Table` |
//! | `table`, `claims` | `Table`: one method for each change, each question, and for claims |
//! | `insert`, `record` | INSERTs; a record, its status, and its place in the order |
//! | `letters` | dead letters that were collected from the broker, and their way back |
//! | `statements` | all SQL of the table, one text for each database |
//! | `migrate`, `schema`, `predecessor` | the versions of the tables, and the table of the Go predecessor |
//!
//! Each statement is called in one place; only its SQL text differs between the databases. All times come from
//! the database's running clock. The clock of a process can differ from another one's, and a transaction can
//! have begun long before its COMMIT.

pub(crate) mod claims;
mod door;
mod insert;
#[allow(
    dead_code,
    unused_imports,
    reason = "the task that collects letters comes next"
)]
pub(crate) mod letters;
mod marks;
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
    door::{LoneEarly, Outbox},
    record::{Claimed, NewRecord, Position, Record, RecordId},
    schema::VERSION,
    table::{PutBack, RETRY_BATCH, Table},
};
use crate::database::Driver;

/// The databases an outbox can live in: `sqlx::Postgres`, `sqlx::MySql` (also MariaDB) and
/// `sqlx::Sqlite`, each behind the cargo feature of its name.
///
/// Sealed: its methods are those of [`Driver`], which are the bus's own and change with it.
pub trait OutboxDatabase: Driver {}

impl<DB: Driver> OutboxDatabase for DB {}
