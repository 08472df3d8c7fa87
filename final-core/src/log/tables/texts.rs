//! SQL that every database understands, once its own words are filled in.

use std::{fmt::Write, sync::Arc};

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::entry::Entry;
use crate::{
    database::inserts::{Inserts as Rows, Pieces},
    message::MSGPACK,
};

/// What the databases say each in its own way.
#[derive(Debug)]
pub struct Words {
    /// Whether placeholders are numbered.
    pub(crate) numbered: bool,
    /// Whether numbers show in their order, because there is one writer at a time.
    pub(crate) gapless: bool,
    /// The running clock, in microseconds since 1970, as a 64-bit number.
    pub(crate) now: &'static str,
    /// The type a whole number is cast to.
    pub(crate) int: &'static str,
    /// Lets others read a row and not change it.
    pub(crate) share: &'static str,
    /// Locks a row.
    pub(crate) lock: &'static str,
    /// Locks rows, and passes over those that are locked.
    pub(crate) skip_locked: &'static str,
    /// Before `INTO`, where a row that is there already is left alone; and after everything.
    pub(crate) insert: &'static str,
    pub(crate) nothing: &'static str,
    /// Makes a commit wait for the disk where the session does not.
    pub(crate) durable: Option<&'static str>,
    /// Sends a text to everybody who listens.
    pub(crate) notify: Option<&'static str>,
    /// The INSERT of any number of rows, for a table, and the clock.
    pub(crate) many: Option<fn(&str, Kind, &str) -> String>,
    /// Locks rows, and fails at once where a transaction has one, committed or not.
    pub(crate) no_wait: Option<&'static str>,
    /// After a DELETE of rows that are known: goes by the key, and stops behind so many. The row behind
    /// them may be a transaction's that has not ended.
    pub(crate) only: Option<&'static str>,
    /// Has constraints and triggers that wait for the COMMIT tell at each statement, for the transaction.
    pub(crate) strict: Option<&'static str>,
    /// Bounds how long an INSERT waits for another transaction's, for the transaction.
    pub(crate) impatient: Option<&'static str>,
    /// The last number a table has given out, by its qualified name; NULL where the role may not know.
    pub(crate) last_number: fn(&str) -> String,
    /// Makes the next number of a table, by its qualified name, higher than `highest`: from the last
    /// one. Where a database counts by the rows, a row does it.
    pub(crate) raise_number: Option<fn(table: &str, last: i64, highest: i64) -> String>,
    /// How an INSERT of one row finds out whether it is its own commit.
    pub(crate) alone: Alone,
}

/// How an INSERT of one row writes nothing where it would not commit by itself.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(all(feature = "mysql", feature = "postgres", feature = "sqlite")),
    allow(dead_code)
)]
pub(crate) enum Alone {
    /// By what comes behind its values.
    Where(&'static str),
    /// By a lane that is refused, made of the one it is given.
    Lane(fn(&str) -> String),
    /// It cannot.
    Never,
}

/// The columns of a message, in the log and wherever it is kept besides.
pub(crate) const MESSAGE: &str =
    "message_id, topic, message_key, headers, payload, content_type, durable, lane, weight";

/// Those of a message that is plain, as `publish(topic, &value)` makes it; what it does not have is
/// left out, and what is the same for all stands in the text.
pub(crate) const PLAIN: &str =
    "message_id, topic, payload, lane, weight, content_type, durable, created_at";

/// Which messages an INSERT is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Any,
    /// With the time when it is due.
    Scheduled,
}

/// The statements for INSERTs inside a caller's transaction, made once.
#[derive(Debug)]
#[cfg_attr(not(any(feature = "mysql", feature = "sqlite")), allow(dead_code))]
pub struct Inserts {
    rows: Rows,
    guarded: Rows,
    /// Where the database has arrays.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))]
    pub(crate) plain: OneOrMany,
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))]
    pub(crate) any: OneOrMany,
    /// For one row that is its own commit: a plain one, and any.
    #[cfg_attr(not(any(feature = "mysql", feature = "postgres")), allow(dead_code))]
    pub(crate) alone: [SqlStr; 2],
    scheduled: bool,
    /// Whether the server says whether a transaction is open.
    #[cfg_attr(not(any(feature = "mysql", feature = "sqlite")), allow(dead_code))]
    pub(crate) tells_transactions: bool,
}

