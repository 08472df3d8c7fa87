//! The floor under outbox and log: what they ask of a database, written once.
//!
//! Input: a pool of the caller's. Output: connections and pools of our own to the same database, statements
//! that run on all three databases, and rows read into types. A [`Driver`] is one database; outbox and log
//! keep their own SQL, as [`Templates`]. Each [`Dialect`] fills its own words into a template.
//!
//! Public for the crates of this workspace that own tables on three databases. **It may change in any
//! release**: services need nothing of it.

pub(crate) mod advice;
pub(crate) mod batch;
mod dialect;
pub(crate) mod fitting;
pub(crate) mod insert;
mod keyset;
mod lease;
pub(crate) mod limits;
pub(crate) mod lists;
mod lock;
#[cfg_attr(not(any(feature = "postgres", feature = "mysql")), allow(dead_code))]
pub(crate) mod lone;
mod migrations;
#[cfg(feature = "mysql")]
mod mysql;
mod owned;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod pragmas;
pub(crate) mod refused;
pub(crate) mod removal;
pub(crate) mod renewable;
mod row;
#[cfg(feature = "sqlite")]
mod sqlite;
pub(crate) mod statement;
pub(crate) mod stored;
mod template;
mod value;
pub(crate) mod writers;

use std::{future::Future, time::Duration};

use futures::future::BoxFuture;
use sqlx::{Pool, SqlStr, Transaction, pool::PoolConnection};

pub use self::{
    dialect::{Dialect, Words},
    keyset::after,
    lease::Leases,
    lock::MigrationLock,
    migrations::{Tables, migrate},
    renewable::ANSWER,
    row::{Column, FromCell, FromRow, Kind, Row},
    template::Templates,
    value::Value,
    writers::Writers,
};
pub use crate::__database_columns as columns;

/// A result of the database.
pub type DbResult<T> = Result<T, sqlx::Error>;

#[cfg(all(test, feature = "mysql"))]
pub(crate) use self::mysql::begin_session;

pub(crate) use self::migrations::{
    are_transactional, create_versions, name_setting, not_transactional,
};

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// The table in which every service of a schema writes down the versions of its tables.
pub(crate) const MIGRATIONS: &str = "final_migrations";

/// How long one instance waits for another one's migration.
pub(crate) const LOCK_SECONDS: u32 = 60;

/// How long a pool of ours waits for a connection before it counts that as a failure. sqlx tries a server
/// that refuses connections again at a growing part of this, so it also bounds how late we notice that the
/// server is back.
///
/// Where the borrowed connection turns out to be silent, the wait for its sign of life comes on top. A session of ours
/// begins with about ten statements, which take longer than two seconds on a machine that is busy.
#[cfg(any(feature = "postgres", feature = "mysql"))]
const POOL_PATIENCE: Duration = renewable::PING.saturating_add(Duration::from_secs(3));

/// A database: PostgreSQL, MySQL and MariaDB, or SQLite, each behind the cargo feature of its name.
///
/// Sealed: there are these three. All futures are safe to drop, unless the method says something else.
pub trait Driver: sqlx::Database + sealed::Sealed {
    /// The SQL that it speaks.
    const DIALECT: Dialect;

    /// Begins a transaction: IMMEDIATE on SQLite, because a deferred one that reads first and writes later
    /// fails at once when another connection wrote in between. It is never cut off half-way: dropped, the
    /// transaction is rolled back.
    ///
    /// # Errors
    ///
    /// Fails if the pool or the database does.
    fn begin(
        pool: &Pool<Self>,
    ) -> impl Future<Output = DbResult<Transaction<'static, Self>>> + Send;

