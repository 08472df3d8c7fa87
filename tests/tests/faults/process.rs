//! Processes that are killed or paused.

use std::{
    collections::HashSet,
    process::{Child, Command, Stdio},
    time::Duration,
};

use final_amqp::Amqp;
use final_core::{Bus, PgBus};
use final_tests::{Vhost, eventually};
use sqlx::PgPool;

use crate::shop::{SOON, Tally, options, outbox_is_empty, service};

async fn pool(url: &str) -> PgPool {
    PgPool::connect(url).await.expect("PostgreSQL")
}

/// A child that publishes as fast as it can.
struct Publisher(Child);

impl Publisher {
    fn start(beside: &Survivor) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_publisher"))
            .args([&beside.service, &beside.database, beside.vhost.url()])
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

/// Another instance of the child's service. It handles messages, and takes over the records that the child
/// leaves.
struct Survivor {
    bus: PgBus,
    tally: Tally,
    service: String,
    database: String,
    /// A connection without the bus, to read the committed orders.
    direct: PgPool,
    vhost: Vhost,
}

impl Survivor {
    async fn start() -> Self {
        let database = final_tests::pg_database().await.expect("PostgreSQL");
        let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
        let service = service();
        let direct = pool(&database).await;
        sqlx::query("CREATE TABLE orders (id bigint)")
            .execute(&direct)
            .await
            .expect("table");
        let broker = Amqp::new(vhost.url()).expect("a URL");
        let bus = Bus::new(&service, pool(&database).await, broker).with_options(options());
        let tally = Tally::default();
        let router = tally.router(&format!("{service}.placed"));
        bus.start(router).await.expect("start");
        Self {
            bus,
            tally,
            service,
            database,
            direct,
            vhost,
        }
    }

    /// Waits until all committed messages are handled and the outbox is empty.
    async fn handles_what_was_committed(&self) -> HashSet<i64> {
        loop {
            let committed = self.committed().await;
            self.tally.has_all(committed.iter().copied()).await;
            outbox_is_empty(&self.bus).await;
            // A server can finish a COMMIT after its client was killed, so there may be more by now.
            if self.committed().await == committed {
                return committed;
            }
        }
    }

    async fn committed(&self) -> HashSet<i64> {
        let committed: Vec<i64> = sqlx::query_scalar("SELECT id FROM orders")
            .fetch_all(&self.direct)
            .await
            .expect("rows");
        committed.into_iter().collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_invented_when_the_publisher_is_killed() {
    let survivor = Survivor::start().await;
    let tally = &survivor.tally;

    for round in 1..=3 {
        let publisher = Publisher::start(&survivor);
        eventually("traffic", SOON, async || tally.distinct() > round * 300).await;
        publisher.signal("-KILL");
        drop(publisher);
    }

    let committed = survivor.handles_what_was_committed().await;
    assert_eq!(tally.beyond(|n| committed.contains(&n)), Vec::<i64>::new());
    assert!(tally.repeats() <= 3 * 1_000, "{} repeats", tally.repeats());
    survivor.bus.shutdown().await.expect("shutdown");
}

/// A process is paused for longer than its lease. It must not send the records that others have taken over,
/// except those already on their way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_publisher_is_paused_past_its_lease() {
    let survivor = Survivor::start().await;
    let tally = &survivor.tally;

    let publisher = Publisher::start(&survivor);
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

    survivor.handles_what_was_committed().await;
    assert!(tally.repeats() <= 2 * 1_000, "{} repeats", tally.repeats());
    survivor.bus.shutdown().await.expect("shutdown");
}
