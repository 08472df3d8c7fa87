//! The outbox table as one bus sees it: its own pool, its statements, its name as an owner.

use std::{
    fmt,
    time::{Duration, Instant},
};

use sqlx::Pool;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::{
    Claimed, NewRecord, Position, Record,
    claims::{self, Claim},
};
use crate::{
    Error, OutboxDatabase,
    counter::Counter,
    database::{DbResult, renewable::RenewablePool},
    names::ServiceName,
};

/// How long the database may take to answer. It gives up waiting for a lock in less, so that what was
/// asked in vain does not pile up there.
const ANSWER: Duration = Duration::from_secs(15);

/// One service's outbox.
pub(crate) struct Store<DB: OutboxDatabase> {
    /// The relay's own: busy writers must not starve the ackers, nor the ackers the writers.
    relay: RenewablePool<DB>,
    statements: OnceCell<DB::Statements>,
    /// Who claims: new for each bus, so that a restarted process does not take its dead
    /// predecessor's leases for its own.
    owner: Uuid,
    lease: Duration,
}

/// How records are put back after an answer that was no proof.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PutBack {
    pub(crate) wait: Duration,
    pub(crate) error: String,
    pub(crate) fault: bool,
}

impl<DB: OutboxDatabase> Store<DB> {
    pub(crate) fn new(caller: Pool<DB>, lease: Duration) -> Self {
        Self {
            relay: RenewablePool::new(caller, DB::relay_pool),
            statements: OnceCell::new(),
            owner: Uuid::now_v7(),
            lease,
        }
    }

    /// The caller's pool.
    pub(crate) fn caller(&self) -> &Pool<DB> {
        self.relay.caller()
    }

    /// The relay's own pool.
    pub(crate) fn relay(&self) -> Pool<DB> {
        self.relay.get()
    }

    /// The statements, with the table's name qualified once: a `search_path` or `USE` of the caller
    /// must not redirect the INSERT.
    pub(crate) async fn statements(&self, service: &ServiceName) -> Result<&DB::Statements, Error> {
        self.statements
            .get_or_try_init(|| async { DB::locate(&self.relay(), service).await })
            .await
            .map_err(Error::database("looking up the schema of the outbox"))
    }

    /// A lease that begins now: what the table is told, and until when we may rely on it.
    ///
    /// Taken before the statement is sent, so that ours ends first.
    pub(crate) fn new_lease(&self) -> ((Uuid, Duration), Instant) {
        ((self.owner, self.lease), Instant::now() + self.lease)
    }

    pub(crate) fn lease(&self) -> Duration {
        self.lease
    }

    pub(crate) fn owner(&self) -> Uuid {
        self.owner
    }

    /// Closes the relay's own pool.
    pub(crate) async fn close(&self) {
        if !DB::lives_in_pool(self.caller()) {
            self.relay.close().await;
        }
    }

    /// Inserts records into the caller's transaction.
    pub(crate) async fn insert(
        &self,
        conn: &mut DB::Connection,
        service: &ServiceName,
        records: &[NewRecord<'_>],
    ) -> Result<(), Error> {
        let statements = self.statements(service).await?;
        DB::insert(conn, statements, records, true)
            .await
            .map_err(|error| Self::explain(statements, error, "writing messages to the outbox"))
    }

    /// Turns the driver's error into one that tells what to do.
    pub(crate) fn explain(
        statements: &DB::Statements,
        error: sqlx::Error,
        doing: &'static str,
    ) -> Error {
        if DB::is_missing_table(&error) {
            Error::MissingTable {
                table: DB::table(statements).to_owned(),
            }
        } else if DB::is_not_in_transaction(&error) {
            Error::NotInTransaction
        } else {
            Error::Database {
                doing,
                source: error,
            }
        }
    }
}

/// The relay's statements. They are called only after `start` has located the table.
///
/// Each has a limit, because a server whose machine is gone never answers.
pub(crate) struct Table<'a, DB: OutboxDatabase> {
    store: &'a Store<DB>,
    statements: &'a DB::Statements,
    owner: Uuid,
    lease: Duration,
}

