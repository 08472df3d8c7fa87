//! The little that the log asks of a driver, so that everything else is written once.

use std::{fmt, future::Future};

use sqlx::{Database, Pool, SqlStr};
use uuid::Uuid;

use super::texts::Words;
use crate::{broker::Staged, database::DbResult};

/// What a statement is given.
#[derive(Clone, Debug)]
pub enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Vec<u8>),
    Id(Option<Uuid>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<Uuid> for Value {
    fn from(value: Uuid) -> Self {
        Self::Id(Some(value))
    }
}

/// What a statement gives.
#[derive(Debug)]
pub(crate) enum Cell {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    Id(Option<Uuid>),
}

/// What a column is read as.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Int,
    Text,
    Bytes,
    Id,
}

/// A row, read from the left to the right.
pub struct Row(std::vec::IntoIter<Cell>);

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Row")
    }
}

impl Row {
    pub(crate) fn new(cells: Vec<Cell>) -> Self {
        Self(cells.into_iter())
    }

    fn next(&mut self, wanted: &str) -> DbResult<Cell> {
        self.0
            .next()
            .ok_or_else(|| sqlx::Error::ColumnNotFound(wanted.to_owned()))
    }

    pub(crate) fn maybe_int(&mut self) -> DbResult<Option<i64>> {
        match self.next("a number")? {
            Cell::Int(value) => Ok(value),
            other => Err(unexpected(&other)),
        }
    }

    /// A number; 0 for NULL.
    pub(crate) fn int(&mut self) -> DbResult<i64> {
        Ok(self.maybe_int()?.unwrap_or(0))
    }

    pub(crate) fn maybe_text(&mut self) -> DbResult<Option<String>> {
        match self.next("a text")? {
            Cell::Text(value) => Ok(value),
            other => Err(unexpected(&other)),
        }
    }

    /// A text; empty for NULL.
    pub(crate) fn text(&mut self) -> DbResult<String> {
        Ok(self.maybe_text()?.unwrap_or_default())
    }

