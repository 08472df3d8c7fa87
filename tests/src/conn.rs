//! One connection to PostgreSQL or MariaDB, for a test that has the same statements for both.
//!
//! Input: SQL that the test has put together. Output: its effect, by the plain protocol of either server.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection, PgConnection};

/// A connection to a server of either kind.
#[derive(Debug)]
pub enum Conn {
    /// To PostgreSQL.
    Postgres(Box<PgConnection>),
    /// To MariaDB or MySQL.
    MariaDb(Box<MySqlConnection>),
}

impl Conn {
    /// Connects to the server of this URL.
    pub async fn open(url: &str) -> Result<Self, sqlx::Error> {
        Ok(match url.starts_with("postgres") {
            true => Self::Postgres(Box::new(PgConnection::connect(url).await?)),
            false => Self::MariaDb(Box::new(MySqlConnection::connect(url).await?)),
        })
    }

    /// Runs statements without arguments.
    pub async fn run(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::Postgres(conn) => conn.execute(sql).await.map(drop),
            Self::MariaDb(conn) => conn.execute(sql).await.map(drop),
        }
    }

    /// One number.
    pub async fn number(&mut self, sql: &str) -> Result<i64, sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Postgres(conn) => sqlx::query_scalar(sql).fetch_one(&mut **conn).await,
            Self::MariaDb(conn) => sqlx::query_scalar(sql).fetch_one(&mut **conn).await,
        }
    }

    /// Rows of two numbers.
    pub async fn pairs(&mut self, sql: &str) -> Result<Vec<(i64, i64)>, sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Postgres(conn) => sqlx::query_as(sql).fetch_all(&mut **conn).await,
            Self::MariaDb(conn) => sqlx::query_as(sql).fetch_all(&mut **conn).await,
        }
    }

    /// How many rows a statement gives.
    pub async fn count(&mut self, sql: &str) -> Result<usize, sqlx::Error> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        Ok(match self {
            Self::Postgres(conn) => conn.fetch_all(sql).await?.len(),
            Self::MariaDb(conn) => conn.fetch_all(sql).await?.len(),
        })
    }

    /// One text.
    pub async fn text(&mut self, sql: &str) -> Result<String, sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Postgres(conn) => sqlx::query_scalar(sql).fetch_one(&mut **conn).await,
            Self::MariaDb(conn) => sqlx::query_scalar(sql).fetch_one(&mut **conn).await,
        }
    }
}
