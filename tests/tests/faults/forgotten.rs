//! Commits that a server shows and then forgets, because it dies before they are on the disk.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use final_core::{Bus, MySqlBus, Payload, PgBus, Router, SqlBroker};
use final_tests::{MariaDb, Postgres, eventually, servers::Setup};
use sqlx::{MySqlPool, PgPool};
use tokio::sync::{Notify, mpsc};

use crate::shop::{SOON, log};

const LONG: Duration = Duration::from_secs(3600);

/// From then on InnoDB does not flush its log by itself. Commits flush only where a setting tells them to.
///
/// After its start InnoDB flushes once a second, whatever the settings are.
async fn keep_innodb_from_flushing(pool: &MySqlPool) -> Result<(), sqlx::Error> {
    let run = async |sql: &'static str| sqlx::query(sql).execute(pool).await;
    run("SET GLOBAL innodb_flush_log_at_trx_commit = 0").await?;
    run("CREATE TABLE IF NOT EXISTS flushed (id BIGINT)").await?;
    run("INSERT INTO flushed VALUES (1)").await?;
    let position = async |name: &'static str| {
        let position = "SELECT CAST(variable_value AS SIGNED) FROM information_schema.global_status \
            WHERE variable_name = ?";
        let position = sqlx::query_scalar::<_, i64>(position).bind(name);
        position.fetch_one(pool).await.expect("a position")
    };
    let written = position("innodb_lsn_current").await;
    eventually("a flush by the clock", SOON, async || {
        position("innodb_lsn_flushed").await >= written
    })
    .await;
    run("SET GLOBAL innodb_flush_log_at_timeout = 2700").await?;
    Ok(())
}

/// InnoDB shows a commit to others before it has flushed its log. In this test it does not flush.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_mariadb_shows_before_it_is_on_the_disk_is_not_handled() {
    log();
    let server = MariaDb::start().await.expect("MariaDB");
    let pool = MySqlPool::connect(&server.url()).await.expect("connected");
    let table = "CREATE TABLE orders (id BIGINT PRIMARY KEY)";
    sqlx::query(table).execute(&pool).await.expect("a table");
    let flush = async |when: u8| {
        let set = format!("SET GLOBAL innodb_flush_log_at_trx_commit = {when}");
        let set = sqlx::query(sqlx::AssertSqlSafe(set)).execute(&pool).await;
        set.expect("a setting");
    };
    keep_innodb_from_flushing(&pool)
        .await
        .expect("a lazy server");
    flush(1).await;
    // Nothing else of the bus may write, because a write would flush the log.
    let broker = SqlBroker::new(pool.clone())
        .prefetch(1)
        .commit_within(Duration::from_secs(60))
        .lease(LONG)
        .keep(LONG);
    let bus: MySqlBus = Bus::new("mail", pool.clone(), broker);
    let (router, mut handled, go_on) = held_at_0();
    bus.start(router).await.expect("a start");
    bus.publish("placed", &0_i64).await.expect("a message");
    assert_eq!(soon(&mut handled).await, 0);

    // Nothing is read while that message is in flight.
    flush(0).await;
    let mut tx = bus.with_tx(bus.begin().await.expect("BEGIN"));
    let insert = sqlx::query("INSERT INTO orders VALUES (1)");
    insert.execute(tx.conn()).await.expect("an order");
    tx.publish("placed", &1_i64).await.expect("a message");
    tx.commit().await.expect("COMMIT");
    flush(1).await;
    go_on.notify_one();
    assert_eq!(soon(&mut handled).await, 1);
    server.kill9();
    server.start_again().await.expect("MariaDB again");

    let pool = MySqlPool::connect(&server.url()).await.expect("connected");
    let orders: Vec<i64> = sqlx::query_scalar("SELECT id FROM orders")
        .fetch_all(&pool)
        .await
        .expect("the orders");
    assert_eq!(orders, [1], "handled, and never committed");
    bus.shutdown().await.expect("a shutdown");
}

/// A planned switchover makes the old server read-only and leaves its connections open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_on_a_server_that_has_become_read_only_is_given_up() {
    log();
    let server = MariaDb::start().await.expect("MariaDB");
    let root = MySqlPool::connect(&server.url()).await.expect("connected");
    let run = async |sql: &'static str| sqlx::query(sql).execute(&root).await.expect(sql);
    run("CREATE DATABASE shop").await;
    // A user with all privileges can write in spite of `read_only`.
    run("CREATE USER app IDENTIFIED BY ''").await;
    run("GRANT ALL ON shop.* TO app").await;
    let url = server.url().replace("root@", "app@");
    let url = url.replace("/mysql", "/shop");
    let pool = MySqlPool::connect(&url).await.expect("connected");
    let broker = SqlBroker::new(pool.clone()).lease(LONG);
    let bus: MySqlBus = Bus::new("mail", pool, broker);
    let (router, mut handled, go_on) = held_at_0();
    bus.start(router).await.expect("a start");
    bus.publish("placed", &0_i64).await.expect("a message");
    assert_eq!(soon(&mut handled).await, 0);
    let connections = async || {
        let ids = "SELECT id FROM information_schema.processlist WHERE user = 'app'";
        let ids = sqlx::query_scalar(ids).fetch_all(&root).await;
        ids.expect("connections")
            .into_iter()
            .collect::<BTreeSet<i64>>()
    };
    let before = connections().await;

    run("SET GLOBAL read_only = 1").await;
    go_on.notify_one();
    eventually("another session", SOON, async || {
        !before.is_subset(&connections().await)
    })
    .await;
    run("SET GLOBAL read_only = 0").await;
    eventually("an empty log", SOON, async || {
        let rows = "SELECT COUNT(*) FROM shop.final_log";
        let rows: i64 = sqlx::query_scalar(rows)
            .fetch_one(&root)
            .await
            .expect("rows");
        rows == 0
    })
    .await;
    bus.shutdown().await.expect("a shutdown");
}