    /// Begins a transaction whose COMMIT waits for the disk, whatever the session says, in one question and answer.
    ///
    /// # Errors
    ///
    /// Fails if the pool or the database does.
    fn begin_durable(
        pool: &Pool<Self>,
    ) -> impl Future<Output = DbResult<Transaction<'static, Self>>> + Send {
        Self::begin(pool)
    }

    /// Begins a transaction that does not wait for the lock yet, before its writer's turn. None where a writer has no
    /// turn to wait for.
    fn begin_early(
        _: Pool<Self>,
    ) -> Option<BoxFuture<'static, DbResult<Transaction<'static, Self>>>> {
        None
    }

    /// Makes of such a transaction what [`begin`](Self::begin) begins.
    ///
    /// # Errors
    ///
    /// Fails if the database does. The transaction is over then.
    fn take_lock(
        tx: Transaction<'static, Self>,
    ) -> impl Future<Output = DbResult<Transaction<'static, Self>>> + Send {
        std::future::ready(Ok(tx))
    }

    /// A pool of our own to the caller's database, with the caller's connect options and without its hooks.
    /// Each of its sessions begins with what all of ours need and with these statements. Connects lazily.
    /// The caller's own pool where the database [lives in it](Self::lives_in_pool).
    fn own_pool(
        caller: &Pool<Self>,
        connections: u32,
        session: &'static [&'static str],
    ) -> Pool<Self>;

    /// Whether the database can only be reached by the connections of its pool: SQLite's `:memory:`, and a file that a
    /// connection keeps for itself (`locking_mode = EXCLUSIVE`).
    fn lives_in_pool(pool: &Pool<Self>) -> bool;

    /// Which database this is: the same text for all pools of one database, and another one for each other
    /// database. Has no password.
    fn place(pool: &Pool<Self>) -> String;

    /// The line of those in this process that write to the database: one line for all pools of the same one, where it
    /// has one writer at a time.
    fn writers(_: &Pool<Self>) -> Writers {
        Writers::default()
    }

    /// What server this is, and in which schema tables are made.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or if no schema is selected.
    fn server(conn: &mut Self::Connection) -> impl Future<Output = DbResult<Server>> + Send;

    /// The number by which the server knows the session that answers. Nothing is prepared for it, so it also works
    /// where a pooler gives each transaction another session. 0 where the database has no sessions.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    fn session(conn: &mut Self::Connection) -> impl Future<Output = DbResult<i64>> + Send;

    /// Runs a statement, and returns how many rows it changed.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    fn run_sql(
        conn: &mut Self::Connection,
        sql: &SqlStr,
        values: &[Value<'_>],
    ) -> impl Future<Output = DbResult<u64>> + Send;

    /// Runs a statement that gives rows. Takes these columns of each row.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or if the result has no column of a name.
    fn read_sql(
        conn: &mut Self::Connection,
        sql: &SqlStr,
        values: &[Value<'_>],
        columns: &'static [Column],
    ) -> impl Future<Output = DbResult<Vec<Row>>> + Send;

    /// Reads rows by a statement that may look at very many, on a connection of a pool of ours. The server ends it after
    /// the limit, so nothing goes on there once it was given up here. It changes nothing and waits for no row.
    ///
    /// # Errors
    ///
    /// Fails if the pool or the database does, and with an error that [is that end](Self::is_cut_off).
    fn read_within(
        pool: Pool<Self>,
        limit: Duration,
        sql: SqlStr,
        values: Vec<Value<'static>>,
        columns: &'static [Column],
    ) -> impl Future<Output = DbResult<Vec<Row>>> + Send;

    /// Whether the error says that the server has ended a statement because its time was over.
    fn is_cut_off(error: &sqlx::Error) -> bool;

    /// The names of a table's columns; none if there is no such table in the selected schema.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    fn columns(
        conn: &mut Self::Connection,
        table: &str,
    ) -> impl Future<Output = DbResult<Vec<String>>> + Send;

    /// Takes the lock of the schema under which tables are made. One lock for all services in it: the table
    /// of versions is theirs together, and two CREATE TABLE IF NOT EXISTS at once can collide.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or if another instance has held the lock for a minute.
    fn lock_migrations(
        pool: &Pool<Self>,
    ) -> impl Future<Output = DbResult<MigrationLock<Self>>> + Send
    where
        Self: Sized;

    /// Listens to a channel, on a connection of the pool, until the connection is lost: calls `heard` with
    /// an empty text once it listens, and with the text of each notice. Never ends where the database sends
    /// no notices.
    ///
    /// # Errors
    ///
    /// Ends with the error of the connection.
    fn listen(
        pool: &Pool<Self>,
        channel: &str,
        heard: impl Fn(&str) + Send + Sync,
    ) -> impl Future<Output = DbResult<()>> + Send;

    /// Takes a connection of the caller's pool for a statement that is to be its own commit.
    ///
    /// A pool does not always lend a connection that commits each statement: a `BEGIN` may have stayed open,
    /// a hook may have begun a transaction, and on MySQL a session may say `autocommit = 0`.
    ///
    /// # Errors
    ///
    /// Fails if the pool or the database does.
    fn lone(
        caller: &Pool<Self>,
        server: &Server,
    ) -> impl Future<Output = DbResult<Lone<Self>>> + Send
    where
        Self: Sized;

    /// The same before the writer's turn. None where it has no turn to wait for.
    fn lone_early(_: Pool<Self>) -> Option<BoxFuture<'static, DbResult<Lone<Self>>>> {
        None
    }

    /// Makes sure that a transaction to be committed is still there. Asked where no INSERT of ours comes
    /// right before the COMMIT; `flushed` says that one came earlier.
    ///
    /// # Errors
    ///
    /// Fails if the database does; on PostgreSQL also if an earlier statement has failed.
    fn is_open(
        conn: &mut Self::Connection,
        server: &Server,
        flushed: bool,
    ) -> impl Future<Output = DbResult<bool>> + Send;

    /// Whether the error says that a table with this in its name is missing, or its schema.
    fn is_missing_table(error: &sqlx::Error, name: &str) -> bool;

    /// Whether an error from COMMIT proves that nothing was committed.
    ///
    /// True only for the server's own answer (a deferred constraint, a serialization failure). A lost
    /// connection or a server that is going down proves nothing.
    fn is_surely_rolled_back(error: &sqlx::Error) -> bool;

    /// Whether the statement was the victim of a deadlock, so that sending it again is all there is to do.
    fn is_deadlock(error: &sqlx::Error) -> bool;

    /// Whether the statement has waited for a lock until the server's limit for that was over.
    fn is_lock_timeout(_: &sqlx::Error) -> bool {
        false
    }

    /// Whether the error says that the connection is of no more use, and that a new one may be: its server takes no
    /// writes, as after a switch-over, or is no longer the one that the session was begun on.
    fn must_reconnect(error: &sqlx::Error) -> bool;

    /// Whether the statement has waited for another writer until its time was over.
    fn is_busy(_: &sqlx::Error) -> bool {
        false
    }

    /// Whether an INSERT that is to be its own commit was refused because it would not have been.
    fn is_not_alone(error: &sqlx::Error) -> bool;
}

