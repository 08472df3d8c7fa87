//! The one door to a service's outbox.
//!
//! Input: the caller's pool, the service's name, and the length of a lease. State: a pool of our own, and the
//! rendered statements, made once the server has said what it is. Output: records that are written on the
//! caller's connections, and a [`Table`] for everything else.
//!
//! The relay works on a pool of its own. So busy writers do not take connections from the ackers, nor ackers
//! from the writers.

use std::{
    fmt,
    time::{Duration, Instant},
};

use sqlx::{Connection, Pool, SqlSafeStr, Transaction};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::{
    OutboxDatabase,
    insert::{insert, insert_alone},
    migrate::{is_current, migrate},
    record::NewRecord,
    schema,
    statements::{Statements, session},
    table::Table,
};
use crate::{
    Error,
    database::{
        DbResult, Dialect, Driver, Lone, MigrationLock, Server, Writers,
        lone::is_not_in_transaction,
        renewable::{ANSWER, MIGRATION, PoolOwner, RenewablePool, no_answer},
        writers::{Early, Writing},
    },
    names::ServiceName,
};

/// A connection for one message that is its own commit, taken before the writer's turn.
pub(crate) type LoneEarly<DB> = Early<DB, DbResult<Lone<DB>>>;

/// Connections of our own pool: for the ackers, for the scanner, which claims and releases at the same time,
/// and one for what an operator asks.
const CONNECTIONS: u32 = 4;

/// Makes the COMMIT wait for the disk, also where the role or the server says otherwise.
pub(crate) const DURABLE: &str = "SET LOCAL synchronous_commit = on";

/// One service's outbox, as one bus uses it.
///
/// ```text
///   new ─▶ nothing is asked yet ── the first use: which server, which schema? ──▶ located ── close ──▶ closed
///               ▲       └ that failed: each use asks again ┘
/// ```
pub(crate) struct Outbox<DB: OutboxDatabase> {
    /// The service's name as it was given. It may be invalid.
    name: String,
    /// `None` if the name is invalid. Each use then fails with the reason.
    service: Option<ServiceName>,
    pub(super) pool: RenewablePool<DB>,
    /// All SQL of this outbox, once the server and the schema are known.
    statements: OnceCell<Statements>,
    /// The owner of this bus's leases. It is new for each bus, so that a restarted process does not take the
    /// leases of its dead predecessor for its own.
    owner: Uuid,
    lease: Duration,
}

impl<DB: OutboxDatabase> Outbox<DB> {
    /// The outbox of a service in the database of the caller's pool. Nothing is connected until it is used.
    pub(crate) fn new(name: String, caller: Pool<DB>, lease: Duration) -> Self {
        Self {
            service: ServiceName::new(&name).ok(),
            name,
            pool: RenewablePool::new(caller, PoolOwner::Outbox, own_pool),
            statements: OnceCell::new(),
            owner: Uuid::now_v7(),
            lease,
        }
    }

    /// The service.
    ///
    /// # Errors
    ///
    /// Fails if the given name is not a valid name of a service.
    pub(crate) fn service(&self) -> Result<&ServiceName, Error> {
        match &self.service {
            Some(service) => Ok(service),
            // Checked again for the error, which tells the reason.
            None => Err(ServiceName::new(&self.name)
                .err()
                .unwrap_or(Error::NotStarted)),
        }
    }

    /// The caller's pool.
    pub(crate) fn caller(&self) -> &Pool<DB> {
        self.pool.caller()
    }

    /// Our own pool as it is now.
    pub(crate) fn own_pool(&self) -> Pool<DB> {
        self.pool.get()
    }

    /// How long a record or claim stays with a process that no longer renews it.
    pub(crate) fn lease(&self) -> Duration {
        self.lease
    }

    /// A lease that begins now: its owner and length, for the table, and its end, for this process.
    ///
    /// Take it before the statement is sent. Then the lease ends here before it ends in the table.
    pub(crate) fn new_lease(&self) -> ((Uuid, Duration), Instant) {
        ((self.owner, self.lease), Instant::now() + self.lease)
    }

