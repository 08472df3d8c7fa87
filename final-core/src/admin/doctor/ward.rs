//! The connections of an examination.
//!
//! Input: the caller's pool. State: two small pools to the same database, which nobody else uses. Output: rows, read in
//! transactions that are read-only and rolled back.
//!
//! New connections are made for each examination: what was set for a role or a database since counts for these, and
//! not for the old ones of the caller's pool.

use std::time::Duration;

use sqlx::{Pool, SqlStr, pool::PoolConnection};
use tokio::time::timeout;

use crate::{
    OutboxDatabase,
    database::{
        DbResult, Dialect, FromRow, Templates, Value, read,
        renewable::{ANSWER, GOODBYE, no_answer},
    },
};

/// How long a connection is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connections of each pool: to find a pooler, two transactions are open at once.
const CONNECTIONS: u32 = 3;

pub(super) struct Ward<DB: OutboxDatabase> {
    /// Sessions as the caller's are, with the caller's hooks.
    callers: Pool<DB>,
    /// Sessions whose settings are those of the bus's own, so that no statement depends on a setting.
    own: Pool<DB>,
    templates: Templates,
    is_callers_own: bool,
}

impl<DB: OutboxDatabase> Ward<DB> {
    /// Nothing is connected until it is used.
    pub(super) fn new(caller: &Pool<DB>) -> Self {
        let is_callers_own = DB::lives_in_pool(caller);
        let callers = match is_callers_own {
            true => caller.clone(),
            false => caller
                .options()
                .clone()
                .min_connections(0)
                .max_connections(CONNECTIONS)
                .acquire_timeout(PATIENCE)
                .connect_lazy_with(caller.connect_options().as_ref().clone()),
        };
        let own = match DB::DIALECT {
            // A session of the bus's own would change the journal mode of the file.
            Dialect::Sqlite => callers.clone(),
            Dialect::Postgres | Dialect::MySql => DB::own_pool(caller, CONNECTIONS, &[]),
        };
        Self {
            callers,
            own,
            templates: Templates::new(DB::DIALECT, [] as [(&str, String); 0]),
            is_callers_own,
        }
    }

    /// A connection whose session is as those of the caller's.
    pub(super) async fn callers(&self) -> DbResult<PoolConnection<DB>> {
        within(self.callers.acquire()).await
    }

    /// A connection whose settings are those of the bus's own.
    pub(super) async fn own(&self) -> DbResult<PoolConnection<DB>> {
        within(self.own.acquire()).await
    }

    /// Reads rows with the settings of the bus's own sessions.
    pub(super) async fn rows<T: FromRow>(
        &self,
        template: &str,
        values: &[Value<'_>],
    ) -> DbResult<Vec<T>> {
        read_in(&self.own, &self.templates.sql(template), values).await
    }

    /// Reads the first row.
    pub(super) async fn first<T: FromRow>(
        &self,
        template: &str,
        values: &[Value<'_>],
    ) -> DbResult<T> {
        let rows = self.rows(template, values).await?;
        rows.into_iter().next().ok_or(sqlx::Error::RowNotFound)
    }

    /// Reads rows with the settings of the caller's sessions.
    pub(super) async fn callers_rows<T: FromRow>(&self, template: &str) -> DbResult<Vec<T>> {
        read_in(&self.callers, &self.templates.sql(template), &[]).await
    }

    /// Whether the database would take a statement from a session of the caller's. It is explained and not run.
    pub(super) async fn explain(&self, statement: &str) -> DbResult<()> {
        let explain = self.templates.sql(&format!("EXPLAIN {statement}"));
        within(async {
            // MySQL would refuse it in a transaction that only reads.
            let mut tx = self.callers.begin().await?;
            let explained = DB::run_sql(&mut tx, &explain, &[]).await.map(drop);
            tx.rollback().await?;
            explained
        })
        .await
    }

    /// The columns of a table; none if it is not there.
    pub(super) async fn columns(&self, table: &str) -> DbResult<Vec<String>> {
        within(async { DB::columns(&mut *self.own.acquire().await?, table).await }).await
    }

    /// Closes the connections.
    pub(super) async fn close(self) {
        if !self.is_callers_own {
            let close = futures::future::join(self.callers.close(), self.own.close());
            // What takes longer is closed by itself.
            let _ = timeout(GOODBYE, close).await;
        }
    }
}

async fn read_in<DB: OutboxDatabase, T: FromRow>(
    pool: &Pool<DB>,
    sql: &SqlStr,
    values: &[Value<'_>],
) -> DbResult<Vec<T>> {
    within(async {
        let mut tx = pool.begin_with(begin(DB::DIALECT)).await?;
        let rows = read::<DB, T>(&mut tx, sql, values).await;
        tx.rollback().await?;
        rows
    })
    .await
}

/// Begins a transaction that only reads. On SQLite any transaction does, until it writes.
const fn begin(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => "BEGIN READ ONLY",
        Dialect::MySql => "START TRANSACTION READ ONLY",
        Dialect::Sqlite => "BEGIN",
    }
}

pub(super) async fn within<T>(work: impl Future<Output = DbResult<T>>) -> DbResult<T> {
    timeout(ANSWER, work)
        .await
        .unwrap_or_else(|_| Err(no_answer(ANSWER)))
}
