//! Transactions that are open for long, and what else keeps dead rows of the tables.
//!
//! Input: the sessions and transactions of the server, and how long a transaction may be open. Output: findings, each
//! with the statement that ends it.
//!
//! The outbox and the log write and remove rows all the time. The database keeps removed rows for the oldest
//! transaction that may still look at them, and every claim has to step over them.

mod mysql;
mod postgres;

use std::time::Duration;

use super::{
    finding::{Diagnosis, Finding, Level},
    ward::Ward,
};
use crate::{
    OutboxDatabase,
    database::{DbResult, Dialect, limits::duration},
};

pub(super) const TRANSACTION_OPEN: Diagnosis = Diagnosis::new(
    Level::Warning,
    "transaction_open",
    "Removed messages stay in the tables until it ends, so the tables grow and claims become slow. Messages that it \
     has published itself are not sent before it commits",
);

pub(super) const PREPARED_TRANSACTION_OPEN: Diagnosis = Diagnosis::new(
    Level::Warning,
    "prepared_transaction_open",
    "Removed messages stay in the tables until it ends, and no client has to be connected for that. Rows that it has \
     written stay locked",
);

pub(super) const REPLICATION_SLOT_UNUSED: Diagnosis = Diagnosis::new(
    Level::Warning,
    "replication_slot_unused",
    "The server keeps its write-ahead log for the slot, until the disk is full and nothing can be committed; it may \
     also keep removed messages in the tables",
);

pub(super) const HISTORY_LONG: Diagnosis = Diagnosis::new(
    Level::Warning,
    "innodb_history_long",
    "Removed messages are still in the tables, and claims have to step over them, so they become slow",
);

/// Changes that InnoDB may keep before it is told. At a million, scans are slow.
pub(super) const MOST_HISTORY: u64 = 1_000_000;

pub(super) async fn look<DB: OutboxDatabase>(
    ward: &Ward<DB>,
    limit: Duration,
    most_history: u64,
) -> DbResult<Vec<Finding>> {
    match DB::DIALECT {
        Dialect::Postgres => postgres::look(ward, limit).await,
        Dialect::MySql => mysql::look(ward, limit, most_history).await,
        // There is one writer, and readers of other processes cannot be seen.
        Dialect::Sqlite => Ok(Vec::new()),
    }
}

/// A time in microseconds as a person reads it.
pub(super) fn age(micros: i64) -> String {
    let seconds = duration(micros).as_secs();
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
