//! The SQL of one outbox, rendered once.
//!
//! Input: the server, its schema, and the service. Output: one [`Statement`] for each change and each question.
//!
//! The three databases have texts of their own, because they differ for measured reasons: how a claim locks,
//! how a row is found by its id. The values have the same names in all three texts, so each statement is called
//! in one place, in [`table`](super::table) or [`claims`](super::claims).

#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::fmt;

use crate::{
    database::{Dialect, Server, insert::Insert, statement::Statement},
    names::ServiceName,
    outbox::{letters::LetterStatements, marks::MarkStatements},
};

/// The columns of a plain record, as `publish(topic, &value)` makes it, and how many of them are parameters.
/// Columns that such a record does not need are left out, and values that are the same in all of them stand in
/// the text. Most records are plain, and each parameter costs.
const PLAIN: (&str, usize) = (
    "message_id, topic, payload, available_at, claimed_by, content_type, durable, status, due_at, \
     created_at",
    5,
);

/// The columns of any record, and how many of them are parameters.
const ANY: (&str, usize) = (
    "message_id, topic, message_key, headers, payload, sent_as, content_type, durable, expires_at, \
     status, due_at, available_at, claimed_by, created_at",
    13,
);

/// All statements of one outbox.
///
/// A record is *the owner's* if it is pending and the owner has a lease on it that has not run out: the
/// record's own lease, or a claim that covers the record. Statements of the owner change no other records, and
/// the count of changed rows tells.
pub(crate) struct Statements {
    /// The table's name with its schema, quoted.
    pub(crate) table: String,
    /// What the server has said about itself.
    pub(crate) server: Server,
    pub(crate) inserts: RecordInserts,
    /// The highest number of a claim, in a row with each live claim.
    pub(crate) claims: Statement,
    /// The places and sizes of due records between two positions.
    pub(crate) look: Statement,
    /// Writes a claim, unless its number is taken.
    pub(crate) reserve: Statement,
    /// The records of a claim, with their payloads.
    pub(crate) read: Statement,
    /// Ends claims of the owner, by their numbers.
    pub(crate) finish: Statement,
    /// Deletes claims that have ended, up to a number.
    pub(crate) forget: Statement,
    /// Makes one unroutable record of a topic pending, with a lease, and reads it.
    pub(crate) probe: Probe,
    /// How long until the next record is due that no claim covers, or a claim runs out.
    pub(crate) next_due: Statement,
    /// The topics that have unroutable records.
    pub(crate) parked_topics: Statement,
    /// Deletes records by their keys, whether they are the owner's or not.
    pub(crate) delete: Statement,
    /// Marks records as acked by their keys, whether they are the owner's or not.
    pub(crate) mark_acked: Statement,
    /// Gives records of the owner a new lease of their own.
    pub(crate) renew: Statement,
    /// Makes records of the owner due after a wait, and ends their own leases.
    pub(crate) release: Statement,
    /// As `release`. Also counts an attempt and perhaps a fault, and keeps the reason.
    pub(crate) put_back: Statement,
    /// Makes records of the owner unroutable, counts an attempt, and keeps the reason.
    pub(crate) park: Statement,
    /// Makes some unroutable records of a topic pending and due.
    pub(crate) unpark: Change,
    /// Marks records of the owner as failed, counts an attempt, and keeps the reason.
    pub(crate) fail: Statement,
    /// The failed records, in the order of their keys, which is that of their publishing.
    pub(crate) failed: Statement,
    /// Makes failed records pending and due, by their keys.
    pub(crate) retry_failed: Statement,
    /// Makes failed records pending and due, by the ids of their messages where these are not their keys.
    pub(crate) retry_failed_sent_as: Change,
    /// Makes some failed records pending and due.
    pub(crate) retry_some_failed: Change,
    /// How many records have each status, and how long the oldest has been due.
    pub(crate) backlog: Statement,
    /// Deletes some acked records that are older than an age.
    pub(crate) purge_acked: Change,
    /// Deletes all records, on MySQL some of them at a time.
    pub(crate) purge_all: Change,
    /// Whether another owner has a live claim, or a record with a lease of its own.
    pub(crate) has_other_leases: Statement,
    /// The marks of suspects, in a table of their own.
    pub(crate) marks: MarkStatements,
    /// The collected dead letters, in a table of their own.
    pub(crate) letters: LetterStatements,
}

