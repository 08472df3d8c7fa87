//! The log's tables, as one broker of this process sees them: its own pool, its statements.

pub(crate) mod backlog;
pub(crate) mod database;
pub(crate) mod dead_letters;
pub(crate) mod entry;
pub(crate) mod extras;
pub(crate) mod lanes;
pub(crate) mod letter;
pub(crate) mod members;
#[cfg(feature = "mysql")]
mod mysql;
pub(crate) mod numbers;
pub(crate) mod open_numbers;
pub(crate) mod pages;
#[cfg(feature = "postgres")]
mod postgres;
pub(crate) mod renumber;
mod scheduled;
pub(crate) mod schema;
pub(crate) mod session;
#[cfg(feature = "sqlite")]
mod sqlite;
pub(crate) mod subscriptions;
pub(crate) mod texts;
pub(crate) mod transfer;
pub(crate) mod trim;

use std::{fmt, time::Duration};

use sqlx::{Pool, Transaction};
use tokio::{sync::OnceCell, time::timeout};

use self::{
    database::{Kind, Row, Value},
    schema::VERSION,
    texts::{Inserts, Texts},
};
use super::LANES;
use crate::{
    Error, OutboxDatabase,
    broker::Staged,
    database::{
        DbResult,
        renewable::{RenewablePool, no_answer},
    },
    names::ServiceName,
};

