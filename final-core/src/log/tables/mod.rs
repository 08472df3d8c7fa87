//! The log's tables, as one broker of this process sees them: all SQL of the log.
//!
//! Input: messages to append, progress to write, and questions of the engine. State: a pool of its own, and the
//! rendered texts of the statements. Output: rows as the types of [`progress`](super::progress).
//!
//! | part | statements about |
//! | --- | --- |
//! | [`schema`], [`dialect`] | the tables themselves; what each database says in its own way |
//! | [`entry`], `inserts` | a message as a row; its INSERTs |
//! | `addressed`, `appended` | messages of a source that is not a bus: for one group alone, for every group |
//! | [`session`], [`pages`] | the connection that is read on; rows of the log |
//! | [`lanes`], [`side_effects`] | the progress, and what is written together with it |
//! | [`members`], [`subscriptions`], [`open_numbers`] | leases; topics; where a group starts |
//! | [`sequence`], [`renumber`] | sequence numbers that went back |
//! | [`trim`], `scheduled`, [`transfer`] | rows that go: removed, due, or moved |
//! | [`dead_letters`], [`backlog`] | what an operator asks for |
//!
//! Every statement has a time limit, and a server that stands still ends with an error. Templates name the tables
//! as `{log}`, `{lanes}`, …, see [`dialect::Texts`].

mod addressed;
mod appended;
pub(crate) mod backlog;
pub(crate) mod dead_letters;
pub(crate) mod dialect;
pub(crate) mod entry;
pub(crate) mod held;
pub(crate) mod inserts;
pub(crate) mod lanes;
pub(crate) mod members;
pub(crate) mod open_numbers;
pub(crate) mod pages;
pub(crate) mod renumber;
pub(crate) mod scheduled;
pub(crate) mod schema;
pub(crate) mod sequence;
pub(crate) mod session;
pub(crate) mod side_effects;
pub(crate) mod subscriptions;
pub(crate) mod transfer;
pub(crate) mod trim;

use std::{fmt, time::Instant};

use sqlx::{Pool, Transaction};
use tokio::{
    sync::{OnceCell, watch},
    time::timeout,
};

use self::{
    dialect::{Texts, words},
    entry::{NewRow, entries},
    inserts::LogInserts,
    schema::VERSION,
};
use crate::{
    Error, OutboxDatabase,
    broker::Staged,
    database::{
        DbResult, FromRow, Value, are_transactional, doing, lists,
        lone::is_not_in_transaction,
        name_setting, read,
        refused::roll_back,
        renewable::{ANSWER, GOODBYE, MIGRATION, PoolOwner, RenewablePool},
        writers::Writing,
    },
};

/// Connections of the log's own pool: for leases, removals, and everything else that needs no session.
const CONNECTIONS: u32 = 3;

/// The channel on which processes of this database hear of new messages.
const CHANNEL: &str = "final_log";

/// The tables, and how to reach them. Nothing is connected until it is used, and nothing is known of the server
/// until it has answered once.
pub(crate) struct Log<DB: OutboxDatabase> {
    /// The pool of the log's own.
    pool: RenewablePool<DB>,
    /// What the server has said, and the texts made for it.
    ready: OnceCell<Ready>,
}

/// What is known once the server has answered: the texts, with the qualified names of the tables.
pub(crate) struct Ready {
    pub(crate) texts: Texts,
    /// INSERTs of messages that are due at once.
    now: LogInserts,
    /// INSERTs of messages with a delay.
    later: LogInserts,
    /// Whether a commit can become visible before it is on the disk.
    pub(crate) shows_early: bool,
}

impl<DB: OutboxDatabase> Log<DB> {
    /// The log in the database of the caller's pool, on a pool of its own.
    pub(crate) fn new(caller: Pool<DB>) -> Self {
        let own = |caller: &Pool<DB>| DB::own_pool(caller, CONNECTIONS, words::<DB>().session);
        Self {
            pool: RenewablePool::new(caller, PoolOwner::Log, own),
            ready: OnceCell::new(),
        }
    }

    /// The pool as it is now.
    pub(crate) fn pool(&self) -> Pool<DB> {
        self.pool.get()
    }

    /// Closes the pool. The pool of a database in memory is the caller's, and stays open.
    pub(crate) async fn close(&self) {
        if !DB::lives_in_pool(self.pool.caller()) {
            self.pool.close().await;
        }
    }

