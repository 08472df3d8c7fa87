//! A fresh database with the table of orders, and how it is looked into.

use std::time::{Duration, Instant};

use sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::Result;

/// The business row, in all languages.
pub(crate) const INSERT_ORDER: &str =
    "INSERT INTO orders (number, customer, total) VALUES ($1, $2, $3)";
pub(crate) const CUSTOMER: &str = "a customer of the shop";
pub(crate) const TOTAL: i64 = 4_200;

/// How many connections every side's pool may have: more than it has writers or workers.
pub(crate) const CONNECTIONS: u32 = 40;

/// A database made for one play.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) pool: PgPool,
}

impl Place {
    pub(crate) async fn new() -> Result<Self> {
        let url = final_tests::pg_database().await?;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .connect(&url)
            .await?;
        let place = Self { url, pool };
        place
            .execute(
                "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
                 number bigint NOT NULL, customer text NOT NULL, total bigint NOT NULL)",
            )
            .await?;
        Ok(place)
    }

    pub(crate) async fn execute(&self, sql: &'static str) -> Result<()> {
        sqlx::query(sql).execute(&self.pool).await?;
        Ok(())
    }

    /// An error unless a table has so many rows.
    pub(crate) async fn has(&self, count: u64, table: &str) -> Result<()> {
        let sql = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let found: i64 = sqlx::query_scalar(sql).fetch_one(&self.pool).await?;
        if u64::try_from(found)? != count {
            return Err(format!("{table} has {found} rows and should have {count}").into());
        }
        Ok(())
    }

    /// Waits until there are no such rows. Looks seldom enough not to be in the way.
    pub(crate) async fn has_no_more(&self, rows: &str) -> Result<()> {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {rows})");
        let start = Instant::now();
        while sqlx::query_scalar(AssertSqlSafe(sql.clone()))
            .fetch_one(&self.pool)
            .await?
        {
            if start.elapsed() > Duration::from_secs(600) {
                return Err(format!("after ten minutes there still are rows of {rows}").into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Removes the database, so that the next play finds the server as this one did.
    pub(crate) async fn remove(self) -> Result<()> {
        self.pool.close().await;
        let options: PgConnectOptions = self.url.parse()?;
        let name = options.get_database().unwrap_or_default().to_owned();
        let mut other = PgConnection::connect_with(&options.database("postgres")).await?;
        let drop = AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"));
        sqlx::query(drop).execute(&mut other).await?;
        Ok(other.close().await?)
    }
}

/// How outboxes are filled: the number of each transaction, and how many messages are in it.
pub(crate) fn thousands(messages: u64) -> impl Iterator<Item = (u64, u64)> {
    let transactions = 0..messages.div_ceil(1_000);
    transactions.map(move |number| (number, (messages - number * 1_000).min(1_000)))
}

/// The business row, for those who speak sqlx 0.9.
pub(crate) async fn insert_order(conn: &mut PgConnection, number: u64) -> Result<()> {
    sqlx::query(INSERT_ORDER)
        .bind(number as i64)
        .bind(CUSTOMER)
        .bind(TOTAL)
        .execute(conn)
        .await?;
    Ok(())
}