/// The INSERTs of records.
#[derive(Debug)]
pub(crate) struct RecordInserts {
    /// For records that are all plain.
    pub(crate) plain: Insert,
    /// For all other records.
    pub(crate) any: Insert,
    /// The same two, which are refused outside a transaction. `None` if the server cannot tell, or if a
    /// transaction that failed stays open until its owner ends it.
    pub(crate) guarded: Option<(Insert, Insert)>,
    /// For one plain record whose INSERT is its own commit. Nothing is written if it would not be.
    pub(crate) lone_plain: Insert,
    /// The same for any other record.
    pub(crate) lone_any: Insert,
}

/// A change of some records, which the database chooses.
///
/// ```text
///   direct:  change, with the condition inside it
///   by keys: find ─ keys ─▶ change ─ only the records that still meet the condition
/// ```
#[derive(Debug)]
pub(crate) struct Change {
    /// Reads the keys of the records to be changed. `None` if one statement can do both without locks that other
    /// sessions would wait for.
    pub(crate) find: Option<Statement>,
    /// Changes the records; with `find` by their keys.
    pub(crate) change: Statement,
}

/// The way in which a database takes one record of a parked topic as a probe: the record becomes pending, with
/// a lease.
///
/// | database | way | because |
/// | --- | --- | --- |
/// | PostgreSQL | returning | it locks one record, passes over locked ones, and returns the record |
/// | SQLite | checked | an UPDATE takes the lock of the only writer, also if it finds nothing |
/// | MySQL, MariaDB | steps | an UPDATE returns no rows there |
#[derive(Debug)]
#[cfg_attr(
    not(all(feature = "postgres", feature = "mysql", feature = "sqlite")),
    allow(dead_code)
)]
pub(crate) enum Probe {
    /// By one statement.
    Returning(Statement),
    /// By one statement, once it is known that there is a record.
    Checked { any: Statement, lease: Statement },
    /// By one statement after the other, each its own transaction.
    Steps {
        find: Statement,
        lease: Statement,
        read: Statement,
    },
}

impl Change {
    /// A change by one statement.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    fn direct(change: Statement) -> Self {
        Self { find: None, change }
    }

    /// A change by keys that are read first.
    #[cfg(feature = "mysql")]
    fn by_ids(find: Statement, change: Statement) -> Self {
        Self {
            find: Some(find),
            change,
        }
    }
}

impl Statements {
    /// The statements for a service's outbox on a server. `None` in a build without that database.
    #[allow(unreachable_patterns, reason = "a build may have fewer databases")]
    pub(crate) fn new(dialect: Dialect, server: Server, service: &ServiceName) -> Option<Self> {
        match dialect {
            #[cfg(feature = "postgres")]
            Dialect::Postgres => Some(postgres::statements(server, service)),
            #[cfg(feature = "mysql")]
            Dialect::MySql => Some(mysql::statements(server, service)),
            #[cfg(feature = "sqlite")]
            Dialect::Sqlite => Some(sqlite::statements(server, service)),
            _ => {
                let _ = (server, service);
                None
            }
        }
    }
}

/// The statements with which each session of the outbox's own pool begins, after those of the driver.
#[allow(unreachable_patterns, reason = "a build may have fewer databases")]
pub(crate) fn session(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        #[cfg(feature = "postgres")]
        Dialect::Postgres => postgres::SESSION,
        #[cfg(feature = "mysql")]
        Dialect::MySql => mysql::SESSION,
        #[cfg(feature = "sqlite")]
        Dialect::Sqlite => sqlite::SESSION,
        _ => &[],
    }
}

impl fmt::Debug for Statements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statements")
            .field("table", &self.table)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}
