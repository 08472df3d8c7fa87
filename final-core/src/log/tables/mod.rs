//! The log's tables, as one broker of this process sees them: its own pool, its statements.

pub(crate) mod backlog;
pub(crate) mod dead_letters;
pub(crate) mod dialect;
pub(crate) mod entry;
pub(crate) mod extras;
mod inserts;
pub(crate) mod lanes;
pub(crate) mod lists;
pub(crate) mod members;
pub(crate) mod numbers;
pub(crate) mod open_numbers;
pub(crate) mod pages;
pub(crate) mod renumber;
mod scheduled;
pub(crate) mod schema;
pub(crate) mod session;
pub(crate) mod subscriptions;
pub(crate) mod transfer;
pub(crate) mod trim;

use std::{fmt, time::Duration};

use sqlx::{Pool, Transaction};
use tokio::{sync::OnceCell, time::timeout};

use self::{
    dialect::{Texts, words},
    entry::{Entry, entries},
    inserts::Inserts,
    schema::VERSION,
};
use crate::{
    Error, OutboxDatabase,
    broker::Staged,
    database::{
        DbResult, FromRow, Value, read,
        renewable::{RenewablePool, no_answer},
    },
};

/// Heard by everybody who waits for messages of this database.
const CHANNEL: &str = "final_log";

/// How long one short transaction may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a statement may take that makes a table, or that waits for another instance's lock.
const MIGRATING: Duration = Duration::from_secs(75);

/// The tables, and how to reach them.
pub(crate) struct Log<DB: OutboxDatabase> {
    pool: RenewablePool<DB>,
    ready: OnceCell<Ready>,
}

/// What is known once the schema has been looked up.
pub(crate) struct Ready {
    pub(crate) texts: Texts,
    now: Inserts,
    later: Inserts,
    pub(crate) shows_early: bool,
}

impl<DB: OutboxDatabase> Log<DB> {
    /// On a pool of its own to the database of the caller's.
    pub(crate) fn new(caller: Pool<DB>) -> Self {
        let own =
            |caller: &Pool<DB>| DB::own_pool(caller, super::CONNECTIONS, words::<DB>().session);
        Self {
            pool: RenewablePool::new(caller, own),
            ready: OnceCell::new(),
        }
    }

    pub(crate) fn pool(&self) -> Pool<DB> {
        self.pool.get()
    }

    /// Listens to what other processes say. The connection is held for good, and by every bus, so it is none
    /// of those that others wait for.
    pub(crate) async fn listen(&self, heard: impl Fn(&str) + Send + Sync) -> DbResult<()> {
        let own = DB::own_pool(self.pool.caller(), 1, words::<DB>().session);
        DB::listen(&own, CHANNEL, heard).await
    }

    /// Does something on a connection of the pool. A server that stands still must not stop us for good.
    async fn within<T>(&self, work: impl Future<Output = DbResult<T>>) -> DbResult<T> {
        self.pool.within(PATIENCE, work).await
    }

    pub(crate) async fn ready(&self) -> DbResult<&Ready> {
        self.ready
            .get_or_try_init(|| async {
                let server = DB::server(&mut *self.pool().acquire().await?).await?;
                let texts = Texts::new(DB::DIALECT, &server);
                let inserts = |scheduled| Inserts::new(DB::DIALECT, &texts, &server, scheduled);
                Ok(Ready {
                    now: inserts(false),
                    later: inserts(true),
                    shows_early: server.shows_early,
                    texts,
                })
            })
            .await
    }

    /// Runs one statement on a connection of ours.
    pub(crate) async fn run(&self, template: &str, values: Vec<Value<'_>>) -> DbResult<u64> {
        self.within(async {
            let ready = self.ready().await?;
            let mut conn = self.pool().acquire().await?;
            DB::run_sql(&mut conn, &ready.texts.sql(template), &values).await
        })
        .await
    }

    /// Reads rows on a connection of ours.
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

    /// Reads the first row on a connection of ours, if there is one.
    pub(crate) async fn first<T: FromRow>(
        &self,
        template: &str,
        values: Vec<Value<'_>>,
    ) -> DbResult<Option<T>> {
        Ok(self.rows(template, values).await?.into_iter().next())
    }