/// What a server has said about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Server {
    /// The schema in which tables are made, quoted and with its dot. A `search_path` or `USE` of the caller
    /// must not redirect a statement.
    pub schema: String,
    /// Whether it says `@@in_transaction` (MariaDB).
    pub tells_transactions: bool,
    /// Whether a commit can become visible before it is on the disk.
    pub shows_early: bool,
    /// Whether an INSERT can give what it has written (`RETURNING`).
    pub returns: bool,
    /// How many bytes one statement may have with its values, where the server has a limit of its own.
    pub packet: Option<usize>,
}

/// What a statement that is to be its own commit is run on.
#[derive(Debug)]
#[cfg_attr(
    not(all(feature = "postgres", feature = "mysql", feature = "sqlite")),
    allow(dead_code)
)]
pub enum Lone<DB: sqlx::Database> {
    /// A connection, where the INSERT itself finds out whether it commits.
    Connection(PoolConnection<DB>),
    /// A transaction, where no INSERT can.
    Transaction(Transaction<'static, DB>),
    /// Nothing: the pool's connection has a transaction open that is not ours to end.
    Taken,
}

/// Runs a statement that gives rows, and reads them.
///
/// # Errors
///
/// Fails if the database does, or if a row cannot be read as `T`.
pub async fn read<DB: Driver, T: FromRow>(
    conn: &mut DB::Connection,
    sql: &SqlStr,
    values: &[Value<'_>],
) -> DbResult<Vec<T>> {
    let rows = DB::read_sql(conn, sql, values, T::COLUMNS).await?;
    rows.into_iter()
        .map(|mut row| T::from_row(&mut row))
        .collect()
}

/// What failed, or the cause of an error that says only that the database was locked.
pub(crate) fn doing<DB: Driver>(error: &sqlx::Error, doing: &'static str) -> &'static str {
    match DB::is_busy(error) {
        true => BUSY_DOING,
        false => doing,
    }
}

/// What a writer was doing that had no turn.
const BUSY_DOING: &str = "waiting for another transaction on the same SQLite database to end; a task that has one \
    open itself publishes in it, by `TxBus::publish` or `Bus::publish_in`";

/// Whether the database's error has this part in its text.
pub(crate) fn says(error: &sqlx::Error, part: &str) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.message().contains(part))
}

/// For databases that wait for locks by themselves.
#[cfg(any(feature = "postgres", feature = "mysql"))]
#[derive(Debug, Default)]
struct NoPatience;

#[cfg(any(feature = "postgres", feature = "mysql"))]
impl NoPatience {
    #[allow(clippy::unused_async, reason = "SQLite's waits")]
    async fn again(&mut self, _: &sqlx::Error) -> bool {
        false
    }
}

/// Implements what is the same for all drivers but for their types, and for what they do about a lock.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
macro_rules! run_and_rows {
    ($patience:ty) => {
        async fn run_sql(
            conn: &mut Self::Connection,
            sql: &SqlStr,
            values: &[Value<'_>],
        ) -> DbResult<u64> {
            let mut patience = <$patience>::default();
            loop {
                match bound(sql.clone(), values).execute(&mut *conn).await {
                    Err(error) if patience.again(&error).await => {}
                    done => return Ok(done?.rows_affected()),
                }
            }
        }

        async fn read_sql(
            conn: &mut Self::Connection,
            sql: &SqlStr,
            values: &[Value<'_>],
            columns: &'static [Column],
        ) -> DbResult<Vec<Row>> {
            use sqlx::Column as _;
            use $crate::database::{
                Kind,
                row::{Cell, places},
            };
            let mut patience = <$patience>::default();
            let rows = loop {
                match bound(sql.clone(), values).fetch_all(&mut *conn).await {
                    Err(error) if patience.again(&error).await => {}
                    read => break read?,
                }
            };
            let Some(first) = rows.first() else {
                return Ok(Vec::new());
            };
            let names: Vec<&str> = first.columns().iter().map(|column| column.name()).collect();
            let places = places(columns, &names)?;
            let cell = |row: &<Self as sqlx::Database>::Row, at: usize, kind: Kind| {
                let cell = match kind {
                    Kind::Int => row.try_get(at).map(Cell::Int),
                    Kind::Bool => row.try_get(at).map(Cell::Bool),
                    Kind::Text => row.try_get(at).map(Cell::Text),
                    Kind::Bytes => row.try_get(at).map(Cell::Bytes),
                    Kind::Id => row.try_get(at).map(Cell::Id),
                };
                cell.unwrap_or_else(|error| Cell::Unreadable(error.to_string()))
            };
            let read = |row| {
                let cells = columns.iter().zip(&places);
                Row::new(
                    cells
                        .map(|(column, at)| cell(row, *at, column.kind))
                        .collect(),
                )
            };
            Ok(rows.iter().map(read).collect())
        }
    };
}
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
use run_and_rows;