    /// A pool of one connection, for a session that keeps it: otherwise other statements would wait for it.
    pub(crate) fn single(&self) -> RenewablePool<DB> {
        let own = |caller: &Pool<DB>| DB::own_pool(caller, 1, words::<DB>().session);
        RenewablePool::new(self.pool.caller().clone(), PoolOwner::Log, own)
            .counting_with(&self.pool)
    }

    /// How many statements were not answered in time, of all buses on this broker.
    pub(crate) fn give_ups(&self) -> u64 {
        self.pool.give_ups()
    }

    /// How many pools have been left, to watch. Other connections to the same server are then of no more use.
    pub(crate) fn times_left(&self) -> watch::Receiver<u64> {
        self.pool.times_left()
    }

    /// A server has said whether it takes no writes.
    fn found(&self, asked: Instant, read_only: bool) {
        self.pool.found(asked, read_only);
    }

    /// Listens to announcements of other processes, on a connection of its own that each bus holds for good. Ends
    /// with the connection, or when the other connections of the log are left.
    pub(crate) async fn listen(&self, heard: impl Fn(&str) + Send + Sync) -> DbResult<()> {
        let own = DB::own_pool(self.pool.caller(), 1, words::<DB>().session);
        let mut left = self.times_left();
        let ended = tokio::select! {
            ended = DB::listen(&own, CHANNEL, heard) => ended,
            _ = left.changed() => Ok(()),
        };
        let _ = timeout(GOODBYE, own.close()).await;
        ended
    }

    /// Does something on a connection of the pool, within the time limit.
    async fn within<T>(&self, work: impl Future<Output = DbResult<T>>) -> DbResult<T> {
        self.pool.within(ANSWER, work).await
    }

    /// Asks the server what it is, once, and makes the texts for it.
    pub(crate) async fn ready(&self) -> DbResult<&Ready> {
        self.ready
            .get_or_try_init(|| async {
                let server = DB::server(&mut *self.pool().acquire().await?).await?;
                let texts = Texts::new(DB::DIALECT, &server);
                let inserts = |scheduled| LogInserts::new(DB::DIALECT, &texts, &server, scheduled);
                Ok(Ready {
                    now: inserts(false),
                    later: inserts(true),
                    shows_early: server.shows_early,
                    texts,
                })
            })
            .await
    }

    /// Runs one statement on a connection of the pool. Returns how many rows it has found.
    pub(crate) async fn run(&self, template: &str, values: Vec<Value<'_>>) -> DbResult<u64> {
        let turn = self.pool.writers().our_turn(&mut ()).await;
        self.within(async {
            let ready = self.ready().await?;
            let mut conn = self.pool().acquire().await?;
            let _writing = turn.begun();
            DB::run_sql(&mut conn, &ready.texts.sql(template), &values).await
        })
        .await
    }

    /// Reads rows on a connection of the pool.
    pub(crate) async fn rows<T: FromRow>(
        &self,
        template: &str,
        values: Vec<Value<'_>>,
    ) -> DbResult<Vec<T>> {
        self.within(async {
            let ready = self.ready().await?;
            let mut conn = self.pool().acquire().await?;
            read::<DB, T>(&mut conn, &ready.texts.sql(template), &values).await
        })
        .await
    }

    /// Reads the first row on a connection of the pool, if there is one.
    pub(crate) async fn first<T: FromRow>(
        &self,
        template: &str,
        values: Vec<Value<'_>>,
    ) -> DbResult<Option<T>> {
        Ok(self.rows(template, values).await?.into_iter().next())
    }

    /// Reads the first row of a statement that counts, see [`RenewablePool::count`].
    pub(crate) async fn count<T: FromRow>(
        &self,
        template: &str,
        values: Vec<Value<'static>>,
    ) -> DbResult<Option<T>> {
        let ready = self.within(self.ready()).await?;
        let counted = self.pool.count(ready.texts.sql(template), values).await?;
        Ok(counted.into_iter().next())
    }