impl<DB: OutboxDatabase> Store<DB> {
    /// The table, if its schema has been looked up.
    pub(crate) fn table(&self) -> DbResult<Table<'_, DB>> {
        // Before `start` has located it there is no relay to ask, so this is only for the type.
        let statements = self.statements.get().ok_or(sqlx::Error::PoolClosed)?;
        Ok(Table {
            store: self,
            statements,
            owner: self.owner,
            lease: self.lease,
        })
    }
}

impl<DB: OutboxDatabase> Table<'_, DB> {
    async fn within<T>(&self, statement: impl Future<Output = DbResult<T>>) -> DbResult<T> {
        self.store.relay.within(ANSWER, statement).await
    }

    pub(crate) async fn claim(
        &self,
        after: Option<Position>,
        limit: u32,
        asked: &Counter,
    ) -> DbResult<Option<Claim>> {
        self.within(claims::claim::<DB>(
            &self.store.relay(),
            self.statements,
            after,
            limit,
            self.owner,
            self.lease,
            asked,
        ))
        .await
    }

    pub(crate) async fn read(&self, claim: &Claim) -> DbResult<Vec<Claimed>> {
        self.within(claims::read::<DB>(
            &self.store.relay(),
            self.statements,
            claim,
        ))
        .await
    }

    pub(crate) async fn finish(&self, claims: &[i64]) -> DbResult<u64> {
        self.within(DB::finish(
            &self.store.relay(),
            self.statements,
            claims,
            self.owner,
        ))
        .await
    }

    pub(crate) async fn claim_parked(&self, topic: &str) -> DbResult<Option<Record>> {
        self.within(DB::claim_parked(
            &self.store.relay(),
            self.statements,
            topic,
            self.owner,
            self.lease,
        ))
        .await
    }

    pub(crate) async fn next_due(&self) -> DbResult<Option<Duration>> {
        self.within(DB::next_due(&self.store.relay(), self.statements))
            .await
    }

    pub(crate) async fn parked_topics(&self, limit: u32) -> DbResult<Vec<String>> {
        self.within(DB::parked_topics(
            &self.store.relay(),
            self.statements,
            limit,
        ))
        .await
    }

    /// Removes what the broker has proven to hold; keeps it, marked, where records are retained.
    pub(crate) async fn ack(&self, ids: &[Uuid], keep: bool) -> DbResult<u64> {
        if keep {
            self.within(DB::mark_acked(&self.store.relay(), self.statements, ids))
                .await
        } else {
            self.within(DB::delete(&self.store.relay(), self.statements, ids))
                .await
        }
    }

    pub(crate) async fn renew(&self, ids: &[Uuid]) -> DbResult<u64> {
        self.within(DB::renew(
            &self.store.relay(),
            self.statements,
            ids,
            self.owner,
            self.lease,
        ))
        .await
    }

    pub(crate) async fn release(&self, ids: &[Uuid], wait: Duration) -> DbResult<u64> {
        self.within(DB::release(
            &self.store.relay(),
            self.statements,
            ids,
            self.owner,
            wait,
        ))
        .await
    }

    pub(crate) async fn put_back(&self, ids: &[Uuid], how: &PutBack) -> DbResult<u64> {
        let PutBack { wait, error, fault } = how;
        self.within(DB::put_back(
            &self.store.relay(),
            self.statements,
            ids,
            self.owner,
            *wait,
            error,
            *fault,
        ))
        .await
    }

    pub(crate) async fn park(&self, ids: &[Uuid], error: &str) -> DbResult<u64> {
        self.within(DB::park(
            &self.store.relay(),
            self.statements,
            ids,
            self.owner,
            error,
        ))
        .await
    }

    pub(crate) async fn unpark(&self, topic: &str, limit: u32) -> DbResult<u64> {
        self.within(DB::unpark(
            &self.store.relay(),
            self.statements,
            topic,
            limit,
        ))
        .await
    }

    pub(crate) async fn fail(&self, ids: &[Uuid], error: &str) -> DbResult<u64> {
        self.within(DB::fail(
            &self.store.relay(),
            self.statements,
            ids,
            self.owner,
            error,
        ))
        .await
    }

    pub(crate) async fn purge_acked(&self, age: Duration, limit: u32) -> DbResult<u64> {
        self.within(DB::purge_acked(
            &self.store.relay(),
            self.statements,
            age,
            limit,
        ))
        .await
    }
}

impl<DB: OutboxDatabase> fmt::Debug for Store<DB> {
    /// Without the pools: their options hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("owner", &self.owner)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