    /// How many statements of our own were not answered in time.
    pub(crate) fn give_ups(&self) -> u64 {
        self.pool.give_ups()
    }

    /// Asks the database for a sign of life, for which it has `limit`.
    pub(crate) async fn ping(&self, limit: Duration) -> DbResult<()> {
        let asked = async { self.pool.get().acquire().await?.ping().await };
        tokio::time::timeout(limit, asked)
            .await
            .unwrap_or_else(|_| Err(no_answer(limit)))
    }

    /// Whether the database took no writes when that was noticed last.
    pub(crate) fn is_read_only(&self) -> bool {
        self.pool.is_read_only()
    }

    /// Closes our own pool. The pool of a database in memory is the caller's, and stays open.
    pub(crate) async fn close(&self) {
        if !DB::lives_in_pool(self.caller()) {
            self.pool.close().await;
        }
    }

    /// The table. The first call asks the server what it is and which schema it uses; later calls ask nothing.
    pub(crate) async fn located(&self) -> Result<Table<'_, DB>, Error> {
        let service = self.service()?;
        let statements = self.statements.get_or_try_init(|| self.locate(service));
        let statements = statements
            .await
            .map_err(Error::database("looking up the schema of the outbox"))?;
        Ok(self.table_with(statements))
    }

    /// Asks the server, and renders the statements for it.
    async fn locate(&self, service: &ServiceName) -> DbResult<Statements> {
        let server = self.pool.within(ANSWER, async {
            DB::server(&mut *self.pool.get().acquire().await?).await
        });
        let statements = Statements::new(DB::DIALECT, server.await?, service);
        // Without the feature of a database there is neither its driver nor its statements. So this error
        // cannot come.
        statements.ok_or(sqlx::Error::WorkerCrashed)
    }

    /// The table, for the relay, which is started only after the schema has been looked up.
    pub(crate) fn table(&self) -> DbResult<Table<'_, DB>> {
        let statements = self.statements.get().ok_or(sqlx::Error::PoolClosed)?;
        Ok(self.table_with(statements))
    }

    /// The table, once its statements are known.
    fn table_with<'a>(&'a self, statements: &'a Statements) -> Table<'a, DB> {
        Table {
            pool: &self.pool,
            statements,
            owner: self.owner,
            lease: self.lease,
        }
    }

    /// The line of those that write to this database.
    pub(crate) fn writers(&self) -> &Writers {
        self.pool.writers()
    }

    /// Begins a transaction on the caller's pool.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, DB>, Error> {
        let began = self.writers().begin(self.caller()).await;
        began.map_err(database::<DB>("beginning a transaction"))
    }

    /// Begins a transaction on our own pool, for a message that no connection of the caller's can commit by
    /// itself.
    pub(crate) async fn begin_elsewhere(
        &self,
    ) -> Result<(Transaction<'static, DB>, Writing), Error> {
        // The connection would come from the caller's pool again, with its open transaction.
        if DB::lives_in_pool(self.caller()) {
            return Err(Error::OpenTransaction);
        }
        let turn = self.writers().callers_turn(&mut ()).await;
        let began = self
            .pool
            .within(ANSWER, async { DB::begin(&self.pool.get()).await });
        let tx = began
            .await
            .map_err(database::<DB>("beginning a transaction for a message"))?;
        Ok((tx, turn.begun()))
    }

    /// Begins a transaction on our own pool, whose COMMIT waits for the disk.
    pub(crate) async fn begin_durably(&self) -> Result<(Transaction<'static, DB>, Writing), Error> {
        let pool = match DB::lives_in_pool(self.caller()) {
            true => self.caller().clone(),
            false => self.pool.get(),
        };
        let turn = self.writers().our_turn(&mut ()).await;
        let began = self
            .pool
            .within(ANSWER, async { DB::begin_durable(&pool).await });
        let tx = began
            .await
            .map_err(database::<DB>("beginning a transaction for messages"))?;
        Ok((tx, turn.begun()))
    }

    /// Does something on a connection of our own pool, which has 15 s.
    pub(crate) async fn in_time<T>(&self, work: impl Future<Output = DbResult<T>>) -> DbResult<T> {
        self.pool.within(ANSWER, work).await
    }

    /// Inserts records into the caller's transaction, in as few statements as the limits allow: 1,000 rows and
    /// 4 MiB each.
    pub(crate) async fn insert(
        &self,
        conn: &mut DB::Connection,
        records: &[NewRecord<'_>],
    ) -> Result<(), Error> {
        let Table { statements, .. } = self.located().await?;
        insert::<DB>(conn, statements, records, true)
            .await
            .map_err(|error| explain::<DB>(statements, error, "writing messages to the outbox"))
    }

    /// Inserts records in a transaction of our own, whose COMMIT is on the disk when this returns. The records may be
    /// the only copies of their messages by then.
    ///
    /// # Errors
    ///
    /// The error of the database as it is. If the answer to the COMMIT was lost, it is unknown whether the records
    /// are there.
    pub(crate) async fn insert_durably(&self, records: &[NewRecord<'_>]) -> DbResult<()> {
        let Table { statements, .. } = self.table()?;
        let pool = match DB::lives_in_pool(self.caller()) {
            true => self.caller().clone(),
            false => self.pool.get(),
        };
        let turn = self.writers().our_turn(&mut ()).await;
        let written = async {
            let mut tx = DB::begin(&pool).await?;
            let _writing = turn.begun();
            if DB::DIALECT == Dialect::Postgres {
                DB::run_sql(&mut tx, &DURABLE.into_sql_str(), &[]).await?;
            }
            insert::<DB>(&mut tx, statements, records, true).await?;
            tx.commit().await
        };
        self.pool.within(ANSWER, written).await
    }

    /// What [`lone`](Self::lone) needs, for a writer in line.
    pub(crate) fn lone_early(&self) -> LoneEarly<DB> {
        Early::new(self.caller(), DB::lone_early)
    }

    /// Takes a connection of the caller's pool for the INSERT of one message that is its own commit.
    pub(crate) async fn lone(&self, early: LoneEarly<DB>) -> Result<Lone<DB>, Error> {
        let server = self.server().await?;
        let early = match early.begun() {
            // One that failed may have done so long ago.
            Some(early) => early.await.ok(),
            None => None,
        };
        let lone = match early {
            Some(lone) => Ok(lone),
            None => DB::lone(self.caller(), server).await,
        };
        lone.map_err(Error::database("taking a connection from the pool"))
    }

    /// Inserts one record by a statement that is its own commit.
    ///
    /// False, and nothing is written, if the connection has a transaction open or does not commit by itself.
    /// The statement finds that out by itself, so it costs no further round trip.
    ///
    /// # Errors
    ///
    /// The error of the database as it is. If the answer was lost, it is unknown whether the record was
    /// committed, as with COMMIT.
    pub(crate) async fn insert_alone(
        &self,
        conn: &mut DB::Connection,
        record: &NewRecord<'_>,
    ) -> DbResult<bool> {
        insert_alone::<DB>(conn, self.table()?.statements, record).await
    }

    /// Makes sure that a transaction to be committed is still there, see [`Driver::is_open`].
    pub(crate) async fn is_open(
        &self,
        conn: &mut DB::Connection,
        flushed: bool,
    ) -> Result<bool, Error> {
        let doing = "committing, because of an error before that the transaction did not survive";
        let server = self.server().await?;
        DB::is_open(conn, server, flushed)
            .await
            .map_err(Error::database(doing))
    }

    /// What the server has said about itself.
    async fn server(&self) -> Result<&Server, Error> {
        let Table { statements, .. } = self.located().await?;
        Ok(&statements.server)
    }

    /// Whether an error from COMMIT proves that nothing was committed, see [`Driver::is_surely_rolled_back`].
    pub(crate) fn is_surely_rolled_back(&self, error: &sqlx::Error) -> bool {
        DB::is_surely_rolled_back(error)
    }

    /// Makes sure that the outbox may be emptied: no other instance holds records, and none migrates until
    /// the purge is over.
    ///
    /// # Errors
    ///
    /// [`Error::PurgeRefused`] if another instance holds records.
    pub(crate) async fn begin_purge(&self) -> Result<Purge<'_, DB>, Error> {
        let table = self.located().await?;
        let lock = match DB::DIALECT {
            // SQLite has one writer at a time anyway. The lock would be a transaction of ours, and the purge
            // itself would wait for it.
            Dialect::Sqlite => None,
            Dialect::Postgres | Dialect::MySql => {
                let lock = self.pool.within(MIGRATION, async {
                    DB::lock_migrations(&self.pool.get()).await
                });
                Some(lock.await.map_err(purging())?)
            }
        };
        if table.has_other_leases().await.map_err(purging())? {
            return Err(Error::PurgeRefused(
                "another instance of the service holds records of the outbox; stop it, or wait until \
                 its lease is over"
                    .into(),
            ));
        }
        Ok(Purge { table, _lock: lock })
    }

    /// Brings the table to this release's version, under a lock, so that several instances can start at
    /// once. Does nothing where it is there already.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignTable`] if the table belongs to another service or to something else.
    pub(crate) async fn migrate(&self) -> Result<(), Error> {
        migrate(&self.pool, self.service()?).await
    }

    /// Whether [`migrate`](Self::migrate) would change nothing.
    pub(crate) async fn is_current(&self) -> Result<bool, Error> {
        is_current(&self.pool, self.service()?).await
    }

    /// The statements of [`migrate`](Self::migrate) as SQL text, for a migration by hand.
    pub(crate) fn migration_sql(&self) -> Result<String, Error> {
        Ok(schema::script(DB::DIALECT, self.service()?))
    }

    /// Turns the driver's error into one that tells what to do.
    pub(crate) fn explain(&self, error: sqlx::Error, doing: &'static str) -> Error {
        match self.statements.get() {
            Some(statements) => explain::<DB>(statements, error, doing),
            None => Error::database(doing)(error),
        }
    }
}

