//! The log's own connections to PostgreSQL do not wait for the disk, except when they write messages. A
//! message that is visible in the log survives a crash of the server.

use std::time::Duration;

use final_core::{Bus, HandlerError, PgBus, Router, SqlBroker, broker::DeadLetterFilter};
use final_tests::{Postgres, eventually, servers::Setup};
use sqlx::{AssertSqlSafe, PgPool};

use crate::{
    forgotten::keep_from_flushing,
    shop::{SOON, Tally, log},
};

const LONG: Duration = Duration::from_secs(3600);

/// A server without autovacuum. Its commits would flush all earlier commits to the disk.
async fn server() -> (Postgres, PgPool) {
    log();
    let setup = Setup {
        args: ["-c", "autovacuum=off"].map(str::to_owned).to_vec(),
        ..Setup::default()
    };
    let server = Postgres::start_with(setup).await.expect("PostgreSQL");
    let pool = PgPool::connect(&server.url()).await.expect("connected");
    (server, pool)
}

fn broker(pool: &PgPool) -> SqlBroker<sqlx::Postgres> {
    let looks_often = SqlBroker::new(pool.clone()).poll_interval(Duration::from_millis(100));
    looks_often.lease(LONG).keep(LONG)
}

/// Starts a bus on this pool.
async fn bus(pool: &PgPool, router: Router) -> PgBus {
    let bus = Bus::new("mail", pool.clone(), broker(pool));
    bus.start(router).await.expect("a start");
    bus
}

async fn number(pool: &PgPool, sql: &str) -> i64 {
    let number = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
    number.fetch_one(pool).await.expect("a number")
}

/// Kills the server, and starts it again.
async fn crash(server: &Postgres) -> PgPool {
    server.kill9();
    server.start_again().await.expect("PostgreSQL again");
    PgPool::connect(&server.url()).await.expect("connected")
}

/// Kills the server. The last message of the log has to be there when the server is back.
async fn the_last_message_outlives(server: &Postgres, pool: &PgPool) {
    let last = number(pool, "SELECT max(seq) FROM final_log").await;
    let pool = crash(server).await;
    let is_there = format!("SELECT count(*) FROM final_log WHERE seq = {last}");
    let rows = number(&pool, &is_there).await;
    assert_eq!(rows, 1, "number {last} showed, and is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_message_that_was_handled_is_in_the_log_after_a_crash() {
    let (server, pool) = server().await;
    let tally = Tally::default();
    let bus = bus(&pool, tally.router("placed")).await;
    let later = bus.publish("placed", &1_i64).delay(LONG);
    later.await.expect("a message");
    keep_from_flushing(&pool).await.expect("a lazy server");

    let mut time_passes = pool.begin().await.expect("BEGIN");
    for statement in [
        "SET LOCAL synchronous_commit = off",
        "UPDATE final_log_scheduled SET due_at = 0",
    ] {
        let done = sqlx::query(statement).execute(&mut *time_passes).await;
        done.expect(statement);
    }
    time_passes.commit().await.expect("COMMIT");
    tally.has_all([1]).await;
    the_last_message_outlives(&server, &pool).await;
    bus.shutdown().await.expect("a shutdown");
}

/// During a rolling deployment an instance without the handler hands the message on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_was_handed_on_is_in_the_log_after_a_crash() {
    let (server, pool) = server().await;
    let both = Router::new().route("placed", async || {});
    let newer = bus(&pool, both.route("shipped", async || {})).await;
    newer.shutdown().await.expect("a shutdown");
    let older = bus(&pool, Router::new().route("placed", async || {})).await;
    keep_from_flushing(&pool).await.expect("a lazy server");

    older.publish("shipped", &1_i64).await.expect("a message");
    let handed_on = "SELECT count(*) FROM final_log WHERE recipient = 'mail'";
    eventually("a message handed on", SOON, async || {
        number(&pool, handed_on).await > 0
    })
    .await;
    the_last_message_outlives(&server, &pool).await;
    older.shutdown().await.expect("a shutdown");
}

/// The outbox has deleted the record, so the message would be lost for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_another_databases_outbox_is_in_the_log_after_a_crash() {
    let (server, pool) = server().await;
    let tally = Tally::default();
    let mail = bus(&pool, tally.router("placed")).await;
    let elsewhere = final_tests::pg_database().await.expect("PostgreSQL");
    let elsewhere = PgPool::connect(&elsewhere).await.expect("connected");
    let far: PgBus = Bus::new("far", elsewhere, broker(&pool));
    far.start(Router::new()).await.expect("a start");
    keep_from_flushing(&pool).await.expect("a lazy server");

    far.publish("placed", &1_i64).await.expect("a message");
    tally.has_all([1]).await;
    crate::shop::outbox_is_empty(&far).await;
    the_last_message_outlives(&server, &pool).await;
    far.shutdown().await.expect("a shutdown");
    mail.shutdown().await.expect("a shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_that_were_put_back_or_thrown_away_stay_so_after_a_crash() {
    let (server, pool) = server().await;
    let refuse = async || Err::<(), _>(HandlerError::permanent("no"));
    let bus = bus(&pool, Router::new().route("placed", refuse)).await;
    for order in 0..2_i64 {
        bus.publish("placed", &order).await.expect("a message");
    }
    let letters = "SELECT count(*) FROM final_log_dead";
    eventually("two dead letters", SOON, async || {
        number(&pool, letters).await == 2
    })
    .await;
    bus.shutdown().await.expect("a shutdown");
    let one = DeadLetterFilter::all().limit(1);

    keep_from_flushing(&pool).await.expect("a lazy server");
    let back = broker(&pool).replay("mail", &one).await;
    assert_eq!(back.expect("put back"), 1);
    the_last_message_outlives(&server, &pool).await;

    let pool = PgPool::connect(&server.url()).await.expect("connected");
    keep_from_flushing(&pool).await.expect("a lazy server");
    let gone = broker(&pool).discard("mail", &one).await;
    assert_eq!(gone.expect("thrown away"), 1);
    let pool = crash(&server).await;
    assert_eq!(number(&pool, letters).await, 0);
}
