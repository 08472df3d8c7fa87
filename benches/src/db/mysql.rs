//! By hand on MariaDB.

use std::time::Duration;

use sqlx::{AssertSqlSafe, MySql, Pool, Transaction, mysql::MySqlPoolOptions};
use uuid::Uuid;

use super::{Db, Place, by_hand, micros as lease_number};
use crate::Result;

const ORDERS: &str = "CREATE TABLE orders (id BIGINT AUTO_INCREMENT PRIMARY KEY, \
    number BIGINT NOT NULL, customer VARCHAR(100) NOT NULL, total BIGINT NOT NULL)";
const BEGIN: &str = "BEGIN";
const INSERT_ORDER: &str = "INSERT INTO orders (number, customer, total) VALUES (?, ?, ?)";
const INSERT_RECORD: &str = "INSERT INTO final_bench_outbox (message_id, topic, payload, \
    content_type, durable, status, due_at, available_at, claimed_by, created_at) \
    VALUES (?, ?, ?, 'application/msgpack', true, 0, UTC_TIMESTAMP(6), \
    UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND, ?, UTC_TIMESTAMP(6))";
const INSERT_LOG: &str = "INSERT INTO final_log (message_id, topic, payload, lane, content_type, \
    durable, weight, created_at) VALUES (?, ?, ?, ?, 'application/msgpack', 1, 600, \
    TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1970-01-01 00:00:00.000000', UTC_TIMESTAMP(6)))";

impl Db for MySql {
    const LABEL: &'static str = "mariadb";
    const KEEP: &'static str = "INSERT INTO final_bench_outbox (message_id, topic, payload, \
        content_type, durable, status, due_at, available_at, created_at, sent_at, acked_at) \
        SELECT UNHEX(REPLACE(UUID(), '-', '')), 'bench.orders', REPEAT('*', 100), \
        'application/msgpack', true, 2, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), \
        UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) FROM seq_1_to_100000";

    async fn fresh() -> Result<Place<Self>> {
        let url = final_tests::mysql_database().await?;
        let pool = Self::connect(&url).await?;
        sqlx::query(ORDERS).execute(&pool).await?;
        Ok(Place {
            pool,
            url,
            _file: None,
        })
    }

    async fn connect(url: &str) -> Result<Pool<Self>> {
        Ok(MySqlPoolOptions::new()
            .max_connections(40)
            .connect(url)
            .await?)
    }

    async fn remove(pool: &Pool<Self>, ids: &[Uuid]) -> Result<()> {
        let marks = vec!["?"; ids.len()].join(", ");
        let sql = format!(
            "DELETE FROM final_bench_outbox WHERE message_id IN ({marks}) \
             ORDER BY message_id LIMIT {}",
            ids.len()
        );
        let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        for id in ids {
            query = query.bind(*id);
        }
        query.execute(pool).await?;
        Ok(())
    }

    by_hand!(MySql);
}
