//! The table in which messages wait between the caller's COMMIT and the broker's confirm.
//!
//! [`OutboxDatabase`] is the least a database must be able to do; `postgres`, `mysql` and `sqlite` do
//! it, each in files of the same names. SQL stays inside them. Times are the database's running
//! clock, never the time a transaction began, and never ours.

// First, because macros are seen only by what follows.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
#[macro_use]
mod dialect;

#[cfg_attr(
    not(any(feature = "postgres", feature = "mysql", feature = "sqlite")),
    allow(dead_code)
)]
pub(crate) mod claims;
#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
mod record;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
mod row;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
mod schema;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
pub(crate) mod store;
#[cfg(all(test, feature = "postgres", feature = "mysql", feature = "sqlite"))]
mod tests;

use std::{fmt, future::Future, time::Duration};

use sqlx::{Pool, Transaction, pool::PoolConnection};
use uuid::Uuid;

use self::claims::{Claims, Due, Gap, Stretch};
pub(crate) use self::record::{Backlog, Claimed, NewRecord, Position, Record};
pub use self::record::{FailedRecord, Status};
use crate::{Error, database::DbResult, names::ServiceName};

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// Connections of the relay's own pool: ackers, the scanner that claims and gives back at once, and
/// one for what a person asks.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
const RELAY_CONNECTIONS: u32 = 4;

/// How long the relay waits for a connection before it counts that as a failure. sqlx tries a server
/// that refuses connections again at a growing part of this, so it also bounds how late the relay
/// notices that the server is back.
#[cfg(any(feature = "postgres", feature = "mysql"))]
const RELAY_PATIENCE: Duration = Duration::from_secs(3);

/// What a message of its own is written on.
#[cfg_attr(
    not(all(feature = "postgres", feature = "mysql", feature = "sqlite")),
    allow(dead_code)
)]
pub(crate) enum Alone<DB: Dialect> {
    /// A connection, where the INSERT itself finds out whether it commits:
    /// [`insert_alone`](Dialect::insert_alone).
    Connection(PoolConnection<DB>),
    /// A transaction, where no INSERT can.
    Transaction(Transaction<'static, DB>),
    /// Nothing: the pool's connection has a transaction open that is not ours to end.
    Taken,
}

/// The databases an outbox can live in: `sqlx::Postgres`, `sqlx::MySql` (also MariaDB) and
/// `sqlx::Sqlite`, each behind the cargo feature of its name.
///
/// Sealed: its methods are the bus's own and change with it.
#[allow(private_bounds)]
pub trait OutboxDatabase:
    sqlx::Database + sealed::Sealed + Dialect + crate::log::LogDatabase
{
}

/// What the bus asks of a database. Every method is one statement or one short transaction on a
/// connection of the relay's own pool, except [`begin`](Self::begin) and [`insert`](Self::insert).
#[doc(hidden)]
#[allow(private_interfaces, private_bounds)]
pub trait Dialect: sqlx::Database {
    /// The statements of one outbox, with its schema-qualified name filled in once.
    type Statements: fmt::Debug + Send + Sync + 'static;

    /// Begins a transaction of the caller's. IMMEDIATE on SQLite: a deferred one that reads first
    /// and writes later fails at once when somebody else wrote in between.
    fn begin(
        pool: &Pool<Self>,
    ) -> impl Future<Output = DbResult<Transaction<'static, Self>>> + Send;

    /// Makes the relay's own pool from the caller's: few connections, READ COMMITTED, no ping
    /// before use. Connects lazily. The caller's own where [`lives_in_pool`](Self::lives_in_pool).
    fn relay_pool(pool: &Pool<Self>) -> Pool<Self>;

    /// Whether the database exists only in the connections of its pool (SQLite's `:memory:`).
    fn lives_in_pool(pool: &Pool<Self>) -> bool;

    /// Finds the schema the table lives in, and what server this is.
    fn locate(
        relay: &Pool<Self>,
        service: &ServiceName,
    ) -> impl Future<Output = DbResult<Self::Statements>> + Send;

    /// The table's schema-qualified name, for messages.
    fn table(statements: &Self::Statements) -> &str;

    /// Whether the error says that the outbox table is missing.
    fn is_missing_table(error: &sqlx::Error) -> bool;

    /// Whether the error is the guard's: the INSERT ran outside a transaction (MariaDB).
    fn is_not_in_transaction(error: &sqlx::Error) -> bool;

    /// Whether an error from COMMIT proves that nothing was committed.
    ///
    /// True only for the server's own answer (a deferred constraint, a serialization failure). A
    /// lost connection or a server that is going down proves nothing.
    fn is_surely_rolled_back(error: &sqlx::Error) -> bool;

