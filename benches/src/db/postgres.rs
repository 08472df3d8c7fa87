//! By hand on PostgreSQL.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Pool, Postgres, Transaction, postgres::PgPoolOptions};
use uuid::Uuid;

use super::{Db, Place, by_hand, micros as lease_number};
use crate::Result;

const ORDERS: &str = "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
    number bigint NOT NULL, customer text NOT NULL, total bigint NOT NULL)";
const BEGIN: &str = "BEGIN";
const INSERT_ORDER: &str = "INSERT INTO orders (number, customer, total) VALUES ($1, $2, $3)";
const INSERT_RECORD: &str = "INSERT INTO final_bench_outbox (message_id, topic, payload, \
    content_type, durable, status, due_at, available_at, claimed_by, created_at) \
    VALUES ($1, $2, $3, 'application/msgpack', true, 0, statement_timestamp(), \
    statement_timestamp() + $4 * interval '1 microsecond', $5, statement_timestamp())";
const INSERT_LOG: &str = "INSERT INTO final_log (message_id, topic, payload, lane, content_type, \
    durable, weight, created_at) VALUES ($1, $2, $3, $4, 'application/msgpack', 1, 600, \
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)";

impl Db for Postgres {
    const LABEL: &'static str = "postgres";
    const KEEP: &'static str = "INSERT INTO final_bench_outbox (message_id, topic, payload, \
        content_type, durable, status, due_at, available_at, created_at, sent_at, acked_at) \
        SELECT gen_random_uuid(), 'bench.orders', decode(repeat('2a', 100), 'hex'), \
        'application/msgpack', true, 2, now(), now(), now(), now(), now() \
        FROM generate_series(1, 100000)";

    async fn fresh() -> Result<Place<Self>> {
        let url = final_tests::pg_database().await?;
        let pool = Self::connect(&url).await?;
        sqlx::query(ORDERS).execute(&pool).await?;
        Ok(Place {
            pool,
            url,
            _file: None,
        })
    }

    async fn connect(url: &str) -> Result<Pool<Self>> {
        Ok(PgPoolOptions::new()
            .max_connections(40)
            .connect(url)
            .await?)
    }

    async fn remove(pool: &Pool<Self>, ids: &[Uuid]) -> Result<()> {
        sqlx::query("DELETE FROM final_bench_outbox WHERE message_id = ANY($1)")
            .bind(ids)
            .execute(pool)
            .await?;
        Ok(())
    }

    by_hand!(Postgres);
}