/// A statement for one row, and one for any number of rows.
#[derive(Debug)]
#[cfg_attr(not(feature = "postgres"), allow(dead_code))]
pub(crate) struct OneOrMany {
    pub(crate) one: SqlStr,
    pub(crate) many: SqlStr,
}

/// Fills words and names into texts.
#[derive(Debug)]
pub(crate) struct Texts {
    words: &'static Words,
    schema: String,
}

impl Texts {
    pub(crate) fn new(words: &'static Words, schema: String) -> Self {
        Self { words, schema }
    }

    /// The qualified name of one of our tables.
    pub(crate) fn table(&self, name: &str) -> String {
        format!("{}final_log{name}", self.schema)
    }

    /// The last number that one of our tables has given out, as SQL.
    fn last_number(&self, table: &str) -> String {
        (self.words.last_number)(&self.numbered(table))
    }

    /// A statement that makes its next number higher than `highest`, if that is how the database does it.
    pub(crate) fn raise_number(&self, table: &str, last: i64, highest: i64) -> Option<String> {
        let raise = self.words.raise_number?;
        Some(raise(&self.numbered(table), last, highest))
    }

    /// The name of a table with numbers; `""` is the log.
    fn numbered(&self, table: &str) -> String {
        match table {
            "" => self.table(""),
            table => self.table(&format!("_{table}")),
        }
    }

    /// Replaces `{log}`, `{groups}`, … by tables, other words in braces by the dialect's, and `?` by
    /// its placeholders.
    pub(crate) fn sql(&self, template: &str) -> SqlStr {
        let mut text = String::with_capacity(template.len() * 2);
        let (mut rest, mut placeholders) = (template, 0);
        while let Some(at) = rest.find(['{', '?']) {
            text.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix('?') {
                placeholders += 1;
                if self.words.numbered {
                    let _ = write!(text, "${placeholders}");
                } else {
                    text.push('?');
                }
                rest = after;
                continue;
            }
            let end = rest.find('}').unwrap_or(rest.len() - 1);
            text.push_str(&self.word(&rest[1..end]));
            rest = &rest[end + 1..];
        }
        text.push_str(rest);
        AssertSqlSafe(Arc::<str>::from(text)).into_sql_str()
    }

    fn word(&self, word: &str) -> String {
        match word {
            "now" => self.words.now.to_owned(),
            "int" => self.words.int.to_owned(),
            "share" => self.words.share.to_owned(),
            "lock" => self.words.lock.to_owned(),
            "skip_locked" => self.words.skip_locked.to_owned(),
            "insert" => self.words.insert.to_owned(),
            "nothing" => self.words.nothing.to_owned(),
            "message" => MESSAGE.to_owned(),
            "last_number" => self.last_number(""),
            "last_scheduled" => self.last_number("scheduled"),
            "log" => self.table(""),
            table => self.table(&format!("_{table}")),
        }
    }
}

/// `?, ?, ?`, as many as there are.
pub(crate) fn list(number: usize) -> String {
    let mut text = "?, ".repeat(number);
    text.truncate(text.len().saturating_sub(2));
    text
}

/// A list that is filled up with its last, so that there are few texts in the statement cache.
pub(crate) fn padded<T: Copy>(items: &[T]) -> Vec<T> {
    const SIZES: [usize; 5] = [1, 4, 16, 64, 512];
    let size = SIZES.into_iter().find(|size| *size >= items.len());
    let mut padded = items.to_vec();
    if let (Some(size), Some(last)) = (size, items.last()) {
        padded.resize(size, *last);
    }
    padded
}

