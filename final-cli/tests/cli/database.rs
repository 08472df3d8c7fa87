//! A database for one test, and the program at work on it.

use std::ffi::OsStr;

use final_amqp::Amqp;
use final_core::{Bus, MemoryBroker, OutboxDatabase, SqlBroker};
use final_tests::SqliteFile;
use sqlx::{AssertSqlSafe, Pool};
use tokio::process::Command;

use crate::program::{Ran, program, run, run_with_input};

/// A database under test.
pub trait Database: OutboxDatabase {
    /// The URL of a new database, and the file of a database that is one.
    async fn url() -> (String, Option<SqliteFile>);

    async fn connect(url: &str) -> Pool<Self>;

    /// Runs a statement.
    async fn sql(pool: &Pool<Self>, sql: &str) -> u64;

    /// Reads one number.
    async fn number(pool: &Pool<Self>, sql: &str) -> i64;
}

macro_rules! database {
    ($database:ty, $url:expr) => {
        impl Database for $database {
            async fn url() -> (String, Option<SqliteFile>) {
                $url.await
            }

            async fn connect(url: &str) -> Pool<Self> {
                Pool::connect(url).await.expect(url)
            }

            async fn sql(pool: &Pool<Self>, sql: &str) -> u64 {
                let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
                query.execute(pool).await.expect(sql).rows_affected()
            }

            async fn number(pool: &Pool<Self>, sql: &str) -> i64 {
                let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
                query.fetch_one(pool).await.expect(sql)
            }
        }
    };
}

database!(sqlx::Postgres, async {
    (final_tests::pg_database().await.expect("PostgreSQL"), None)
});
database!(sqlx::MySql, async {
    (final_tests::mysql_database().await.expect("MariaDB"), None)
});
database!(sqlx::Sqlite, async {
    let file = final_tests::sqlite_file().expect("a file");
    (file.url(), Some(file))
});

/// A new database, with services as a test makes them.
pub struct Place<DB: Database> {
    pub url: String,
    pub pool: Pool<DB>,
    _file: Option<SqliteFile>,
}

impl<DB: Database> Place<DB> {
    pub async fn fresh() -> Self {
        let (url, _file) = DB::url().await;
        let pool = DB::connect(&url).await;
        Self { url, pool, _file }
    }

    /// The program, with this database in its environment.
    pub fn program(&self) -> Command {
        let mut program = program();
        program.env("DATABASE_URL", &self.url);
        program
    }

    /// Runs the program on this database.
    pub async fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        run(&mut self.program(), args).await
    }

    pub async fn run_with_input<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
        input: &str,
    ) -> Ran {
        run_with_input(&mut self.program(), args, input).await
    }

    /// A bus of a service whose broker is another system, not started.
    pub fn outbox_bus(&self, service: &str) -> Bus<DB> {
        Bus::new(service, self.pool.clone(), MemoryBroker::new())
    }

    /// A bus of a service on RabbitMQ, not started.
    pub fn amqp_bus(&self, service: &str, url: &str) -> Bus<DB> {
        Bus::new(service, self.pool.clone(), Amqp::new(url).expect("a URL"))
    }

    /// A bus of a service on the log, not started.
    pub fn log_bus(&self, service: &str) -> Bus<DB> {
        Bus::new(
            service,
            self.pool.clone(),
            SqlBroker::new(self.pool.clone()),
        )
    }

    pub async fn sql(&self, sql: &str) -> u64 {
        DB::sql(&self.pool, sql).await
    }

    pub async fn number(&self, sql: &str) -> i64 {
        DB::number(&self.pool, sql).await
    }
}
