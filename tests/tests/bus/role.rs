//! The privileges that the role of a service needs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use final_core::{Bus, MemoryBroker, Router, SqlBroker, broker::Broker, log::NumbersWentBack};
use final_tests::eventually;
use sqlx::{AssertSqlSafe, Executor, PgPool, postgres::PgConnectOptions};

use crate::house::SOON;

/// Handles one message. Where there is an outbox, the message goes through a claim.
async fn works(pool: &PgPool, broker: impl Broker + Clone) {
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

async fn run(owner: &PgPool, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    owner.execute(sql).await.expect("done");
}

/// A new role that may use the tables that are there, and a pool of it.
async fn role(owner: &PgPool, url: &str) -> (String, PgPool) {
    let role = format!("final_{}", uuid::Uuid::now_v7().simple());
    run(owner, &format!("CREATE ROLE {role}")).await;
    let tables = format!("ALL TABLES IN SCHEMA public TO {role}");
    let grant = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {tables}");
    run(owner, &grant).await;
    let options: PgConnectOptions = url.parse().expect("a URL");
    let options = options.options([("role", role.as_str())]);
    (
        role,
        PgPool::connect_with(options).await.expect("connected"),
    )
}

async fn drop_role(owner: &PgPool, role: &str) {
    run(owner, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
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
    run(&owner, "REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
    let (role, pool) = role(&owner, &url).await;
    works(&pool, SqlBroker::new(pool.clone())).await;
    works(&pool, MemoryBroker::new()).await;

    pool.close().await;
    drop_role(&owner, &role).await;
}

/// The role may neither read nor raise the sequence, so the owner has to raise it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_not_raise_numbers_that_went_back_is_told_so_and_loses_nothing() {
    let url = final_tests::pg_database().await.expect("PostgreSQL");
    let owner = PgPool::connect(&url).await.expect("connected");
    let bus = Bus::new("shop", owner.clone(), SqlBroker::new(owner.clone()));
    bus.migrate().await.expect("migrate");
    let (role, pool) = role(&owner, &url).await;
    let told = Arc::new(AtomicUsize::new(0));
    let broker = || {
        let told = Arc::clone(&told);
        SqlBroker::new(pool.clone())
            .poll_interval(Duration::from_millis(100))
            .on_read_error(move |error| {
                let back = NumbersWentBack::of(error).expect("nothing else fails");
                assert_eq!(back.highest, 20);
                told.fetch_add(1, Ordering::Relaxed);
            })
    };
    let bus = Bus::new("shop", pool.clone(), broker());
    let (handling, mut handled) = tokio::sync::mpsc::unbounded_channel();
    let router = || {
        let handling = handling.clone();
        Router::new().route("placed", move |number: final_core::Payload<i64>| {
            let sent = handling.send(number.0);
            async move { sent.map_err(|_| "the test is over") }
        })
    };
    bus.start(router()).await.expect("start");
    for n in 0..20 {
        bus.publish("placed", &n).await.expect("publish");
    }
    let mut seen = Vec::new();
    while seen.len() < 20 {
        seen.extend(handled.recv().await);
    }
    seen.sort_unstable();
    assert_eq!(seen, Vec::from_iter(0..20));
    // A starting bus compares with the watermark, because it may not read the sequence.
    eventually("the watermark", SOON, async || {
        let seq = "SELECT seq FROM final_log_watermarks WHERE id = 0";
        let seq: i64 = sqlx::query_scalar(seq)
            .fetch_one(&owner)
            .await
            .expect("seq");
        seq == 20
    })
    .await;

    run(&owner, "TRUNCATE final_log RESTART IDENTITY").await;
    bus.publish("placed", &20).await.expect("publish");
    eventually("the hook", SOON, async || told.load(Ordering::Relaxed) > 0).await;
    let second = Bus::new("shop", pool.clone(), broker());
    let error = second.start(router()).await.expect_err("the numbers");
    let cause = std::error::Error::source(&error).expect("a cause");
    assert!(
        format!("{cause:?}").contains("NumbersWentBack"),
        "{cause:?}"
    );

    run(&owner, "SELECT setval('final_log_seq_seq', 1000)").await;
    assert_eq!(handled.recv().await, Some(20));
    bus.shutdown().await.expect("shutdown");
    pool.close().await;
    drop_role(&owner, &role).await;
}
