//! A database that is captured: a server of its own with the settings for it, and the same rows for every side.

use std::{sync::Arc, time::Duration};

use final_capture::{
    Capture,
    position::Position,
    select::Selection,
    source::{Source, mysql::MySqlSource, postgres::PgSource},
};
use final_tests::{MariaDb, Postgres, servers::Setup};
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, MySqlConnection, MySqlPool, PgConnection,
    PgPool, mysql::MySqlPoolOptions, postgres::PgPoolOptions,
};

use crate::Result;

/// The captured table, as a pattern.
pub(super) const TABLE: &str = "shop.orders";
/// Its topic.
pub(super) const TOPIC: &str = "cdc.shop.orders";
/// The publication that the sides share which do not make their own.
pub(super) const PUBLICATION: &str = "bench";

const COLUMNS: &str = "(id BIGINT PRIMARY KEY, customer VARCHAR(100) NOT NULL, total DECIMAL(10, 2) NOT NULL, \
    placed TIMESTAMP(6) NOT NULL, note VARCHAR(200))";

/// A capture of the table at that source, without a target. On PostgreSQL its slot and publication have its name.
pub(super) fn capture_of(url: &str, name: &str) -> Result<Capture> {
    let selection = Selection::tables([TABLE]);
    Ok(match url.starts_with("postgres") {
        true => {
            let source = PgSource::new(url)?.slot(name)?.publication(name)?;
            Capture::new(name, source, selection)
        }
        false => Capture::new(name, MySqlSource::new(url)?, selection),
    })
}

/// A server that is captured.
#[derive(Clone, Debug)]
pub(super) enum CaptureSource {
    Postgres(Postgres),
    MariaDb(MariaDb),
}

impl CaptureSource {
    pub(super) async fn postgres() -> Result<Self> {
        let settings = ["wal_level=logical", "max_replication_slots=50"];
        let args = settings.map(|it| ["-c".to_owned(), it.to_owned()]);
        let setup = Setup {
            args: args.into_iter().flatten().collect(),
            ..Setup::default()
        };
        let source = Self::Postgres(Postgres::start_with(setup).await?);
        source.run("CREATE SCHEMA shop").await?;
        source
            .run(&format!("CREATE TABLE {TABLE} {COLUMNS}"))
            .await?;
        source
            .run(&format!(
                "CREATE PUBLICATION {PUBLICATION} FOR TABLE {TABLE}"
            ))
            .await?;
        Ok(source)
    }