/// How long one short transaction may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(15);

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
        Self {
            pool: RenewablePool::new(caller, DB::log_pool),
            ready: OnceCell::new(),
        }
    }

    pub(crate) fn pool(&self) -> Pool<DB> {
        self.pool.get()
    }

    /// Does something on a connection of the pool. A server that stands still must not stop us for good.
    async fn within<T>(&self, work: impl Future<Output = DbResult<T>>) -> DbResult<T> {
        self.pool.within(PATIENCE, work).await
    }

    pub(crate) async fn ready(&self) -> DbResult<&Ready> {
        self.ready
            .get_or_try_init(|| async {
                let mut conn = self.pool().acquire().await?;
                let schema = DB::log_schema(&mut conn).await?;
                let tells = DB::log_tells_transactions(&mut conn).await?;
                let shows_early = DB::log_shows_early(&mut conn).await?;
                let texts = Texts::new(&DB::LOG_WORDS, schema);
                Ok(Ready {
                    now: Inserts::new(&texts, false, tells),
                    later: Inserts::new(&texts, true, tells),
                    texts,
                    shows_early,
                })
            })
            .await
    }

    /// Runs one statement on a connection of ours.
    pub(crate) async fn run(&self, template: &str, values: Vec<Value>) -> DbResult<u64> {
        self.within(async {
            let ready = self.ready().await?;
            let mut conn = self.pool().acquire().await?;
            DB::log_run(&mut conn, ready.texts.sql(template), values).await
        })
        .await
    }

    /// Reads rows on a connection of ours.
    pub(crate) async fn rows(
        &self,
        template: &str,
        values: Vec<Value>,
        kinds: &'static [Kind],
    ) -> DbResult<Vec<Row>> {
        self.within(async {
            let ready = self.ready().await?;
            let mut conn = self.pool().acquire().await?;
            DB::log_rows(&mut conn, ready.texts.sql(template), values, kinds).await
        })
        .await
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
        self.append_here(conn, staged).await.map_err(explain)
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
            DB::log_append_alone(conn, inserts, staged).await
        };
        append.await.map_err(explain)
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
            if !staged.is_empty() {
                DB::log_append(conn, inserts, &staged).await?;
            }
        }
        Ok(())
    }

    /// Makes the tables, or leaves them as they are. Several instances may do so at once.
    pub(crate) async fn migrate(&self) -> DbResult<()> {
        if self.version().await? >= i64::from(VERSION) {
            return Ok(());
        }
        // Nobody's name: the lock is one for all services of the schema.
        let Ok(nobody) = ServiceName::new("final") else {
            return Ok(());
        };
        let lock = DB::startup_lock(&self.pool(), &nobody).await?;
        let mut tx = self.begin().await?;
        for statement in schema::tables(&DB::LOG_TYPES) {
            tx.run(&statement, Vec::new()).await?;
        }
        tx.run(&schema::state(&DB::LOG_WORDS), Vec::new()).await?;
        tx.run(&schema::raise_version(), Vec::new()).await?;
        tx.commit().await?;
        drop(lock);
        Ok(())
    }

    /// What [`migrate`](Self::migrate) runs, for those who run it by hand.
    pub(crate) fn script() -> String {
        let mut text = format!(
            "-- The log, version {VERSION}, for all services of the database. \
             Running it again changes nothing.\n"
        );
        for statement in schema::tables(&DB::LOG_TYPES) {
            text.push_str(&statement);
            text.push_str(";\n");
        }
        for statement in [schema::state(&DB::LOG_WORDS), schema::raise_version()] {
            text.push_str(statement.trim_end());
            text.push_str(";\n");
        }
        text
    }

    /// The version of the tables; 0 where there are none.
    async fn version(&self) -> DbResult<i64> {
        let version = "SELECT CAST(version AS {int}) FROM {state} WHERE id = 1";
        match self.rows(version, Vec::new(), &[Kind::Int]).await {
            Ok(mut rows) => rows.first_mut().map_or(Ok(0), Row::int),
            Err(error) if is_missing_table(&error) => Ok(0),
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
    pub(crate) async fn run(&mut self, template: &str, values: Vec<Value>) -> DbResult<u64> {
        let done = DB::log_run(&mut self.tx, self.texts.sql(template), values);
        self.log.within(done).await
    }

    pub(crate) async fn rows(
        &mut self,
        template: &str,
        values: Vec<Value>,
        kinds: &'static [Kind],
    ) -> DbResult<Vec<Row>> {
        let rows = DB::log_rows(&mut self.tx, self.texts.sql(template), values, kinds);
        self.log.within(rows).await
    }

    /// Deletes so many rows, and looks at none behind them.
    pub(crate) async fn delete_only(
        &mut self,
        template: &str,
        mut values: Vec<Value>,
        rows: usize,
    ) -> DbResult<u64> {
        let Some(only) = DB::LOG_WORDS.only else {
            return self.run(template, values).await;
        };
        values.push(i64::try_from(rows).unwrap_or(i64::MAX).into());
        self.run(&format!("{template} {only}"), values).await
    }

    /// What is written into the log waits for the disk before it shows. A server that forgot it in a
    /// crash could give its number to another message, and whoever has read the number passes that over.
    pub(crate) async fn be_durable(&mut self) -> DbResult<()> {
        match DB::LOG_WORDS.durable {
            Some(durable) => self.run(durable, Vec::new()).await.map(drop),
            None => Ok(()),
        }
    }

    /// What would be refused at the COMMIT is refused at once.
    pub(crate) async fn be_strict(&mut self) -> DbResult<()> {
        match DB::LOG_WORDS.strict {
            Some(strict) => self.run(strict, Vec::new()).await.map(drop),
            None => Ok(()),
        }
    }

    /// Rolls back after a statement was refused.
    pub(crate) async fn give_up(mut self) -> DbResult<()> {
        if DB::LOG_WORDS.gapless {
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
fn explain(error: sqlx::Error) -> Error {
    let doing = "writing messages to the log";
    let says = |part| {
        error
            .as_database_error()
            .is_some_and(|error| error.message().contains(part))
    };
    if says("final_log_lane") || says("final_log_scheduled_lane") {
        return Error::NotInTransaction;
    }
    if is_missing_table(&error) {
        return Error::MissingTable {
            table: "final_log".to_owned(),
        };
    }
    Error::Database {
        doing,
        source: error,
    }
}

/// Reads rows of one number.
pub(crate) fn numbers(rows: Vec<Row>) -> DbResult<Vec<i64>> {
    rows.into_iter().map(|mut row| row.int()).collect()
}

/// Whether one of the log's tables, or its schema, is not there.
fn is_missing_table(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| {
        let code = error.code().unwrap_or_default();
        code == "42P01"
            || code == "3F000"
            || code == "42S02"
            || error.message().starts_with("no such table")
    })
}

/// The numbers of all lanes, as a mask.
pub(crate) const ALL_LANES: i64 = (1 << LANES) - 1;

impl<DB: OutboxDatabase> fmt::Debug for Log<DB> {
    /// Without the pool: its options hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Log")
    }
}
