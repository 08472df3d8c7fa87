//! What waits to be handled belongs to no instance: it is neither used up by restarts, nor kept from others.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use final_amqp::Amqp;
use final_core::{Bus, Options, Payload, Router, SqliteBus};
use final_tests::{SqliteFile, Vhost, eventually};
use lapin::{Connection, ConnectionProperties, options::BasicGetOptions};

use crate::shop::{SOON, options, service};

/// A service whose handlers take their time.
struct Slow {
    service: String,
    vhost: Vhost,
    file: SqliteFile,
    takes: Duration,
}

/// An instance, and the numbers that it has begun.
struct Instance {
    bus: SqliteBus,
    begun: Arc<Mutex<BTreeSet<i64>>>,
}

impl Slow {
    async fn new(takes: Duration) -> Self {
        crate::shop::log();
        Self {
            service: service(),
            vhost: final_tests::amqp_vhost().await.expect("RabbitMQ"),
            file: final_tests::sqlite_file().expect("a file"),
            takes,
        }
    }

    fn topic(&self) -> String {
        format!("{}.job", self.service)
    }

    async fn start(&self, options: Options) -> Instance {
        let pool = sqlx::SqlitePool::connect(&self.file.url()).await;
        let amqp = Amqp::new(self.vhost.url()).expect("a good URL");
        let bus = Bus::new(&self.service, pool.expect("opened"), amqp).with_options(options);
        let (begun, takes) = (Arc::<Mutex<BTreeSet<i64>>>::default(), self.takes);
        let seen = Arc::clone(&begun);
        let router = Router::new().route(self.topic(), move |Payload(number): Payload<i64>| {
            seen.lock().expect("lock").insert(number);
            tokio::time::sleep(takes)
        });
        bus.start(router).await.expect("start");
        Instance { bus, begun }
    }

    /// Fills the queue, and leaves.
    async fn fill(&self, jobs: i64) {
        let instance = self.start(options().concurrency(1)).await;
        instance.bus.shutdown().await.expect("shutdown");
        let pool = sqlx::SqlitePool::connect(&self.file.url()).await;
        let amqp = Amqp::new(self.vhost.url()).expect("a good URL");
        let maker: SqliteBus = Bus::new("maker", pool.expect("opened"), amqp);
        maker.start(Router::new()).await.expect("start");
        for number in 0..jobs {
            let published = maker.publish(self.topic(), &number).await;
            published.expect("published");
        }
        eventually("an empty outbox", SOON, async || {
            maker.stats().await.expect("stats").pending == 0
        })
        .await;
        maker.shutdown().await.expect("shutdown");
    }

    async fn dead_letters(&self) -> Vec<i64> {
        let connection =
            Connection::connect(self.vhost.url(), ConnectionProperties::default()).await;
        let channel = connection.expect("RabbitMQ").create_channel().await;
        let (channel, queue) = (channel.expect("a channel"), format!("{}_dlx", self.service));
        let mut letters = Vec::new();
        while let Some(letter) = channel
            .basic_get(queue.as_str().into(), BasicGetOptions { no_ack: true })
            .await
            .expect("a queue of dead letters")
        {
            letters.push(rmp_serde::from_slice(&letter.delivery.data).expect("a number"));
        }
        letters
    }
}

impl Instance {
    fn begun(&self) -> BTreeSet<i64> {
        self.begun.lock().expect("lock").clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_dead_letter_nothing_that_no_handler_has_begun() {
    let slow = Slow::new(Duration::from_secs(3600)).await;
    slow.fill(40).await;
    let api = slow.vhost.api().expect("its API");
    let limit = serde_json::json!({"delivery-limit": 3});
    let policy = api.set_policy(slow.vhost.name(), "limit", ".*", limit);
    policy.await.expect("a policy");
    let options = options()
        .concurrency(1)
        .shutdown_timeout(Duration::from_millis(200));

    let mut begun = BTreeSet::new();
    for _ in 0..6 {
        let instance = slow.start(options.clone()).await;
        eventually("a handler", SOON, async || !instance.begun().is_empty()).await;
        // Others have arrived by now, if they are sent ahead.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let _ = instance.bus.shutdown().await;
        begun.extend(instance.begun());
    }

    let letters = slow.dead_letters().await;
    assert!(
        letters.iter().all(|letter| begun.contains(letter)),
        "{letters:?}"
    );
    assert!(letters.len() <= 1, "{letters:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_come_later_get_a_share_of_the_backlog() {
    let slow = Slow::new(Duration::from_millis(500)).await;
    slow.fill(72).await;

    let mut instances = Vec::new();
    for _ in 0..3 {
        instances.push(slow.start(options().concurrency(4)).await);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let shares = || Vec::from_iter(instances.iter().map(|instance| instance.begun().len()));
    eventually("all jobs", SOON, async || {
        shares().iter().sum::<usize>() >= 72
    })
    .await;

    let shares = shares();
    assert!(shares.iter().all(|share| *share >= 12), "{shares:?}");
    for instance in instances {
        instance.bus.shutdown().await.expect("shutdown");
    }
}
