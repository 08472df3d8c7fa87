//! What the log says to each database in its own words. All other SQL of the log is written once.

#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use sqlx::SqlStr;

use super::schema::Types;
use crate::database::{Dialect, Driver, Server, Templates};

/// What the databases say each in its own way.
#[derive(Debug)]
pub(crate) struct LogWords {
    /// Whether sequence numbers become visible in their order, because there is one writer at a time.
    pub(crate) gapless: bool,
    /// What each session of the log's own pool begins with.
    pub(crate) session: &'static [&'static str],
    /// How it calls the types of columns.
    pub(crate) types: Types,
    /// Makes a commit wait for the disk where the session does not.
    pub(crate) durable: Option<&'static str>,
    /// Sends a text to every process that listens.
    pub(crate) notify: Option<&'static str>,
    /// Locks rows, and fails at once where a transaction has one, committed or not.
    pub(crate) no_wait: Option<&'static str>,
    /// After a DELETE of rows that are known: goes by the key, and stops behind so many. The row behind
    /// them may be a transaction's that has not ended.
    pub(crate) only: Option<&'static str>,
    /// Has constraints and triggers that wait for the COMMIT tell at each statement, for the transaction.
    pub(crate) strict: Option<&'static str>,
    /// Bounds how long an INSERT waits for another transaction's, for the transaction.
    pub(crate) impatient: Option<&'static str>,
    /// The last sequence number a table has given out, by its qualified name; NULL where the role may not
    /// know.
    last_number: fn(&str) -> String,
    /// Makes the next sequence number of a table, by its qualified name, higher than `highest`: from the last
    /// one. Where a database counts by the rows, a row does it.
    raise_number: Option<fn(table: &str, last: i64, highest: i64) -> String>,
}

/// The log's words of a database.
pub(crate) fn words<DB: Driver>() -> &'static LogWords {
    of(DB::DIALECT)
}

#[allow(unreachable_patterns, reason = "a build may have fewer databases")]
fn of(dialect: Dialect) -> &'static LogWords {
    match dialect {
        #[cfg(feature = "postgres")]
        Dialect::Postgres => &postgres::WORDS,
        #[cfg(feature = "mysql")]
        Dialect::MySql => &mysql::WORDS,
        #[cfg(feature = "sqlite")]
        Dialect::Sqlite => &sqlite::WORDS,
        _ => &NONE,
    }
}

/// In a build without a database, for the types only.
const NONE: LogWords = LogWords {
    gapless: true,
    session: &[],
    types: Types {
        serial: "",
        small: "",
        moving: "",
        still: "",
        busy: "",
        inline_index: false,
        schema: "",
    },
    durable: None,
    notify: None,
    no_wait: None,
    only: None,
    strict: None,
    impatient: None,
    last_number: |_| String::new(),
    raise_number: None,
};

/// The statements of the log in one schema.
///
/// In a template `{log}`, `{lanes}`, … are the tables `final_log`, `final_log_lanes`, …; `{message}` is the
/// columns of a message, and `{last_number}` and `{last_scheduled}` are the last sequence numbers that the
/// log and the table of scheduled messages have given out.
#[derive(Debug)]
pub(crate) struct Texts {
    words: &'static LogWords,
    schema: String,
    templates: Templates,
}

/// The tables beside the log, each `final_log_…`.
const TABLES: [&str; 8] = [
    "scheduled",
    "groups",
    "topics",
    "lanes",
    "members",
    "dead",
    "watermarks",
    "state",
];

/// The columns of a message, in the log and wherever it is kept besides.
pub(crate) const MESSAGE: &str =
    "message_id, topic, message_key, headers, payload, content_type, durable, lane, weight";

impl Texts {
    pub(crate) fn new(dialect: Dialect, server: &Server) -> Self {
        let words = of(dialect);
        let schema = server.schema.clone();
        let table = |name: &str| qualified(&schema, name);
        let mut names: Vec<(&str, String)> = TABLES.map(|name| (name, table(name))).into();
        names.extend([
            ("log", table("")),
            ("message", MESSAGE.to_owned()),
            ("last_number", (words.last_number)(&table(""))),
            ("last_scheduled", (words.last_number)(&table("scheduled"))),
        ]);
        Self {
            words,
            templates: Templates::new(dialect, names),
            schema,
        }
    }

    /// The text of a template.
    pub(crate) fn sql(&self, template: &str) -> SqlStr {
        self.templates.sql(template)
    }

    /// The qualified name of one of our tables; `""` is the log.
    pub(crate) fn table(&self, name: &str) -> String {
        qualified(&self.schema, name)
    }

    /// A statement that makes its next sequence number higher than `highest`, if that is how the database
    /// does it.
    pub(crate) fn raise_number(&self, table: &str, last: i64, highest: i64) -> Option<String> {
        let raise = self.words.raise_number?;
        Some(raise(&self.table(table), last, highest))
    }
}

fn qualified(schema: &str, name: &str) -> String {
    match name {
        "" => format!("{schema}final_log"),
        name => format!("{schema}final_log_{name}"),
    }
}
