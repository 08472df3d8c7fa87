//! What a server shows and then forgets, because it died before it was on the disk.

use std::{sync::Arc, time::Duration};

use final_core::{Bus, MySqlBus, Payload, Router, SqlBroker};
use final_tests::{MariaDb, servers::Setup};
use sqlx::MySqlPool;
use tokio::sync::{Notify, mpsc};

use crate::shop::{SOON, log};

const LONG: Duration = Duration::from_secs(3600);

/// InnoDB shows a commit to others before it has flushed its log: here it is kept from flushing it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_mariadb_shows_before_it_is_on_the_disk_is_not_handled() {
    log();
    let setup = Setup {
        args: vec!["--innodb-flush-log-at-timeout=2700".into()],
        ..Setup::default()
    };
    let server = MariaDb::start_with(setup).await.expect("MariaDB");
    let pool = MySqlPool::connect(&server.url()).await.expect("connected");
    let table = "CREATE TABLE orders (id BIGINT PRIMARY KEY)";
    sqlx::query(table).execute(&pool).await.expect("a table");
    let flush = async |when: u8| {
        let set = format!("SET GLOBAL innodb_flush_log_at_trx_commit = {when}");
        let set = sqlx::query(sqlx::AssertSqlSafe(set)).execute(&pool).await;
        set.expect("a setting");
    };
    // Nothing else of the bus writes, so that nothing else flushes.
    let broker = SqlBroker::new(pool.clone())
        .prefetch(1)
        .commit_within(Duration::from_secs(60))
        .lease(LONG)
        .keep(LONG);
    let bus: MySqlBus = Bus::new("mail", pool.clone(), broker);
    let (handling, mut handled) = mpsc::unbounded_channel();
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
    bus.start(router).await.expect("a start");
    bus.publish("placed", &0_i64).await.expect("a message");
    assert_eq!(soon(&mut handled).await, 0);

    // Nothing is read while that one is in hand.
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

async fn soon(handled: &mut mpsc::UnboundedReceiver<i64>) -> i64 {
    let next = tokio::time::timeout(SOON, handled.recv()).await;
    next.expect("a message in time").expect("a handler")
}
