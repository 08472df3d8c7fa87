//! The tables that are compared: the same rows on both servers.

use final_reconcile::Side;
use sqlx::{AssertSqlSafe, Executor as _, MySql, MySqlPool, PgPool, Postgres};

use crate::{
    Result,
    db::{Db, Place},
};

/// The name of each table, in a database of its own.
pub(super) const TABLE: &str = "orders_copy";

/// So many rows are made by one statement.
const STEP: u64 = 500_000;

/// A table with the rows 1, 2, 3, …
#[derive(Debug)]
pub(super) struct Table {
    pub(super) rows: u64,
    pub(super) place: Server,
}

/// The database in which it is.
#[derive(Debug)]
pub(super) enum Server {
    Postgres(Place<Postgres>),
    MariaDb(Place<MySql>),
}

impl Table {
    pub(super) async fn postgres(rows: u64) -> Result<Self> {
        let table = Self {
            rows,
            place: Server::Postgres(Postgres::fresh().await?),
        };
        let create = "(id bigint PRIMARY KEY, customer varchar(100) NOT NULL, total numeric(10, 2) NOT NULL, \
            placed timestamp(6) NOT NULL, note varchar(200))";
        table.run(&format!("CREATE TABLE {TABLE} {create}")).await?;
        table
            .fill(|from, to| {
                format!(
                    "INSERT INTO {TABLE} SELECT n, 'customer ' || n % 100003 || ' of the shop', n % 10000 / 100.0, \
                     timestamp '2026-01-01' + n * interval '1234567 microseconds', \
                     CASE WHEN n % 3 > 0 THEN 'a note of the order ' || n END FROM generate_series({from}, {to}) n"
                )
            })
            .await?;
        // What the server would do by itself after a while.
        table.run(&format!("VACUUM (ANALYZE) {TABLE}")).await?;
        table.run("CHECKPOINT").await?;
        Ok(table)
    }

    pub(super) async fn mariadb(rows: u64) -> Result<Self> {
        let table = Self {
            rows,
            place: Server::MariaDb(MySql::fresh().await?),
        };
        let create = "(id BIGINT PRIMARY KEY, customer VARCHAR(100) NOT NULL, total DECIMAL(10, 2) NOT NULL, \
            placed DATETIME(6) NOT NULL, note VARCHAR(200)) CHARACTER SET utf8mb4";
        table.run(&format!("CREATE TABLE {TABLE} {create}")).await?;
        table
            .fill(|from, to| {
                format!(
                    "INSERT INTO {TABLE} SELECT seq, CONCAT('customer ', seq % 100003, ' of the shop'), \
                     seq % 10000 / 100, TIMESTAMPADD(MICROSECOND, seq * 1234567, '2026-01-01'), \
                     IF(seq % 3 > 0, CONCAT('a note of the order ', seq), NULL) FROM seq_{from}_to_{to}"
                )
            })
            .await?;
        table.run(&format!("ANALYZE TABLE {TABLE}")).await?;
        Ok(table)
    }

    async fn fill(&self, insert: impl Fn(u64, u64) -> String) -> Result<()> {
        let mut from = 1;
        while from <= self.rows {
            let to = (from + STEP - 1).min(self.rows);
            self.run(&insert(from, to)).await?;
            from = to + 1;
        }
        Ok(())
    }

    /// Runs a statement.
    pub(super) async fn run(&self, sql: &str) -> Result<()> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match &self.place {
            Server::Postgres(place) => place.pool.execute(sql).await.map(drop)?,
            Server::MariaDb(place) => place.pool.execute(sql).await.map(drop)?,
        }
        Ok(())
    }

    /// One row in a thousand gets another value.
    pub(super) async fn change_one_in_a_thousand(&self) -> Result<()> {
        self.change("+").await
    }

    pub(super) async fn change_back(&self) -> Result<()> {
        self.change("-").await
    }

    async fn change(&self, sign: &str) -> Result<()> {
        let sql = format!("UPDATE {TABLE} SET total = total {sign} 1 WHERE id % 1000 = 7");
        self.run(&sql).await?;
        match self.place {
            Server::Postgres(_) => self.run(&format!("VACUUM {TABLE}")).await,
            Server::MariaDb(_) => Ok(()),
        }
    }

    pub(super) fn url(&self) -> &str {
        match &self.place {
            Server::Postgres(place) => &place.url,
            Server::MariaDb(place) => &place.url,
        }
    }

    pub(super) fn side(&self) -> Side {
        match &self.place {
            Server::Postgres(place) => Side::postgres(place.pool.clone(), TABLE),
            Server::MariaDb(place) => Side::mysql(place.pool.clone(), TABLE),
        }
    }
}

/// The table at a URL.
pub(super) fn side_at(url: &str, table: &str) -> Result<Side> {
    Ok(match url.starts_with("postgres") {
        true => Side::postgres(PgPool::connect_lazy(url)?, table),
        false => Side::mysql(MySqlPool::connect_lazy(url)?, table),
    })
}