impl Inserts {
    pub(crate) fn new(texts: &Texts, scheduled: bool, tells_transactions: bool) -> Self {
        let table = texts.table(if scheduled { "_scheduled" } else { "" });
        let kind = if scheduled {
            Kind::Scheduled
        } else {
            Kind::Any
        };
        let now = texts.words.now;
        let arrays = |kind| {
            let (into, row) = insert(&table, kind, now, "?");
            let one = texts.sql(&format!("{into} VALUES ({row})"));
            let many = texts.words.many.map(|many| many(&table, kind, now));
            OneOrMany {
                many: many.map_or(one.clone(), |many| AssertSqlSafe(many).into_sql_str()),
                one,
            }
        };
        let rows = |lane| {
            let pieces = |kind| {
                let (into, row) = insert(&table, kind, now, lane);
                Pieces::of_rows(&format!("{into} VALUES "), &format!("({row})"))
            };
            Rows {
                plain: pieces(Kind::Plain),
                any: pieces(kind),
            }
        };
        let alone = |kind| match texts.words.alone {
            Alone::Where(condition) => {
                let (into, row) = insert(&table, kind, now, "?");
                texts.sql(&format!("{into} SELECT {row} {condition}"))
            }
            Alone::Lane(lane) => {
                let (into, row) = insert(&table, kind, now, &lane("?"));
                texts.sql(&format!("{into} VALUES ({row})"))
            }
            Alone::Never => SqlStr::from_static(""),
        };
        Self {
            rows: rows("?"),
            guarded: rows(GUARDED),
            alone: [alone(Kind::Plain), alone(kind)],
            plain: arrays(Kind::Plain),
            any: arrays(kind),
            scheduled,
            tells_transactions,
        }
    }

    /// Which of the INSERTs these rows take.
    pub(crate) fn kind(&self, rows: &[Entry<'_>]) -> Kind {
        if self.scheduled {
            Kind::Scheduled
        } else if rows.iter().all(Entry::is_plain) {
            Kind::Plain
        } else {
            Kind::Any
        }
    }

    /// The INSERT of a row that is its own commit, and which it is.
    #[cfg_attr(not(any(feature = "mysql", feature = "postgres")), allow(dead_code))]
    pub(crate) fn alone(&self, row: &Entry<'_>) -> (Kind, SqlStr) {
        let kind = self.kind(std::slice::from_ref(row));
        let [plain, any] = &self.alone;
        match kind {
            Kind::Plain => (kind, plain.clone()),
            Kind::Any | Kind::Scheduled => (kind, any.clone()),
        }
    }

    /// The INSERTs for any number of rows.
    #[cfg_attr(not(any(feature = "mysql", feature = "sqlite")), allow(dead_code))]
    pub(crate) fn pieces(&self, kind: Kind) -> &Pieces {
        let rows = if self.tells_transactions {
            &self.guarded
        } else {
            &self.rows
        };
        match kind {
            Kind::Plain => &rows.plain,
            Kind::Any | Kind::Scheduled => &rows.any,
        }
    }
}

/// The lane outside a transaction is one that the table's CHECK refuses: a deadlock ends the transaction at
/// once, and a closure that goes on would otherwise publish alone.
const GUARDED: &str = "IF(@@in_transaction, ?, -1)";

/// The beginning of an INSERT, and the values of one row.
fn insert(table: &str, kind: Kind, now: &str, lane: &str) -> (String, String) {
    let any = format!("?, ?, ?, ?, ?, ?, ?, {lane}, ?, {now} + ?, {now}");
    let (columns, row) = match kind {
        Kind::Plain => (
            PLAIN.to_owned(),
            format!("?, ?, ?, {lane}, ?, '{MSGPACK}', 1, {now}"),
        ),
        Kind::Any => (format!("{MESSAGE}, expires_at, created_at"), any),
        Kind::Scheduled => (
            format!("{MESSAGE}, expires_at, created_at, due_at"),
            format!("{any}, {now} + ?"),
        ),
    };
    (format!("INSERT INTO {table} ({columns})"), row)
}
