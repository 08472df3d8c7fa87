//! Processes that are killed or paused.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use final_amqp::Amqp;
use final_core::{Bus, PgBus};
use final_tests::eventually;

use crate::shop::{SOON, Tally, options, outbox_is_empty, service};

async fn pool(url: &str) -> sqlx::PgPool {
    sqlx::PgPool::connect(url).await.expect("PostgreSQL")
}

async fn bus(database: &str, broker: &str, service: &str) -> PgBus {
    Bus::new(
        service,
        pool(database).await,
        Amqp::new(broker).expect("a URL"),
    )
    .with_options(options())
}

/// A child that publishes as fast as it can.
struct Publisher(Child);

impl Publisher {
    fn start(service: &str, database: &str, broker: &str) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_publisher"))
            .args([service, database, broker])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the child starts");
        Self(child)
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.0.id().to_string()])
            .status();
        assert!(status.expect("kill runs").success());
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn orders(database: &str) -> (sqlx::PgPool, &'static str) {
    let pool = pool(database).await;
    sqlx::query("CREATE TABLE orders (id bigint)")
        .execute(&pool)
        .await
        .expect("table");
    (pool, "SELECT id FROM orders")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_invented_when_the_publisher_is_killed() {
    let database = final_tests::pg_database().await.expect("PostgreSQL");
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let broker = vhost.url().to_owned();
    let service = service();
    let topic = format!("{service}.placed");
    let (direct, read) = orders(&database).await;
    // Another instance of the service: it handles, and takes over what the dead one leaves.
    let survivor = bus(&database, &broker, &service).await;
    let tally = Tally::default();
    survivor.start(tally.router(&topic)).await.expect("start");

    for round in 1..=3 {
        let publisher = Publisher::start(&service, &database, &broker);
        eventually("traffic", SOON, async || tally.distinct() > round * 300).await;
        publisher.signal("-KILL");
        drop(publisher);
    }

    let committed: Vec<i64> = sqlx::query_scalar(read)
        .fetch_all(&direct)
        .await
        .expect("rows");
    tally.has_all(committed.clone()).await;
    outbox_is_empty(&survivor).await;
    let committed: std::collections::HashSet<i64> = committed.into_iter().collect();
    assert_eq!(tally.beyond(|n| committed.contains(&n)), Vec::<i64>::new());
    assert!(tally.repeats() <= 3 * 1_000, "{} repeats", tally.repeats());
    survivor.shutdown().await.expect("shutdown");
}

/// Paused for longer than its lease, a process must not send what others have taken over, beyond
/// what was already on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_publisher_is_paused_past_its_lease() {
    let database = final_tests::pg_database().await.expect("PostgreSQL");
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let broker = vhost.url().to_owned();
    let service = service();
    let topic = format!("{service}.placed");
    let (direct, read) = orders(&database).await;
    let survivor = bus(&database, &broker, &service).await;
    let tally = Tally::default();
    survivor.start(tally.router(&topic)).await.expect("start");

    let publisher = Publisher::start(&service, &database, &broker);
    eventually("traffic", SOON, async || tally.distinct() > 300).await;
    publisher.signal("-STOP");
    tokio::time::sleep(Duration::from_secs(5)).await;
    publisher.signal("-CONT");
    let before = tally.distinct();
    eventually("traffic again", SOON, async || {
        tally.distinct() > before + 300
    })
    .await;
    drop(publisher);

    let committed: Vec<i64> = sqlx::query_scalar(read)
        .fetch_all(&direct)
        .await
        .expect("rows");
    tally.has_all(committed.clone()).await;
    outbox_is_empty(&survivor).await;
    assert!(tally.repeats() <= 2 * 1_000, "{} repeats", tally.repeats());
    survivor.shutdown().await.expect("shutdown");
}
