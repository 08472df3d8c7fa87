//! A fresh database of each kind.

use final_reconcile::Side;
use final_tests::shared;
use sqlx::{AssertSqlSafe, MySqlPool, PgPool, SqlitePool};

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Db {
    Postgres,
    Maria,
    Sqlite,
}

pub const ALL: [Db; 3] = [Db::Postgres, Db::Maria, Db::Sqlite];

/// One of each.
pub struct Place {
    pub postgres: PgPool,
    pub mariadb: MySqlPool,
    pub sqlite: SqlitePool,
    pub postgres_url: String,
    pub mariadb_url: String,
    _file: shared::SqliteFile,
}

impl Place {
    pub async fn fresh() -> Self {
        let file = shared::sqlite_file().unwrap();
        let (postgres, mariadb) = tokio::join!(shared::pg_database(), shared::mysql_database());
        let (postgres, mariadb) = (postgres.unwrap(), mariadb.unwrap());
        Self {
            postgres: PgPool::connect_lazy(&postgres).unwrap(),
            mariadb: MySqlPool::connect_lazy(&mariadb).unwrap(),
            sqlite: SqlitePool::connect_lazy(&file.url()).unwrap(),
            postgres_url: postgres,
            mariadb_url: mariadb,
            _file: file,
        }
    }

    /// Runs a statement.
    pub async fn run(&self, db: Db, sql: impl Into<String>) {
        let sql = AssertSqlSafe(sql.into());
        let shown = sql.0.clone();
        let done = match db {
            Db::Postgres => sqlx::raw_sql(sql).execute(&self.postgres).await.map(drop),
            Db::Maria => sqlx::raw_sql(sql).execute(&self.mariadb).await.map(drop),
            Db::Sqlite => sqlx::raw_sql(sql).execute(&self.sqlite).await.map(drop),
        };
        if let Err(error) = done {
            panic!("{error}: {}", shown.chars().take(2_000).collect::<String>());
        }
    }

    pub fn side(&self, db: Db, table: &str) -> Side {
        match db {
            Db::Postgres => Side::postgres(self.postgres.clone(), table),
            Db::Maria => Side::mysql(self.mariadb.clone(), table),
            Db::Sqlite => Side::sqlite(self.sqlite.clone(), table),
        }
    }
}

impl Place {
    /// The whole numbers of column `v`, in order.
    pub async fn numbers(&self, db: Db, sql: &str) -> Vec<i64> {
        let texts = self.texts(db, sql).await;
        let mut numbers: Vec<i64> = texts.iter().map(|text| text.parse().unwrap()).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Column `v` as texts, in order.
    pub async fn texts(&self, db: Db, sql: &str) -> Vec<String> {
        let text = if db == Db::Maria { "CHAR" } else { "text" };
        let sql = AssertSqlSafe(format!("SELECT CAST(v AS {text}) FROM ({sql}) s"));
        let texts = match db {
            Db::Postgres => sqlx::query_scalar(sql).fetch_all(&self.postgres).await,
            Db::Maria => sqlx::query_scalar(sql).fetch_all(&self.mariadb).await,
            Db::Sqlite => sqlx::query_scalar(sql).fetch_all(&self.sqlite).await,
        };
        let mut texts: Vec<String> = texts.unwrap();
        texts.sort();
        texts
    }
}
