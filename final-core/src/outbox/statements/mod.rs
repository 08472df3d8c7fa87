//! The SQL of one outbox, with the table's name filled in once.
//!
//! Input: the server, and the service the table belongs to. Output: one [`Statement`] for each thing the
//! outbox asks. The three databases say each in their own words, because they differ for measured reasons
//! (how a claim locks, how a row is found by its id); their values have the same names, so that each is
//! called in one place.

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
};

/// The columns of a record that is plain, as `publish(topic, &value)` makes it, and how many of them are
/// parameters. What such a record does not have is left out, and what is the same for all stands in the text:
/// most records are plain, and each parameter costs.
const PLAIN: (&str, usize) = (
    "message_id, topic, payload, available_at, claimed_by, content_type, durable, status, due_at, \
     created_at",
    5,
);

/// The columns of any record, and how many of them are parameters.
const ANY: (&str, usize) = (
    "message_id, topic, message_key, headers, payload, content_type, durable, expires_at, status, \
     due_at, available_at, claimed_by, created_at",
    12,
);

/// All statements of one outbox.
pub(crate) struct Statements {
    /// The table's name with its schema, quoted.
    pub(crate) table: String,
    pub(crate) server: Server,
    pub(crate) inserts: RecordInserts,
    /// The highest claim's number, with each live claim.
    pub(crate) claims: Statement,
    /// What is due between two positions.
    pub(crate) look: Statement,
    /// Writes a claim, unless its number is taken.
    pub(crate) reserve: Statement,
    /// The records of a claim.
    pub(crate) read: Statement,
    /// Ends claims.
    pub(crate) finish: Statement,
    /// Deletes claims that have ended.
    pub(crate) forget: Statement,
    pub(crate) probe: Probe,
    pub(crate) next_due: Statement,
    pub(crate) parked_topics: Statement,
    pub(crate) delete: Statement,
    pub(crate) mark_acked: Statement,
    pub(crate) renew: Statement,
    pub(crate) release: Statement,
    pub(crate) put_back: Statement,
    pub(crate) park: Statement,
    pub(crate) unpark: Change,
    pub(crate) fail: Statement,
    pub(crate) failed: Statement,
    pub(crate) retry_failed: Statement,
    pub(crate) retry_some_failed: Change,
    pub(crate) backlog: Statement,
    pub(crate) purge_acked: Change,
    pub(crate) purge_all: Change,
    pub(crate) has_other_leases: Statement,
}

/// The INSERTs of records.
#[derive(Debug)]
pub(crate) struct RecordInserts {
    pub(crate) plain: Insert,
    pub(crate) any: Insert,
    /// The same two, refused where the connection is in no transaction; where a server can tell.
    pub(crate) guarded: Option<(Insert, Insert)>,
    /// For one record whose INSERT is its own commit: nothing is written where it would not be.
    pub(crate) lone_plain: Insert,
    pub(crate) lone_any: Insert,
}

/// Changes some records, which the database chooses.
#[derive(Debug)]
pub(crate) struct Change {
    /// Reads the ids of those to be changed, where one statement cannot do both without locks that others
    /// wait for.
    pub(crate) find: Option<Statement>,
    pub(crate) change: Statement,
}

/// Takes one record of a parked topic as a probe.
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
    /// By one statement.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    fn direct(change: Statement) -> Self {
        Self { find: None, change }
    }

    /// By ids that are read before.
    #[cfg(feature = "mysql")]
    fn by_ids(find: Statement, change: Statement) -> Self {
        Self {
            find: Some(find),
            change,
        }
    }
}

impl Statements {
    /// The statements for a service's outbox on a server.
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

/// What each session of the outbox's own pool begins with.
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