    /// Begins a transaction of ours.
    pub(crate) async fn begin(&self) -> DbResult<Tx<'_, DB>> {
        self.within(async {
            let ready = self.ready().await?;
            Ok(Tx {
                tx: DB::begin(&self.pool()).await?,
                texts: &ready.texts,
                log: self,
            })
        })
        .await
    }

    /// Writes messages into a transaction that somebody else commits.
    pub(crate) async fn append(
        &self,
        conn: &mut DB::Connection,
        staged: &[Staged],
    ) -> Result<(), Error> {
        self.append_here(conn, staged).await.map_err(explain::<DB>)
    }

    /// Writes a message by a statement that is its own commit. False, and nothing is written, where it
    /// would not be.
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
            inserts.append_alone::<DB>(conn, &Entry::from(staged)).await
        };
        append.await.map_err(explain::<DB>)
    }

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

    /// Makes the tables, or leaves them as they are. Several instances may do so at once.
    pub(crate) async fn migrate(&self) -> DbResult<()> {
        if self.version().await? >= i64::from(VERSION) {
            return Ok(());
        }
        let lock = self
            .pool
            .within(MIGRATING, async { DB::lock_migrations(&self.pool()).await });
        let (mut lock, ready) = (lock.await?, self.ready().await?);
        for statement in Self::statements() {
            let statement = ready.texts.sql(&statement);
            let run = async { DB::run_sql(lock.conn(), &statement, &[]).await };
            self.pool.within(MIGRATING, run).await?;
        }
        self.within(lock.finish()).await
    }

    fn statements() -> Vec<String> {
        let mut statements = schema::tables::<DB>();
        statements.push(schema::state(DB::DIALECT.words()));
        statements.push(schema::raise_version());
        statements
    }

    /// What [`migrate`](Self::migrate) runs, for those who run it by hand.
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

    /// The version of the tables; 0 where there are none.
    async fn version(&self) -> DbResult<i64> {
        let version = "SELECT CAST(version AS {int}) FROM {state} WHERE id = 1";
        match self.first(version, Vec::new()).await {
            Ok(version) => Ok(version.unwrap_or_default()),
            Err(error) if DB::is_missing_table(&error, "final_log") => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// A transaction of ours.
pub(crate) struct Tx<'a, DB: OutboxDatabase> {
    pub(crate) tx: Transaction<'a, DB>,
    pub(crate) texts: &'a Texts,
    pub(crate) log: &'a Log<DB>,
}

impl<DB: OutboxDatabase> Tx<'_, DB> {
    pub(crate) async fn run(&mut self, template: &str, values: Vec<Value<'_>>) -> DbResult<u64> {
        let sql = self.texts.sql(template);
        self.log
            .within(DB::run_sql(&mut self.tx, &sql, &values))
            .await
    }

    pub(crate) async fn rows<T: FromRow>(
        &mut self,
        template: &str,
        values: Vec<Value<'_>>,
    ) -> DbResult<Vec<T>> {
        let sql = self.texts.sql(template);
        self.log
            .within(read::<DB, T>(&mut self.tx, &sql, &values))
            .await
    }

    /// Reads the first row, if there is one.
    pub(crate) async fn first<T: FromRow>(
        &mut self,
        template: &str,
        values: Vec<Value<'_>>,
    ) -> DbResult<Option<T>> {
        Ok(self.rows(template, values).await?.into_iter().next())
    }

    /// Deletes so many rows, and looks at none behind them.
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

    /// What is written into the log waits for the disk before it shows. A server that forgot it in a
    /// crash could give its number to another message, and whoever has read the number passes that over.
    pub(crate) async fn be_durable(&mut self) -> DbResult<()> {
        match words::<DB>().durable {
            Some(durable) => self.run(durable, Vec::new()).await.map(drop),
            None => Ok(()),
        }
    }

    /// What would be refused at the COMMIT is refused at once.
    pub(crate) async fn be_strict(&mut self) -> DbResult<()> {
        match words::<DB>().strict {
            Some(strict) => self.run(strict, Vec::new()).await.map(drop),
            None => Ok(()),
        }
    }

    /// Rolls back after a statement was refused.
    pub(crate) async fn give_up(mut self) -> DbResult<()> {
        if words::<DB>().gapless {
            // A trigger's RAISE(ROLLBACK) has ended the transaction. sqlx does not know, and could not begin
            // another on this connection.
            let _ = self.run("BEGIN", Vec::new()).await;
        }
        self.roll_back().await
    }

    pub(crate) async fn commit(self) -> DbResult<()> {
        self.log.within(self.tx.commit()).await
    }

    pub(crate) async fn roll_back(self) -> DbResult<()> {
        self.log.within(self.tx.rollback()).await
    }

    /// The connection, for an INSERT of messages.
    pub(crate) fn conn(&mut self) -> &mut DB::Connection {
        &mut self.tx
    }
}

/// The same on a connection that is in no pool.
pub(crate) async fn within<T>(work: impl Future<Output = DbResult<T>>) -> DbResult<T> {
    timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| Err(no_answer(PATIENCE)))
}

/// Turns the driver's error into one that tells what to do.
fn explain<DB: OutboxDatabase>(error: sqlx::Error) -> Error {
    let doing = "writing messages to the log";
    let says = |part| {
        error
            .as_database_error()
            .is_some_and(|error| error.message().contains(part))
    };
    if says("final_log_lane") || says("final_log_scheduled_lane") {
        return Error::NotInTransaction;
    }
    if DB::is_missing_table(&error, "final_log") {
        return Error::MissingTable {
            table: "final_log".to_owned(),
        };
    }
    Error::Database {
        doing,
        source: error,
    }
}

impl<DB: OutboxDatabase> fmt::Debug for Log<DB> {
    /// Without the pool: its options hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Log")
    }
}