    pub(crate) fn maybe_bytes(&mut self) -> DbResult<Option<Vec<u8>>> {
        match self.next("bytes")? {
            Cell::Bytes(value) => Ok(value),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) fn maybe_id(&mut self) -> DbResult<Option<Uuid>> {
        match self.next("an id")? {
            Cell::Id(value) => Ok(value),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(cell: &Cell) -> sqlx::Error {
    sqlx::Error::Decode(format!("a column of another kind than asked for: {cell:?}").into())
}

/// A database the log can live in.
#[doc(hidden)]
#[allow(private_interfaces)]
pub trait LogDatabase: Database {
    /// How it says what others say otherwise.
    const LOG_WORDS: Words;

    /// How it calls the types of columns.
    const LOG_TYPES: super::schema::Types;

    /// A pool of the log's own. What it writes can be repeated, so it need not wait for the disk.
    fn log_pool(pool: &Pool<Self>) -> Pool<Self>;

    /// What tells one database from another: the same for pools of the same one. Has no password.
    fn log_place(pool: &Pool<Self>) -> String;

    /// The schema the tables are in, quoted and with its dot.
    fn log_schema(conn: &mut Self::Connection) -> impl Future<Output = DbResult<String>> + Send;

    /// Whether the server says `@@in_transaction` (MariaDB).
    fn log_tells_transactions(
        conn: &mut Self::Connection,
    ) -> impl Future<Output = DbResult<bool>> + Send;

    /// Whether a commit can show before the server has written it to the disk.
    fn log_shows_early(conn: &mut Self::Connection) -> impl Future<Output = DbResult<bool>> + Send;

    /// Runs a statement, and says how many rows it found.
    fn log_run(
        conn: &mut Self::Connection,
        sql: SqlStr,
        values: Vec<Value>,
    ) -> impl Future<Output = DbResult<u64>> + Send;

    /// Runs a statement that gives rows.
    fn log_rows(
        conn: &mut Self::Connection,
        sql: SqlStr,
        values: Vec<Value>,
        kinds: &'static [Kind],
    ) -> impl Future<Output = DbResult<Vec<Row>>> + Send;

    /// Inserts messages that are all due at once, or all to be scheduled.
    fn log_append(
        conn: &mut Self::Connection,
        inserts: &super::texts::Inserts,
        staged: &[&Staged],
    ) -> impl Future<Output = DbResult<()>> + Send;

    /// Inserts one message by a statement that is its own commit. False, and nothing is written, where it
    /// would not be, or where no statement can tell.
    fn log_append_alone(
        conn: &mut Self::Connection,
        inserts: &super::texts::Inserts,
        staged: &Staged,
    ) -> impl Future<Output = DbResult<bool>> + Send;

    /// Tells other processes that there is something new, where the database can.
    fn log_listen(
        pool: &Pool<Self>,
        heard: impl Fn(&str) + Send + Sync,
    ) -> impl Future<Output = DbResult<()>> + Send;
}

/// For databases that wait for locks by themselves.
#[cfg(any(feature = "postgres", feature = "mysql"))]
#[derive(Debug, Default)]
pub(crate) struct NoPatience;

#[cfg(any(feature = "postgres", feature = "mysql"))]
impl NoPatience {
    #[allow(clippy::unused_async, reason = "SQLite's waits")]
    pub(crate) async fn again(&mut self, _: &sqlx::Error) -> bool {
        false
    }
}

/// Implements what is the same but for its types, and for what it does about a lock.
macro_rules! run_and_rows {
    ($patience:expr) => {
        async fn log_run(
            conn: &mut Self::Connection,
            sql: sqlx::SqlStr,
            values: Vec<$crate::log::tables::database::Value>,
        ) -> DbResult<u64> {
            let mut patience = $patience;
            loop {
                match bound(sql.clone(), values.clone()).execute(&mut *conn).await {
                    Err(error) if patience.again(&error).await => {}
                    done => return Ok(done?.rows_affected()),
                }
            }
        }

        async fn log_rows(
            conn: &mut Self::Connection,
            sql: sqlx::SqlStr,
            values: Vec<$crate::log::tables::database::Value>,
            kinds: &'static [$crate::log::tables::database::Kind],
        ) -> DbResult<Vec<$crate::log::tables::database::Row>> {
            use sqlx::Row as _;
            use $crate::log::tables::database::{Cell, Kind, Row};
            let mut patience = $patience;
            let rows = loop {
                match bound(sql.clone(), values.clone())
                    .fetch_all(&mut *conn)
                    .await
                {
                    Err(error) if patience.again(&error).await => {}
                    read => break read?,
                }
            };
            let read = |row: &<Self as sqlx::Database>::Row| {
                let cells = kinds.iter().enumerate().map(|(at, kind)| {
                    Ok(match kind {
                        Kind::Int => Cell::Int(row.try_get(at)?),
                        Kind::Text => Cell::Text(row.try_get(at)?),
                        Kind::Bytes => Cell::Bytes(row.try_get(at)?),
                        Kind::Id => Cell::Id(row.try_get(at)?),
                    })
                });
                Ok(Row::new(cells.collect::<DbResult<_>>()?))
            };
            rows.iter().map(read).collect()
        }
    };
}
pub(crate) use run_and_rows;

/// Makes the query with its values; beside the implementation, since the types differ.
macro_rules! bound {
    ($database:ty) => {
        fn bound(
            sql: sqlx::SqlStr,
            values: Vec<$crate::log::tables::database::Value>,
        ) -> sqlx::query::Query<'static, $database, <$database as sqlx::Database>::Arguments> {
            use $crate::log::tables::database::Value;
            values
                .into_iter()
                .fold(sqlx::query(sql), |query, value| match value {
                    Value::Int(value) => query.bind(value),
                    Value::Text(value) => query.bind(value),
                    Value::Bytes(value) => query.bind(value),
                    Value::Id(value) => query.bind(value),
                })
        }
    };
}
pub(crate) use bound;
