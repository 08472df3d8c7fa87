//! By hand on SQLite, with `synchronous = FULL`: what is committed survives a power loss, as on the
//! others.

use std::{str::FromStr, time::Duration};

use sqlx::{
    AssertSqlSafe, Pool, Sqlite, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use uuid::Uuid;

use super::{Db, Place, by_hand};
use crate::Result;

const ORDERS: &str = "CREATE TABLE orders (id INTEGER PRIMARY KEY, number INTEGER NOT NULL, \
    customer TEXT NOT NULL, total INTEGER NOT NULL)";
const BEGIN: &str = "BEGIN IMMEDIATE";
const INSERT_ORDER: &str = "INSERT INTO orders (number, customer, total) VALUES (?, ?, ?)";
const INSERT_RECORD: &str = "INSERT INTO final_bench_outbox (message_id, topic, payload, \
    content_type, durable, status, due_at, available_at, claimed_by, created_at) \
    VALUES (?, ?, ?, 'application/msgpack', true, 0, CAST(unixepoch('subsec') * 1000 AS INTEGER), \
    CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?, ?, \
    CAST(unixepoch('subsec') * 1000 AS INTEGER))";
const INSERT_LOG: &str = "INSERT INTO final_log (message_id, topic, payload, lane, content_type, \
    durable, weight, created_at) VALUES (?, ?, ?, ?, 'application/msgpack', 1, 600, \
    CAST(unixepoch('subsec') * 1000000 AS INTEGER))";

impl Db for Sqlite {
    const LABEL: &'static str = "sqlite";
    const KEEP: &'static str = "INSERT INTO final_bench_outbox (message_id, topic, payload, \
        content_type, durable, status, due_at, available_at, created_at, sent_at, acked_at) \
        WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100000) \
        SELECT randomblob(16), 'bench.orders', randomblob(100), 'application/msgpack', true, 2, \
        1, 1, 1, 1, unixepoch() * 1000 FROM n";

    async fn fresh() -> Result<Place<Self>> {
        let file = final_tests::sqlite_file()?;
        let url = file.url();
        let pool = Self::connect(&url).await?;
        sqlx::query(ORDERS).execute(&pool).await?;
        Ok(Place {
            pool,
            url,
            _file: Some(file),
        })
    }

    async fn relaxed(place: &Place<Self>) -> Result<Option<Pool<Self>>> {
        let pool = connect(&place.url, SqliteSynchronous::Normal).await?;
        Ok(Some(pool))
    }

    async fn connect(url: &str) -> Result<Pool<Self>> {
        connect(url, SqliteSynchronous::Full).await
    }

    async fn remove(pool: &Pool<Self>, ids: &[Uuid]) -> Result<()> {
        let ids: Vec<_> = ids.iter().map(|id| id.simple().to_string()).collect();
        sqlx::query(
            "DELETE FROM final_bench_outbox \
             WHERE message_id IN (SELECT unhex(value) FROM json_each(?))",
        )
        .bind(serde_json::to_string(&ids)?)
        .execute(pool)
        .await?;
        Ok(())
    }

    by_hand!(Sqlite);
}

/// Milliseconds, which is what the table counts here.
fn lease_number(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

async fn connect(url: &str, synchronous: SqliteSynchronous) -> Result<Pool<Sqlite>> {
    let options = SqliteConnectOptions::from_str(url)?
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .busy_timeout(Duration::from_secs(60));
    let pool = SqlitePoolOptions::new().max_connections(8);
    Ok(pool.connect_with(options).await?)
}
