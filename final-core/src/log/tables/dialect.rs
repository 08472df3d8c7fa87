//! What the log says to each database in its own words. All other SQL of the log is written once.
//!
//! Input: the dialect of a database, and what its server has said about itself. Output: [`LogWords`], and the
//! rendered [`Texts`] of the statements.

#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use sqlx::SqlStr;

use crate::database::{Dialect, Driver, Server, Templates};

/// What each database says in its own way. `None` means that the database has no such words, or needs none.
///
/// | | PostgreSQL | MySQL, MariaDB | SQLite |
/// | --- | --- | --- | --- |
/// | `gapless` | no | no | yes |
/// | `durable` | `synchronous_commit = on` | | |
/// | `notify` | `pg_notify` | | |
/// | `no_wait` | | `FOR UPDATE NOWAIT` | |
/// | `only` | | `ORDER BY seq LIMIT ?` | |
/// | `strict` | `SET CONSTRAINTS ALL IMMEDIATE` | | |
/// | `impatient` | `lock_timeout` | | |
/// | `raise_number` | `nextval`, `setval` | by a row | by a row |
#[derive(Debug)]
pub(crate) struct LogWords {
    /// Whether sequence numbers become visible in their order, because there is one writer at a time.
    pub(crate) gapless: bool,
    /// Statements with which each connection of the log's own pool begins.
    pub(crate) session: &'static [&'static str],
    /// The names of its column types.
    pub(crate) types: Types,
    /// Makes a commit wait for the disk, if the connection does not by itself.
    pub(crate) durable: Option<&'static str>,
    /// Sends a text to every process that listens.
    pub(crate) notify: Option<&'static str>,
    /// Locks rows, and fails at once if a transaction, committed or not, has one of them.
    pub(crate) no_wait: Option<&'static str>,
    /// After a DELETE of known rows: it goes by the key, and stops after so many. The next row may be one of an
    /// open transaction, which the DELETE would wait for.
    pub(crate) only: Option<&'static str>,
    /// Makes constraints and triggers that wait for the COMMIT act at each statement, for this transaction.
    pub(crate) strict: Option<&'static str>,
    /// Bounds how long an INSERT waits for that of another transaction, for this transaction.
    pub(crate) impatient: Option<&'static str>,
    /// The last sequence number that a table has allocated, by its qualified name. NULL if the role may
    /// not read the sequence.
    last_number: fn(&str) -> String,
    /// Raises the sequence of a table, by its qualified name, from `last` to above `highest`. `None` for a database
    /// that counts by the rows: there an inserted row raises it.
    raise_number: Option<fn(table: &str, last: i64, highest: i64) -> String>,
}

/// Column types that only the log uses. The others are the dialect's [`Words`](crate::database::Words).
#[derive(Debug)]
pub(crate) struct Types {
    /// A 64-bit number that counts up by itself and is the primary key.
    pub(crate) serial: &'static str,
    /// A small whole number.
    pub(crate) small: &'static str,
    /// Follows the columns of a table that grows at its end and shrinks at its beginning.
    pub(crate) moving: &'static str,
    /// Follows the columns of any other table.
    pub(crate) still: &'static str,
    /// Follows the columns of a small table whose rows change all the time.
    pub(crate) busy: &'static str,
    /// Whether an index is created with its table, because there is no `CREATE INDEX IF NOT EXISTS`.
    pub(crate) inline_index: bool,
    /// Before the names.
    pub(crate) schema: &'static str,
}

/// The words of a database.
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

/// For a build without a database, which uses the types only.
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
/// log and the table of scheduled messages have allocated.
#[derive(Debug)]
pub(crate) struct Texts {
    /// What the dialect says in its own way.
    words: &'static LogWords,
    /// The schema of the tables, quoted and with its dot.
    schema: String,
    /// Templates with the qualified names of the tables, and the texts that were made of them.
    templates: Templates,
}

/// The tables beside the log, each `final_log_…`.
pub(crate) const TABLES: [&str; 9] = [
    "scheduled",
    "groups",
    "topics",
    "lanes",
    "members",
    "dead",
    "held",
    "watermarks",
    "state",
];

/// The columns of a message, in the log and in every other table that keeps messages.
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

    /// The qualified name of a table of the log. `""` is the log itself.
    pub(crate) fn table(&self, name: &str) -> String {
        qualified(&self.schema, name)
    }

    /// The statement that raises the sequence of a table above `highest`, if the database has one.
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
