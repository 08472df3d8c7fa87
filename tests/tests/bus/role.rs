//! What the role of a service has to be allowed.

use final_core::{Bus, MemoryBroker, Router, SqlBroker, broker::Broker};
use final_tests::eventually;
use sqlx::{AssertSqlSafe, Executor, PgPool, Postgres, postgres::PgConnectOptions};

use crate::house::SOON;

/// Handles one message, by way of a claim where the broker has an outbox.
async fn works(pool: &PgPool, broker: impl Broker<Postgres> + Clone) {
    let before = Bus::new("shop", pool.clone(), broker.clone());
    let bus = Bus::new("shop", pool.clone(), broker);
    let router = Router::new().route("placed", |number: final_core::Payload<i64>| {
        assert_eq!(number.0, 1);
        std::future::ready(())
    });
    bus.start(router).await.expect("start");
    before.publish("placed", &1_i64).await.expect("publish");
    bus.wake();
    eventually("it is handled", SOON, async || {
        bus.stats().await.expect("stats").handled == 1
    })
    .await;
    bus.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_the_tables_are_there_a_role_that_may_create_nothing_is_enough() {
    let url = final_tests::pg_database().await.expect("PostgreSQL");
    let owner = PgPool::connect(&url).await.expect("connected");
    for bus in [
        Bus::new("shop", owner.clone(), SqlBroker::new(owner.clone())),
        Bus::new("shop", owner.clone(), MemoryBroker::new()),
    ] {
        bus.migrate().await.expect("migrate");
    }
    let role = format!("final_{}", uuid::Uuid::now_v7().simple());
    let run = async |sql: &str| {
        let sql = AssertSqlSafe(sql.replace("ROLE_NAME", &role));
        owner.execute(sql).await.expect("done");
    };
    run("CREATE ROLE ROLE_NAME; \
         REVOKE CREATE ON SCHEMA public FROM PUBLIC; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ROLE_NAME")
    .await;

    let options: PgConnectOptions = url.parse().expect("a URL");
    let options = options.options([("role", role.as_str())]);
    let pool = PgPool::connect_with(options).await.expect("connected");
    works(&pool, SqlBroker::new(pool.clone())).await;
    works(&pool, MemoryBroker::new()).await;

    pool.close().await;
    run("DROP OWNED BY ROLE_NAME; DROP ROLE ROLE_NAME").await;
}
