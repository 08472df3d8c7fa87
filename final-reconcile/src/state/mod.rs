//! The database in which a reconciler remembers: repairs, scans, alerts.
//!
//! Input: the caller's pool. State: a pool of our own, and the names of the tables. Output: connections, and statements for
//! this database.
//!
//! | part | has |
//! | --- | --- |
//! | [`schema`] | all tables, and their version |
//! | [`migrate`] | how they are made |
//!
//! What is written to a table and read from it stands beside its user.

pub(crate) mod migrate;
mod schema;

use std::{fmt, time::Duration};

use final_core::database::{DbResult, Driver, Templates, Value};
use sqlx::Pool;
use tokio::sync::OnceCell;

use crate::own::OwnPool;

/// How long the database may take to answer.
const ANSWER: Duration = Duration::from_secs(15);

/// Connections for repairs, scans, and what an operator asks.
const CONNECTIONS: u32 = 4;

/// The tables in one database.
pub(crate) struct SqlState<DB: Driver> {
    pool: OwnPool<DB>,
    templates: OnceCell<Templates>,
}

impl<DB: Driver> SqlState<DB> {
    pub(crate) fn new(caller: &Pool<DB>) -> Self {
        Self::on(OwnPool::new(caller, schema::session(DB::DIALECT)).of(CONNECTIONS))
    }

    /// On a pool of its own.
    pub(crate) fn on(pool: OwnPool<DB>) -> Self {
        Self {
            pool,
            templates: OnceCell::new(),
        }
    }

    pub(crate) fn pool(&self) -> Pool<DB> {
        self.pool.get()
    }

    pub(crate) async fn templates(&self) -> DbResult<&Templates> {
        let ask = async {
            let server = DB::server(&mut *self.pool.get().acquire().await?).await?;
            Ok(schema::templates(DB::DIALECT, &server.schema))
        };
        self.templates.get_or_try_init(|| ask).await
    }

    pub(crate) async fn in_time<T>(&self, work: impl Future<Output = DbResult<T>>) -> DbResult<T> {
        self.pool.in_time(ANSWER, work).await
    }

    pub(crate) async fn run(&self, template: &str, values: &[Value<'_>]) -> DbResult<u64> {
        let sql = self.templates().await?.sql(template);
        let mut conn = self.pool.get().acquire().await?;
        DB::run_sql(&mut conn, &sql, values).await
    }
}

impl<DB: Driver> fmt::Display for SqlState<DB> {
    /// Where the database is, without a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pool.place())
    }
}

impl<DB: Driver> fmt::Debug for SqlState<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqlState").field(&self.pool.place()).finish()
    }
}
