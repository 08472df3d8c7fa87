//! A bus that is idle, and a bus that cannot read or write.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use final_core::{Bus, OutboxDatabase, SqlBroker};
use final_tests::{MariaDb, Proxy, eventually};
use sqlx::Pool;

use super::{Held, Log, noting, options};
use crate::{
    database::{Database, is_mariadb},
    house::{Notes, SOON},
};

/// So long that one statement at its beginning or end does not matter.
const SECONDS: u64 = 30;

/// Waits until a bus sends almost no statements after it has handled a message. Statements of the server
/// itself may fall into one such interval, but not into all.
async fn is_quiet<D: OutboxDatabase>(pool: Pool<D>, count: impl AsyncFn() -> i64) {
    let bus = Bus::new("shop", pool.clone(), SqlBroker::new(pool));
    let notes = Notes::default();
    bus.start(noting(&notes, &["placed"])).await.expect("start");
    bus.publish("placed", &1_i64).await.expect("publish");
    notes.reach(1).await;

    eventually("less than one statement a second", SOON * 10, async || {
        let (begin, before) = (Instant::now(), count().await);
        tokio::time::sleep(Duration::from_secs(SECONDS)).await;
        let (sent, took) = (count().await - before, begin.elapsed());
        if (sent as f64) < took.as_secs_f64() {
            Ok(())
        } else {
            Err((sent, took))
        }
    })
    .await;
    bus.publish("placed", &2_i64).await.expect("publish");
    notes.reach(2).await;
    bus.shutdown().await.expect("shutdown");
}

/// Counts transactions, because almost every statement of the bus is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_bus_sends_less_than_a_statement_a_second_to_postgresql() {
    let url = final_tests::pg_database().await.expect("PostgreSQL");
    let elsewhere = final_tests::pg_database().await.expect("PostgreSQL");
    let observer = sqlx::PgPool::connect(&elsewhere).await.expect("connected");
    let pool = sqlx::PgPool::connect(&url).await.expect("connected");
    let name = url.rsplit('/').next().expect("a name");
    let count = format!(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{name}'"
    );
    is_quiet(pool, async || {
        sqlx::Postgres::number(&observer, &count).await
    })
    .await;
}

/// Another member is about to move the message into the log, and stands still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_message_that_is_due_and_locked_is_not_tried_without_a_pause() {
    let log = Log::<sqlx::Postgres>::new().await;
    let name: String = sqlx::query_scalar("SELECT current_database()::text")
        .fetch_one(&log.pool)
        .await
        .expect("a name");
    let elsewhere = final_tests::pg_database().await.expect("PostgreSQL");
    let observer = sqlx::PgPool::connect(&elsewhere).await.expect("connected");
    let count = format!(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{name}'"
    );
    let (bus, notes) = log.noting("shop", &["placed"]).await;
    // The message is not due before it is locked.
    let delayed = bus.publish("placed", &1_i64).delay(Duration::from_secs(3));
    delayed.await.expect("publish");
    let lock = log
        .locked("SELECT seq FROM final_log_scheduled FOR UPDATE")
        .await;
    assert_eq!(notes.len(), 0);

    let begin = Instant::now();
    let before = sqlx::Postgres::number(&observer, &count).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let sent = sqlx::Postgres::number(&observer, &count).await - before;
    let took = begin.elapsed();
    assert!(
        (sent as f64) < 100.0 * took.as_secs_f64(),
        "{sent} transactions in {took:?}"
    );
    lock.rollback().await.expect("rollback");
    notes.reach(1).await;
    bus.shutdown().await.expect("shutdown");
}

/// The test has its own server, because MariaDB counts the statements of all sessions together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_bus_sends_less_than_a_statement_a_second_to_mariadb() {
    let server = MariaDb::start().await.expect("MariaDB");
    let pool = sqlx::MySqlPool::connect(&server.url())
        .await
        .expect("connected");
    let observer = sqlx::MySqlPool::connect(&server.url())
        .await
        .expect("connected");
    let schema = match is_mariadb(&observer).await {
        true => "information_schema",
        false => "performance_schema",
    };
    let count = format!(
        "SELECT CAST(variable_value AS SIGNED) FROM {schema}.global_status \
         WHERE variable_name = 'QUESTIONS'"
    );
    is_quiet(pool, async || sqlx::MySql::number(&observer, &count).await).await;
}

crate::log_suite!(who_wants_to_know_is_told_that_the_progress_cannot_be_written);

/// Makes the test of the hook for each database that can be cut off.
macro_rules! hooks {
    ($($database:ident, $type:ty, $fresh:path;)*) => {$(
        mod $database {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn who_wants_to_know_is_told_that_the_log_cannot_be_read() {
                let url = $fresh().await.expect("a database");
                let proxy = Proxy::to(&url).await.expect("a proxy");
                let pool = Pool::<$type>::connect(&proxy.url(&url)).await.expect("connected");
                reading_fails(&proxy, pool).await;
            }
        }
    )*};
}

hooks! {
    postgres_away, sqlx::Postgres, final_tests::pg_database;
    mariadb_away, sqlx::MySql, final_tests::mysql_database;
}

fn counting() -> (
    Arc<AtomicUsize>,
    impl Fn(&sqlx::Error) + Send + Sync + 'static,
) {
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    (told, move |_: &sqlx::Error| {
        count.fetch_add(1, Ordering::SeqCst);
    })
}

async fn is_told(told: &AtomicUsize) {
    eventually("the news", SOON * 2, async || {
        told.load(Ordering::SeqCst) > 0
    })
    .await;
}

async fn reading_fails<D: Database>(proxy: &Proxy, pool: Pool<D>) {
    let (told, hook) = counting();
    let broker = SqlBroker::new(pool.clone()).on_read_error(hook);
    let (bus, notes) = (
        Bus::new("shop", pool, broker).with_options(options()),
        Notes::default(),
    );
    bus.start(noting(&notes, &["placed"])).await.expect("start");
    bus.publish("placed", &1_i64).await.expect("publish");
    notes.reach(1).await;
    assert_eq!(told.load(Ordering::SeqCst), 0);

    proxy.down();
    is_told(&told).await;
    proxy.up().expect("the port is still ours");
    eventually("a message again", SOON, async || {
        bus.publish("placed", &2_i64).await.is_ok()
    })
    .await;
    notes.reach(2).await;
    bus.shutdown().await.expect("shutdown");
}

async fn who_wants_to_know_is_told_that_the_progress_cannot_be_written<D: Database>(log: Log<D>) {
    let (told, hook) = counting();
    let (bus, held) = (
        log.bus_on("shop", log.broker().on_commit_error(hook)),
        Held::new(),
    );
    bus.start(held.router("placed")).await.expect("start");
    bus.publish("placed", &1_i64).await.expect("publish");
    held.begun.reach(1).await;
    log.has_open("shop", 1).await;
    assert_eq!(told.load(Ordering::SeqCst), 0);

    // Another transaction locks all rows to which the progress is written.
    let mut tx = bus.begin().await.expect("begin");
    let lock = "UPDATE final_log_lanes SET ends_at = ends_at";
    D::run(&mut tx, lock).await.expect("locked");
    held.let_go(1);
    is_told(&told).await;
    tx.rollback().await.expect("rollback");

    log.comes_to("SELECT count(*) FROM final_log", 0).await;
    assert_eq!(held.begun.len(), 1, "and it did not come again");
    bus.shutdown().await.expect("shutdown");
}
