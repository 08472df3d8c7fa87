//! A new database for one test, and a test on each database.
//!
//! Input: the servers of the test run. Output: a [`Place`], whose database is empty.

#![allow(
    clippy::expect_used,
    missing_docs,
    missing_debug_implementations,
    reason = "a test says what it expects"
)]

use final_core::OutboxDatabase;
use sqlx::{AssertSqlSafe, Pool};

use crate::SqliteFile;

/// A database under test.
pub trait Database: OutboxDatabase {
    /// The URL of a new database, and the file of a database that is one.
    fn url() -> impl Future<Output = (String, Option<SqliteFile>)> + Send;

    fn connect(url: &str) -> impl Future<Output = Pool<Self>> + Send;

    /// Runs statements as they are.
    fn sql(pool: &Pool<Self>, sql: &str) -> impl Future<Output = ()> + Send;

    /// Reads one number.
    fn number(pool: &Pool<Self>, sql: &str) -> impl Future<Output = i64> + Send;

    /// Reads one text of each row.
    fn texts(pool: &Pool<Self>, sql: &str) -> impl Future<Output = Vec<String>> + Send;
}

macro_rules! database {
    ($database:ty, $options:path, $url:expr) => {
        impl Database for $database {
            async fn url() -> (String, Option<SqliteFile>) {
                $url.await
            }

            async fn connect(url: &str) -> Pool<Self> {
                let options = <$options>::new().max_connections(20);
                options.connect(url).await.expect(url)
            }

            async fn sql(pool: &Pool<Self>, sql: &str) {
                let statements = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
                statements.execute(pool).await.expect(sql);
            }

            async fn number(pool: &Pool<Self>, sql: &str) -> i64 {
                let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
                query.fetch_one(pool).await.expect(sql)
            }

            async fn texts(pool: &Pool<Self>, sql: &str) -> Vec<String> {
                let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
                query.fetch_all(pool).await.expect(sql)
            }
        }
    };
}

database!(sqlx::Postgres, sqlx::postgres::PgPoolOptions, async {
    (crate::pg_database().await.expect("PostgreSQL"), None)
});
database!(sqlx::MySql, sqlx::mysql::MySqlPoolOptions, async {
    (crate::mysql_database().await.expect("MariaDB"), None)
});
database!(sqlx::Sqlite, sqlx::sqlite::SqlitePoolOptions, async {
    let file = crate::sqlite_file().expect("a file");
    (file.url(), Some(file))
});

/// A new database.
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

    /// A database that is there.
    pub fn of(url: String, pool: Pool<DB>) -> Self {
        Self {
            url,
            pool,
            _file: None,
        }
    }

    /// Another pool on the same database, as another node has.
    pub async fn another_pool(&self) -> Pool<DB> {
        DB::connect(&self.url).await
    }

    pub async fn sql(&self, sql: &str) {
        DB::sql(&self.pool, sql).await;
    }

    pub async fn number(&self, sql: &str) -> i64 {
        DB::number(&self.pool, sql).await
    }

    pub async fn texts(&self, sql: &str) -> Vec<String> {
        DB::texts(&self.pool, sql).await
    }
}

/// Makes a test of each function of a list, on each database. A function gets a [`Place`].
#[macro_export]
macro_rules! everywhere {
    ($($name:ident),+ $(,)?) => {
        $crate::everywhere!(@on postgres, sqlx::Postgres: $($name),+);
        $crate::everywhere!(@on mariadb, sqlx::MySql: $($name),+);
        $crate::everywhere!(@on sqlite, sqlx::Sqlite: $($name),+);
    };
    (@on $database:ident, $type:ty: $($name:ident),+) => {
        mod $database {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name($crate::place::Place::<$type>::fresh().await).await;
                }
            )+
        }
    };
}
