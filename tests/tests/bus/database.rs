//! The operations that the suite needs of a database: a fresh database, and plain SQL.

use final_core::OutboxDatabase;
use final_tests::SqliteFile;
use sqlx::{AssertSqlSafe, Pool};

/// A database under test.
pub trait Database: OutboxDatabase {
    /// A pool on a new database, and the file of a database that is one.
    async fn fresh() -> (Pool<Self>, Option<SqliteFile>);

    /// Runs a statement.
    fn run(
        conn: &mut Self::Connection,
        sql: &str,
    ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send;

    /// Runs statements as they are, one after the other.
    fn raw(
        conn: &mut Self::Connection,
        sql: &str,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Reads one number.
    async fn number(pool: &Pool<Self>, sql: &str) -> i64;

    /// Reads one text of each row.
    async fn texts(pool: &Pool<Self>, sql: &str) -> Vec<String>;

    /// Runs a statement on a connection of the pool.
    async fn run_on(pool: &Pool<Self>, sql: &str) -> u64 {
        let mut conn = pool.acquire().await.expect("a connection");
        Self::run(&mut conn, sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

/// Whether the server is MariaDB, which tells an INSERT that its transaction is over. MySQL does not.
pub async fn is_mariadb(pool: &sqlx::MySqlPool) -> bool {
    let version = sqlx::MySql::texts(pool, "SELECT VERSION()").await;
    version.concat().contains("MariaDB")
}

macro_rules! database {
    ($database:ty, $fresh:expr) => {
        impl Database for $database {
            async fn fresh() -> (Pool<Self>, Option<SqliteFile>) {
                $fresh.await
            }

            async fn run(conn: &mut Self::Connection, sql: &str) -> Result<u64, sqlx::Error> {
                // MySQL prepares no such statement.
                let is_raw = ["CREATE TRIGGER ", "DROP TRIGGER ", "USE "];
                if is_raw.iter().any(|word| sql.starts_with(word)) {
                    return Self::raw(conn, sql).await.map(|()| 0);
                }
                let result = sqlx::query(AssertSqlSafe(sql.to_owned()))
                    .execute(conn)
                    .await?;
                Ok(result.rows_affected())
            }

            async fn raw(conn: &mut Self::Connection, sql: &str) -> Result<(), sqlx::Error> {
                let statements = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
                statements.execute(conn).await.map(drop)
            }

            async fn number(pool: &Pool<Self>, sql: &str) -> i64 {
                sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
                    .fetch_one(pool)
                    .await
                    .unwrap_or_else(|error| panic!("{sql}: {error}"))
            }

            async fn texts(pool: &Pool<Self>, sql: &str) -> Vec<String> {
                sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
                    .fetch_all(pool)
                    .await
                    .unwrap_or_else(|error| panic!("{sql}: {error}"))
            }
        }
    };
}

database!(sqlx::Postgres, async {
    let url = final_tests::pg_database().await.expect("PostgreSQL");
    let options = sqlx::postgres::PgPoolOptions::new().max_connections(10);
    (options.connect(&url).await.expect("connected"), None)
});
database!(sqlx::MySql, async {
    let url = final_tests::mysql_database().await.expect("MariaDB");
    let options = sqlx::mysql::MySqlPoolOptions::new().max_connections(10);
    (options.connect(&url).await.expect("connected"), None)
});
database!(sqlx::Sqlite, async {
    let file = final_tests::sqlite_file().expect("a file");
    let options = sqlx::sqlite::SqlitePoolOptions::new().max_connections(10);
    (
        options.connect(&file.url()).await.expect("opened"),
        Some(file),
    )
});