/// With one record of its log PostgreSQL reserves 32 numbers of a sequence. It does not give those numbers
/// again.
const FORGOTTEN: i64 = 40;

/// Writes everything to the disk. From then on PostgreSQL does not flush by itself: only a commit that waits
/// for the disk does.
pub async fn keep_from_flushing(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query("CHECKPOINT").execute(pool).await?;
    let writer = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'";
    let writer: i32 = sqlx::query_scalar(writer).fetch_one(pool).await?;
    let stop = std::process::Command::new("kill")
        .args(["-STOP", &writer.to_string()])
        .status()?;
    assert!(stop.success(), "the log's writer goes on");
    Ok(())
}

/// A bus has read the last commits, and the server is killed before they are on the disk. A relaxed
/// durability setting allows that. The server then gives their sequence numbers to other messages.
macro_rules! forgetful_server {
    ($name:ident, $server:ty, $arguments:expr, $pool:ty, $bus:ty, $still:expr) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            log();
            let setup = Setup {
                args: $arguments.map(str::to_owned).to_vec(),
                ..Setup::default()
            };
            let server = <$server>::start_with(setup).await.expect("the database");
            let pool = <$pool>::connect(&server.url()).await.expect("connected");
            let broker = SqlBroker::new(pool.clone()).lease(LONG).keep(LONG);
            let bus: $bus = Bus::new("mail", pool.clone(), broker);
            let (handling, mut handled) = mpsc::unbounded_channel();
            let router = Router::new().route("placed", move |Payload(order): Payload<i64>| {
                let handling = handling.clone();
                async move { handling.send(order).map_err(|_| "the test is over") }
            });
            bus.start(router).await.expect("a start");
            bus.publish("placed", &0_i64).await.expect("a message");
            assert_eq!(soon(&mut handled).await, 0);
            let still: fn($pool) -> _ = $still;
            still(pool.clone())
                .await
                .expect("a server that does not write its log");

            for order in 1..=FORGOTTEN {
                bus.publish("placed", &order).await.expect("a message");
            }
            for _ in 1..=FORGOTTEN {
                soon(&mut handled).await;
            }
            server.kill9();
            server.start_again().await.expect("the database again");
            let pool = <$pool>::connect(&server.url()).await.expect("connected");
            let count = "SELECT COUNT(*) FROM final_log";
            let rows: i64 = sqlx::query_scalar(count)
                .fetch_one(&pool)
                .await
                .expect("rows");
            assert!(
                rows <= 1,
                "the server still has {rows} rows, so this shows nothing"
            );

            let new: Vec<i64> = (1_001..=1_000 + FORGOTTEN).collect();
            for order in &new {
                eventually("a message", SOON, async || {
                    bus.publish("placed", order).await.is_ok()
                })
                .await;
            }
            let mut missing = new;
            while !missing.is_empty() {
                let next = tokio::time::timeout(SOON, handled.recv()).await;
                let Ok(Some(order)) = next else {
                    panic!("never handled: {missing:?}");
                };
                missing.retain(|other| *other != order);
            }
            bus.shutdown().await.expect("a shutdown");
        }
    };
}

forgetful_server!(
    numbers_that_postgresql_gives_again_after_a_crash_are_read_again,
    Postgres,
    ["-c", "synchronous_commit=off"],
    PgPool,
    PgBus,
    |pool| Box::pin(async move { keep_from_flushing(&pool).await })
);
forgetful_server!(
    numbers_that_mariadb_gives_again_after_a_crash_are_read_again,
    MariaDb,
    [] as [&str; 0],
    MySqlPool,
    MySqlBus,
    |pool| Box::pin(async move { keep_innodb_from_flushing(&pool).await })
);

/// A handler that reports each order, and keeps order 0 in flight until it is told to go on.
fn held_at_0() -> (Router, mpsc::UnboundedReceiver<i64>, Arc<Notify>) {
    let (handling, handled) = mpsc::unbounded_channel();
    let go_on = Arc::new(Notify::new());
    let waits = Arc::clone(&go_on);
    let router = Router::new().route("placed", move |Payload(order): Payload<i64>| {
        let (handling, waits) = (handling.clone(), Arc::clone(&waits));
        async move {
            handling.send(order).expect("the test goes on");
            if order == 0 {
                waits.notified().await;
            }
        }
    });
    (router, handled, go_on)
}

async fn soon(handled: &mut mpsc::UnboundedReceiver<i64>) -> i64 {
    let next = tokio::time::timeout(SOON, handled.recv()).await;
    next.expect("a message in time").expect("a handler")
}