/// The right to empty the outbox: no other bus held records when this was made. As long as it exists no
/// instance migrates, and so none starts; on SQLite there is no such lock.
pub(crate) struct Purge<'a, DB: OutboxDatabase> {
    /// The table to be emptied.
    table: Table<'a, DB>,
    /// Held until the purge is over. `None` on SQLite, which has one writer at a time.
    _lock: Option<MigrationLock<DB>>,
}

impl<DB: OutboxDatabase> Purge<'_, DB> {
    /// Deletes all records and all collected dead letters. Returns how many records there were.
    pub(crate) async fn run(self) -> Result<u64, Error> {
        self.table.purge_letters().await.map_err(purging())?;
        self.table.purge_all().await.map_err(purging())
    }
}

fn purging() -> impl FnOnce(sqlx::Error) -> Error {
    Error::database("purging the outbox")
}

/// The pool of our own to the caller's database, with the settings that the statements of the outbox need.
pub(super) fn own_pool<DB: OutboxDatabase>(caller: &Pool<DB>) -> Pool<DB> {
    DB::own_pool(caller, CONNECTIONS, session(DB::DIALECT))
}

/// Turns the driver's error into one that tells what to do.
fn explain<DB: Driver>(statements: &Statements, error: sqlx::Error, doing: &'static str) -> Error {
    if DB::is_missing_table(&error, "_outbox") {
        return Error::MissingTable {
            table: statements.table.clone(),
        };
    }
    if is_not_in_transaction(&error) {
        return Error::NotInTransaction;
    }
    database::<DB>(doing)(error)
}

/// Makes a database error that tells what the bus was doing, or what it was waiting for.
fn database<DB: Driver>(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Database {
        doing: crate::database::doing::<DB>(&source, doing),
        source,
    }
}

impl<DB: OutboxDatabase> fmt::Debug for Outbox<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("service", &self.name)
            .field("owner", &self.owner)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