    /// Begins a transaction on a connection of the pool.
    pub(crate) async fn begin(&self) -> DbResult<Tx<'_, DB>> {
        let pool = self.pool();
        self.begin_by(DB::begin(&pool)).await
    }

    /// Begins a transaction whose COMMIT waits for the disk, see [`Tx::be_durable`]. It is one question and answer.
    pub(crate) async fn begin_durable(&self) -> DbResult<Tx<'_, DB>> {
        let pool = self.pool();
        self.begin_by(DB::begin_durable(&pool)).await
    }

    async fn begin_by(
        &self,
        begin: impl Future<Output = DbResult<Transaction<'static, DB>>> + Send,
    ) -> DbResult<Tx<'_, DB>> {
        let turn = self.pool.writers().our_turn(&mut ()).await;
        self.within(async {
            let ready = self.ready().await?;
            Ok(Tx {
                tx: begin.await?,
                texts: &ready.texts,
                pool: &self.pool,
                writing: turn.begun(),
            })
        })
        .await
    }

    /// Writes messages into the caller's transaction.
    pub(crate) async fn append(
        &self,
        conn: &mut DB::Connection,
        staged: &[Staged],
    ) -> Result<(), Error> {
        self.append_here(conn, staged).await.map_err(explain::<DB>)
    }

    /// Writes a message by a statement that is its own commit. False, and nothing is written, if the connection
    /// is inside a transaction.
    pub(crate) async fn append_alone(
        &self,
        conn: &mut DB::Connection,
        staged: &Staged,
    ) -> Result<bool, Error> {
        let append = async {
            let ready = self.ready().await?;
            let inserts = match staged.delay.is_zero() {
                true => &ready.now,
                false => &ready.later,
            };
            inserts
                .append_alone::<DB>(conn, &NewRow::from(staged))
                .await
        };
        append.await.map_err(explain::<DB>)
    }

    /// Writes messages on a connection, those with a delay into the table of scheduled ones.
    pub(crate) async fn append_here(
        &self,
        conn: &mut DB::Connection,
        staged: &[Staged],
    ) -> DbResult<()> {
        let ready = self.ready().await?;
        let (later, now): (Vec<&Staged>, Vec<&Staged>) =
            staged.iter().partition(|staged| !staged.delay.is_zero());
        for (inserts, staged) in [(&ready.now, now), (&ready.later, later)] {
            for entries in entries(&staged) {
                inserts.append::<DB>(conn, &entries).await?;
            }
        }
        Ok(())
    }

    /// Creates the tables, or leaves them as they are. Several instances may do so at once.
    pub(crate) async fn migrate(&self) -> DbResult<()> {
        self.are_transactional().await?;
        if self.is_current().await? {
            return Ok(());
        }
        let lock = self
            .pool
            .within(MIGRATION, async { DB::lock_migrations(&self.pool()).await });
        let (mut lock, ready) = (lock.await?, self.ready().await?);
        for statement in Self::statements() {
            let statement = ready.texts.sql(&statement);
            let run = async { DB::run_sql(lock.conn(), &statement, &[]).await };
            let run = self.pool.within(MIGRATION, run).await;
            run.map_err(name_setting)?;
        }
        self.within(lock.finish()).await
    }

    /// Makes sure that the tables that are there take part in transactions.
    async fn are_transactional(&self) -> DbResult<()> {
        let names = dialect::TABLES.map(|name| format!("final_log_{name}"));
        let log = ["final_log"].into_iter();
        let tables: Vec<&str> = log.chain(names.iter().map(String::as_str)).collect();
        self.within(async {
            let mut conn = self.pool().acquire().await?;
            are_transactional::<DB>(&mut conn, &tables).await
        })
        .await
    }

    /// The statements of a migration, as templates.
    fn statements() -> Vec<String> {
        let mut statements = schema::tables::<DB>();
        statements.push(schema::state(DB::DIALECT.words()));
        statements.push(schema::raise_version());
        statements
    }

    /// The statements of [`migrate`](Self::migrate), to be run by hand.
    pub(crate) fn script() -> String {
        let mut text = format!(
            "-- The log, version {VERSION}, for all services of the database. \
             Running it again changes nothing.\n"
        );
        for statement in Self::statements() {
            text.push_str(statement.trim_end());
            text.push_str(";\n");
        }
        text
    }

    /// Whether the tables have the version of this release, or a later one.
    pub(crate) async fn is_current(&self) -> DbResult<bool> {
        Ok(self.version().await? >= i64::from(VERSION))
    }

    /// The version of the tables. 0 if there are none.
    pub(crate) async fn version(&self) -> DbResult<i64> {
        let version = "SELECT CAST(version AS {int}) FROM {state} WHERE id = 1";
        match self.first(version, Vec::new()).await {
            Ok(version) => Ok(version.unwrap_or_default()),
            Err(error) if DB::is_missing_table(&error, "final_log") => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// A transaction of the log's own.
pub(crate) struct Tx<'a, DB: OutboxDatabase> {
    pub(crate) tx: Transaction<'a, DB>,
    pub(crate) texts: &'a Texts,
    /// The pool that its connection comes from.
    pub(crate) pool: &'a RenewablePool<DB>,
    /// After the transaction, so that the next writer is told when the transaction has ended.
    pub(crate) writing: Writing,
}

impl<DB: OutboxDatabase> Tx<'_, DB> {
    pub(crate) async fn run(&mut self, template: &str, values: Vec<Value<'_>>) -> DbResult<u64> {
        let sql = self.texts.sql(template);
        let run = DB::run_sql(&mut self.tx, &sql, &values);
        self.pool.within(ANSWER, run).await
    }

    pub(crate) async fn rows<T: FromRow>(
        &mut self,
        template: &str,
        values: Vec<Value<'_>>,
    ) -> DbResult<Vec<T>> {
        let sql = self.texts.sql(template);
        let rows = read::<DB, T>(&mut self.tx, &sql, &values);
        self.pool.within(ANSWER, rows).await
    }

    /// Reads the first row, if there is one.
    pub(crate) async fn first<T: FromRow>(
        &mut self,
        template: &str,
        values: Vec<Value<'_>>,
    ) -> DbResult<Option<T>> {
        Ok(self.rows(template, values).await?.into_iter().next())
    }

    /// Deletes so many rows by their key, and looks at no row after them. On MySQL the DELETE would otherwise
    /// wait for the next row, if an open transaction has inserted it.
    pub(crate) async fn delete_only(
        &mut self,
        template: &str,
        mut values: Vec<Value<'_>>,
        rows: usize,
    ) -> DbResult<u64> {
        let Some(only) = words::<DB>().only else {
            return self.run(template, values).await;
        };
        values.push(i64::try_from(rows).unwrap_or(i64::MAX).into());
        self.run(&format!("{template} {only}"), values).await
    }

    /// Makes the commit wait for the disk before it becomes visible. A server that forgot a visible row in a crash
    /// would allocate its sequence number again, and a reader of the old row would pass over the new one.
    pub(crate) async fn be_durable(&mut self) -> DbResult<()> {
        match words::<DB>().durable {
            Some(durable) => self.run(durable, Vec::new()).await.map(drop),
            None => Ok(()),
        }
    }

    /// Makes constraints and triggers that wait for the COMMIT refuse a row at once.
    pub(crate) async fn be_strict(&mut self) -> DbResult<()> {
        match words::<DB>().strict {
            Some(strict) => self.run(strict, Vec::new()).await.map(drop),
            None => Ok(()),
        }
    }

    /// Rolls back after a statement was refused.
    pub(crate) async fn roll_back_refused(self) -> DbResult<()> {
        let _writing = self.writing;
        self.pool.within(ANSWER, roll_back(self.tx)).await
    }

    /// Rolls back after an error of the server, and returns the error. The rows are free then. A transaction that is only
    /// dropped keeps them locked a moment longer, and the next try would leave them out.
    pub(crate) async fn failed(self, error: sqlx::Error) -> sqlx::Error {
        if error.as_database_error().is_some() {
            // The error that came first is the one to tell.
            let _ = self.roll_back_refused().await;
        }
        error
    }

    pub(crate) async fn commit(self) -> DbResult<()> {
        let _writing = self.writing;
        self.pool.commit(self.tx).await
    }

    pub(crate) async fn roll_back(self) -> DbResult<()> {
        let _writing = self.writing;
        self.pool.within(ANSWER, self.tx.rollback()).await
    }

    /// The connection, for an INSERT of messages.
    pub(crate) fn conn(&mut self) -> &mut DB::Connection {
        &mut self.tx
    }
}

/// Turns an error of the driver into one that says what to do.
fn explain<DB: OutboxDatabase>(error: sqlx::Error) -> Error {
    explain_to::<DB>(error, "writing messages to the log")
}

/// The same for an error of something else than the INSERT.
fn explain_to<DB: OutboxDatabase>(error: sqlx::Error, what: &'static str) -> Error {
    if is_not_in_transaction(&error) {
        return Error::NotInTransaction;
    }
    if DB::is_missing_table(&error, "final_log") {
        return Error::MissingTable {
            table: "final_log".to_owned(),
        };
    }
    Error::Database {
        doing: doing::<DB>(&error, what),
        source: error,
    }
}

impl<DB: OutboxDatabase> fmt::Debug for Log<DB> {
    /// Without the pool: its options hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Log")
    }
}