    pub(super) async fn mariadb() -> Result<Self> {
        let args = [
            "--log-bin=binlog",
            "--server-id=1",
            "--binlog-format=ROW",
            "--binlog-row-metadata=FULL",
        ];
        let setup = Setup {
            args: args.map(str::to_owned).to_vec(),
            ..Setup::default()
        };
        let source = Self::MariaDb(MariaDb::start_with(setup).await?);
        source.run("CREATE DATABASE shop").await?;
        source
            .run(&format!("CREATE TABLE {TABLE} {COLUMNS}"))
            .await?;
        Ok(source)
    }

    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::MariaDb(_) => "mariadb",
        }
    }

    pub(super) fn url(&self) -> String {
        match self {
            Self::Postgres(server) => server.url(),
            Self::MariaDb(server) => server.url(),
        }
    }

    /// Runs a statement on a connection of its own.
    pub(super) async fn run(&self, sql: &str) -> Result<()> {
        self.run_all(&[sql]).await
    }

    /// Runs statements on one connection, each alone.
    async fn run_all(&self, statements: &[&str]) -> Result<()> {
        let query = |sql: &&str| sqlx::raw_sql(AssertSqlSafe((*sql).to_owned()));
        match self {
            Self::Postgres(server) => {
                let mut conn = PgConnection::connect(&server.url()).await?;
                for statement in statements {
                    conn.execute(query(statement)).await?;
                }
            }
            Self::MariaDb(server) => {
                let mut conn = MySqlConnection::connect(&server.url()).await?;
                for statement in statements {
                    conn.execute(query(statement)).await?;
                }
            }
        }
        Ok(())
    }

    /// So many new rows, in transactions of so many, from that number on.
    pub(super) async fn load(&self, from: u64, rows: u64, per_transaction: u64) -> Result<()> {
        let columns = "(id, customer, total, placed, note)";
        if per_transaction >= rows {
            let last = from + rows - 1;
            let numbers = match self {
                Self::Postgres(_) => format!("generate_series({from}, {last}) AS n(seq)"),
                Self::MariaDb(_) => format!("shop.seq_{from}_to_{last}"),
            };
            let sql = format!(
                "INSERT INTO {TABLE} {columns} SELECT {} FROM {numbers}",
                row("seq")
            );
            return self.run(&sql).await;
        }
        // In a loop within the server: no client is to be the slow one. Nor is the disk: it catches up at the end.
        let (transactions, last) = (rows / per_transaction, per_transaction - 1);
        match self {
            Self::Postgres(_) => {
                let work = format!(
                    "DO $$ BEGIN FOR i IN 0..{} LOOP INSERT INTO {TABLE} {columns} SELECT {} \
                     FROM generate_series(0, {last}) AS n(step); COMMIT; END LOOP; END $$",
                    transactions - 1,
                    row(&format!("({from} + i * {per_transaction} + step)")),
                );
                let off = "SET synchronous_commit = off";
                self.run_all(&[off, &work, "CHECKPOINT"]).await
            }
            Self::MariaDb(_) => {
                let work = format!(
                    "BEGIN NOT ATOMIC DECLARE i BIGINT DEFAULT 0; WHILE i < {transactions} DO \
                     INSERT INTO {TABLE} {columns} SELECT {} FROM shop.seq_0_to_{last}; SET i = i + 1; END WHILE; END",
                    row(&format!("({from} + i * {per_transaction} + seq)")),
                );
                let flush = |when| format!("SET GLOBAL innodb_flush_log_at_trx_commit = {when}");
                self.run_all(&[&flush(0), &work, &flush(1)]).await
            }
        }
    }

    /// Removes all rows, and what the log of the server has of them as far as it can.
    pub(super) async fn clear(&self) -> Result<()> {
        self.run(&format!("TRUNCATE TABLE {TABLE}")).await?;
        match self {
            Self::Postgres(_) => self.run("CHECKPOINT").await,
            Self::MariaDb(_) => {
                let purge = "PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY";
                self.run_all(&["FLUSH BINARY LOGS", purge]).await
            }
        }
    }

    /// A capture of it, without a target.
    pub(super) fn capture(&self, name: &str) -> Result<Capture> {
        capture_of(&self.url(), name)
    }

    /// So many connections that insert a row at a time.
    pub(super) async fn writers(&self, count: u32) -> Result<Writers> {
        Ok(match self {
            Self::Postgres(server) => {
                let pool = PgPoolOptions::new().max_connections(count);
                Writers::Postgres(pool.min_connections(count).connect(&server.url()).await?)
            }
            Self::MariaDb(server) => {
                let pool = MySqlPoolOptions::new().max_connections(count);
                Writers::MariaDb(pool.min_connections(count).connect(&server.url()).await?)
            }
        })
    }

    /// Our reader of it, alone.
    pub(super) fn reader(&self, name: &str) -> Result<Arc<dyn Source>> {
        Ok(match self {
            Self::Postgres(server) => {
                let source = PgSource::new(&server.url())?;
                Arc::new(source.slot(name)?.publication(name)?)
            }
            Self::MariaDb(server) => Arc::new(MySqlSource::new(&server.url())?),
        })
    }

    /// Where our reader begins that has read nothing. What is written from now on is after it.
    pub(super) async fn our_position(&self, ours: &dyn Source) -> Result<Position> {
        let opened = ours.open(&Selection::tables([TABLE]), None).await?;
        let (identity, point) = (opened.identity, opened.point);
        opened.reader.close().await;
        Ok(Position {
            identity,
            point,
            partial: None,
        })
    }

    /// Drops a slot and a publication of that name, if the server has such things.
    pub(super) async fn forget(&self, name: &str) -> Result<()> {
        if let Self::Postgres(_) = self {
            // The server may not have noticed yet that its reader has gone.
            let sql = format!("SELECT pg_drop_replication_slot('{name}')");
            let mut tries = 0;
            while let Err(error) = self.run(&sql).await {
                tries += 1;
                if tries > 100 {
                    return Err(error);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let sql = format!("DROP PUBLICATION IF EXISTS {name}");
            self.run(&sql).await?;
        }
        Ok(())
    }
}

/// Connections that insert.
#[derive(Clone, Debug)]
pub(super) enum Writers {
    Postgres(PgPool),
    MariaDb(MySqlPool),
}

impl Writers {
    /// One row, in a transaction of its own.
    pub(super) async fn insert(&self, id: u64) -> Result<()> {
        let sql = format!("INSERT INTO {TABLE} SELECT {}", row(&id.to_string()));
        match self {
            Self::Postgres(pool) => pool.execute(AssertSqlSafe(sql)).await.map(drop)?,
            Self::MariaDb(pool) => pool.execute(AssertSqlSafe(sql)).await.map(drop)?,
        }
        Ok(())
    }
}

/// The values of the row with that number.
fn row(number: &str) -> String {
    format!(
        "{number}, 'a customer of the shop, whose name is not short', {number} % 10000 / 100.0, \
         TIMESTAMP '2026-11-30 12:00:00.123456', concat('a note of the order ', {number})"
    )
}