    /// Inserts the records, in as few statements as the limits allow: 1,000 rows and 4 MiB each.
    ///
    /// With `in_transaction`, refuses where the connection is not in one (MariaDB can tell).
    fn insert(
        conn: &mut Self::Connection,
        statements: &Self::Statements,
        records: &[NewRecord<'_>],
        in_transaction: bool,
    ) -> impl Future<Output = DbResult<()>> + Send;

    /// Takes a connection of the caller's pool for a message of its own.
    ///
    /// What the pool lends is not always a connection that commits each statement: a `BEGIN` of
    /// somebody's may have stayed open, a hook may have begun a transaction, and on MySQL a session may
    /// say `autocommit = 0`.
    fn alone(
        caller: &Pool<Self>,
        statements: &Self::Statements,
    ) -> impl Future<Output = DbResult<Alone<Self>>> + Send;

    /// Inserts one record by a statement that is its own commit.
    ///
    /// False, and nothing is written, where the connection has a transaction open or does not commit
    /// by itself. The statement finds out by itself, so that there is no round trip more.
    fn insert_alone(
        conn: &mut Self::Connection,
        statements: &Self::Statements,
        record: &NewRecord<'_>,
    ) -> impl Future<Output = DbResult<bool>> + Send;

    /// Makes sure that a transaction to be committed is still there. Asked where no INSERT of ours comes
    /// right before the COMMIT; `flushed` says that one came earlier.
    fn confirm_open(
        conn: &mut Self::Connection,
        statements: &Self::Statements,
        flushed: bool,
    ) -> impl Future<Output = DbResult<bool>> + Send;

    /// Which claims there are.
    fn claims(
        relay: &Pool<Self>,
        statements: &Self::Statements,
    ) -> impl Future<Output = DbResult<Claims>> + Send;

    /// Where up to `limit` due pending records in the gap stand, and their payloads' bytes. Those that
    /// another session has locked are passed over.
    ///
    /// Without the payloads: its locks last until the answer is sent, which a process that has stopped
    /// must not draw out.
    fn look(
        relay: &Pool<Self>,
        statements: &Self::Statements,
        gap: Gap,
        limit: u32,
    ) -> impl Future<Output = DbResult<Vec<Due>>> + Send;

    /// Writes a claim, with the number that follows upon `last`. False if there is one after `last`.
    fn reserve(
        relay: &Pool<Self>,
        statements: &Self::Statements,
        last: i64,
        owner: Uuid,
        lease: Duration,
        stretch: Stretch,
    ) -> impl Future<Output = DbResult<bool>> + Send;

    /// The pending records of a stretch, in order, not more than `most`. Locks none.
    fn read(
        relay: &Pool<Self>,
        statements: &Self::Statements,
        stretch: Stretch,
        most: u32,
    ) -> impl Future<Output = DbResult<Vec<Claimed>>> + Send;

    /// Ends claims of `owner`: what is left of them is due.
    fn finish(
        relay: &Pool<Self>,
        statements: &Self::Statements,
        numbers: &[i64],
        owner: Uuid,
    ) -> impl Future<Output = DbResult<u64>> + Send;

    /// Deletes claims up to this number that have ended.
    fn forget(
        relay: &Pool<Self>,
        statements: &Self::Statements,
        number: i64,
    ) -> impl Future<Output = DbResult<u64>> + Send;

    /// Claims one unroutable record of the topic, as a probe. It becomes pending, leased to `owner`.
    fn claim_parked(
        relay: &Pool<Self>,
        statements: &Self::Statements,
        topic: &str,
        owner: Uuid,
        lease: Duration,
    ) -> impl Future<Output = DbResult<Option<Record>>> + Send;

    /// How long until the earliest pending record is due that nobody has claimed, or a claim runs out:
    /// zero if one is, `None` if there is none.
    fn next_due(
        relay: &Pool<Self>,
        statements: &Self::Statements,
    ) -> impl Future<Output = DbResult<Option<Duration>>> + Send;

    /// Up to `limit` topics that have unroutable records.
    fn parked_topics(
        relay: &Pool<Self>,
        statements: &Self::Statements,
        limit: u32,
    ) -> impl Future<Output = DbResult<Vec<String>>> + Send;

    /// Removes records the broker has proven to hold, or whose time to live is over. Not fenced: the
    /// proof holds whoever has the lease now. Returns how many there were.
    fn delete(
        relay: &Pool<Self>,
        statements: &Self::Statements,
        ids: &[Uuid],
    ) -> impl Future<Output = DbResult<u64>> + Send;

    /// Like [`delete`](Self::delete), but keeps them, marked as acked.
    fn mark_acked(
        relay: &Pool<Self>,
        statements: &Self::Statements,
        ids: &[Uuid],
    ) -> impl Future<Output = DbResult<u64>> + Send;

    /// Extends the leases of records that `owner` still has and that are pending. Each is then leased by
    /// itself, whatever becomes of the claim it came with. What has run out is not renewed.
    fn renew(
        relay: &Pool<Self>,
        statements: &Self::Statements,
        ids: &[Uuid],
        owner: Uuid,
        lease: Duration,
    ) -> impl Future<Output = DbResult<u64>> + Send;

    /// Makes records that `owner` still has due after `wait`, unclaimed, attempts unchanged.
    fn release(
        relay: &Pool<Self>,
        statements: &Self::Statements,
        ids: &[Uuid],
        owner: Uuid,
        wait: Duration,
    ) -> impl Future<Output = DbResult<u64>> + Send;

    /// Counts an attempt (and a fault, if `fault`) and makes the records due after `wait`.
    #[allow(clippy::too_many_arguments)]
    fn put_back(
        relay: &Pool<Self>,
        statements: &Self::Statements,
        ids: &[Uuid],
        owner: Uuid,
        wait: Duration,
        error: &str,
        fault: bool,
    ) -> impl Future<Output = DbResult<u64>> + Send;

    /// Makes records of `owner` unroutable: out of the way of the others until their topic is released.
    /// Counts an attempt.
    fn park(
        relay: &Pool<Self>,
        statements: &Self::Statements,
        ids: &[Uuid],
        owner: Uuid,
        error: &str,
    ) -> impl Future<Output = DbResult<u64>> + Send;

    /// Makes up to `limit` unroutable records of the topic pending and due. Returns how many.
    fn unpark(
        relay: &Pool<Self>,
        statements: &Self::Statements,
        topic: &str,
        limit: u32,
    ) -> impl Future<Output = DbResult<u64>> + Send;

    /// Marks records of `owner` as failed: they can never be sent as they are. Counts an attempt.
    fn fail(
        relay: &Pool<Self>,
        statements: &Self::Statements,
        ids: &[Uuid],
        owner: Uuid,
        error: &str,
    ) -> impl Future<Output = DbResult<u64>> + Send;

    /// Up to `limit` failed records, oldest first.
    fn failed(
        relay: &Pool<Self>,
        statements: &Self::Statements,
        limit: u32,
    ) -> impl Future<Output = DbResult<Vec<FailedRecord>>> + Send;

    /// Makes failed records pending and due again, attempts and faults at zero: those with the ids,
    /// or up to 500 of them. Returns how many.
    fn retry_failed(
        relay: &Pool<Self>,
        statements: &Self::Statements,
        ids: Option<&[Uuid]>,
    ) -> impl Future<Output = DbResult<u64>> + Send;

    /// Counts what is in the table.
    fn backlog(
        relay: &Pool<Self>,
        statements: &Self::Statements,
    ) -> impl Future<Output = DbResult<Backlog>> + Send;

    /// Deletes up to `limit` acked records that are older than `age`. Returns how many.
    fn purge_acked(
        relay: &Pool<Self>,
        statements: &Self::Statements,
        age: Duration,
        limit: u32,
    ) -> impl Future<Output = DbResult<u64>> + Send;

    /// Whether somebody other than `owner` has a live lease on a record.
    fn has_other_leases(
        relay: &Pool<Self>,
        statements: &Self::Statements,
        owner: Uuid,
    ) -> impl Future<Output = DbResult<bool>> + Send;

    /// Deletes all records.
    fn purge_all(
        relay: &Pool<Self>,
        statements: &Self::Statements,
    ) -> impl Future<Output = DbResult<u64>> + Send;

    /// Brings the table to this release's version, under a lock, so that several instances can start
    /// at once. Does nothing where it is there already.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignTable`] if the table belongs to another service or to something else.
    fn migrate(
        relay: &Pool<Self>,
        service: &ServiceName,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The same as SQL text, for those who run migrations by hand.
    fn migration_sql(service: &ServiceName) -> String;

    /// A lock that lasts as long as the value, shared with [`migrate`](Self::migrate), which must
    /// not be called while it is held.
    fn startup_lock(
        relay: &Pool<Self>,
        service: &ServiceName,
    ) -> impl Future<Output = DbResult<StartupLock<Self>>> + Send
    where
        Self: Sized;
}

/// Holds the startup lock. Dropping it ends it, with its connection or transaction.
#[doc(hidden)]
pub enum StartupLock<DB: sqlx::Database> {
    /// Held by an open transaction.
    Transaction(Transaction<'static, DB>),
    /// Held by a session; the connection is closed and not reused.
    Session(DB::Connection),
    /// There is nothing to hold: the database has one writer at a time anyway.
    None,
}

impl<DB: sqlx::Database> fmt::Debug for StartupLock<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StartupLock")
    }
}
