//! To RabbitMQ: at least once with the same ids, in order of each key.

use std::{collections::HashMap, time::Duration};

use final_amqp::Amqp;
use final_capture::{
    RunningCapture,
    position::{ParkedMark, Positions, SqlPositions},
    target::Target,
};
use final_core::{Bus, Message, MessageId, Router, SqliteBus};
use final_tests::{eventually, proxy::Proxy};
use sqlx::Sqlite;
use tokio::sync::mpsc;

use super::kit::*;
use crate::{place::Place, script::Script};

/// A consumer of the captured table, with everything that it got in order.
struct Consumer {
    bus: SqliteBus,
    got: mpsc::UnboundedReceiver<(MessageId, String, i64)>,
}

impl Consumer {
    async fn start(url: &str) -> Self {
        let (told, got) = mpsc::unbounded_channel();
        let place = Place::<Sqlite>::fresh().await;
        let bus: SqliteBus = Bus::new("mirror", place.pool.clone(), Amqp::new(url).unwrap())
            .with_options(
                final_core::Options::default()
                    .concurrency(1)
                    .num_subscribers(1),
            );
        let router = Router::new().route("cdc.shop.holes", move |message: Message| {
            let told = told.clone();
            async move {
                let key = message.key().unwrap_or_default().to_owned();
                let text = text_of(std::str::from_utf8(message.payload()).unwrap());
                let _ = told.send((message.id(), key, text.parse().unwrap()));
                Ok::<_, final_core::HandlerError>(())
            }
        });
        bus.start(router).await.unwrap();
        // The file of its outbox lives as long as the process.
        std::mem::forget(place);
        Self { bus, got }
    }

    /// Waits until all rows have come. Returns how many came again.
    async fn all(&mut self, count: usize) -> usize {
        let mut last: HashMap<String, i64> = HashMap::new();
        let mut ids: HashMap<i64, MessageId> = HashMap::new();
        let mut again = 0;
        while ids.len() < count {
            let next = tokio::time::timeout(SOON, self.got.recv()).await;
            let next = next.unwrap_or_else(|_| panic!("{} of {count} came", ids.len()));
            let (id, key, number) = next.unwrap();
            match ids.insert(number, id) {
                None => {
                    let before = last.insert(key.clone(), number);
                    assert!(before < Some(number), "{key}: {number} after {before:?}");
                }
                Some(before) => {
                    assert_eq!(before, id, "a repeat has the same id");
                    again += 1;
                }
            }
        }
        again
    }
}

fn broker(url: &str, positions: Positions) -> Target {
    Target::broker(Amqp::new(url).unwrap(), positions)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_comes_in_order_of_its_key_and_the_position_follows() {
    let vhost = final_tests::amqp_vhost().await.unwrap();
    let place = Place::<sqlx::Postgres>::fresh().await;
    let mut consumer = Consumer::start(vhost.url()).await;
    let script = Script::new();
    script.commit_many(20, 100, 50);
    let positions = || Positions::database(place.pool.clone());
    let running = capture(&script, broker(vhost.url(), positions()))
        .start()
        .await
        .unwrap();
    assert_eq!(consumer.all(2_000).await, 0);
    eventually("the position is saved", SOON, async || {
        let at = position(&place).await;
        (at == ("lsn:0/C8".to_owned(), None))
            .then_some(())
            .ok_or(at)
    })
    .await;
    running.shutdown().await;
    // A shutdown leaves nothing to be repeated.
    script.commit_many(1, 10, 5);
    let running = capture(&script, broker(vhost.url(), positions()))
        .start()
        .await
        .unwrap();
    let mut all = Vec::new();
    while all.len() < 10 {
        all.push(consumer.got.recv().await.unwrap().2);
    }
    all.sort_unstable();
    assert_eq!(all, (2_000..2_010).collect::<Vec<i64>>());
    running.shutdown().await;
    consumer.bus.shutdown().await.unwrap();
}

/// The wire is cut again and again while changes of few keys are in flight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_keeps_its_order_through_lost_confirms() {
    let vhost = final_tests::amqp_vhost().await.unwrap();
    let dir = final_tests::WorkDir::new("position").unwrap();
    let mut consumer = Consumer::start(vhost.url()).await;
    let proxy = Proxy::to(vhost.url()).await.unwrap();
    let script = Script::new();
    script.commit_many(40, 100, 40);
    let file = || Positions::file(dir.path().join("shop.position"));
    let url = proxy.url(vhost.url());
    let running = capture(&script, broker(&url, file()))
        .start()
        .await
        .unwrap();
    let cuts = tokio::spawn(async move {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(150)).await;
            proxy.cut();
        }
        proxy
    });
    consumer.all(4_000).await;
    let _proxy = cuts.await.unwrap();
    eventually("all is proven", SOON, async || {
        let stats = running.stats();
        (stats.in_hand == 0)
            .then_some(())
            .ok_or(format!("{stats:?}"))
    })
    .await;
    running.shutdown().await;
    let stored = std::fs::read_to_string(dir.path().join("shop.position")).unwrap();
    assert!(
        stored.contains("lsn:0/190") && !stored.contains("partial"),
        "{stored}"
    );
    consumer.bus.shutdown().await.unwrap();
}

/// Waits until the health check tells of a topic without a queue, and returns what it tells.
async fn is_told_unbound(running: &RunningCapture) -> String {
    eventually("it is told", SOON, async || {
        let reasons = running.health().not_ready.concat();
        reasons
            .contains("no queue is bound")
            .then_some(reasons.clone())
            .ok_or(reasons)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_without_a_queue_waits_and_is_told() {
    let vhost = final_tests::amqp_vhost().await.unwrap();
    let place = Place::<Sqlite>::fresh().await;
    let script = Script::new();
    script.commit_many(3, 2, 4);
    let target = broker(vhost.url(), Positions::database(place.pool.clone()));
    let running = capture(&script, target).start().await.unwrap();
    let health = is_told_unbound(&running).await;
    assert!(health.contains("cdc.shop.holes"), "{health}");
    assert_eq!(position(&place).await.0, "");
    let mut consumer = Consumer::start(vhost.url()).await;
    assert_eq!(consumer.all(6).await, 0);
    eventually("it is well again", SOON, async || {
        running.health().is_ready()
    })
    .await;
    running.shutdown().await;
    consumer.bus.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_without_a_queue_does_not_keep_a_source_closed_that_was_away() {
    let vhost = final_tests::amqp_vhost().await.unwrap();
    let place = Place::<Sqlite>::fresh().await;
    let script = Script::new();
    script.commit_many(3, 2, 4);
    let target = broker(vhost.url(), Positions::database(place.pool.clone()));
    let capture = capture(&script, target).shutdown_within(Duration::from_millis(500));
    let running = capture.start().await.unwrap();
    is_told_unbound(&running).await;
    let opened = script.opened().len();

    script.set_away(true);
    script.set_away(false);

    eventually("the source is read again", SOON, async || {
        script.opened().len() > opened
    })
    .await;
    let mut consumer = Consumer::start(vhost.url()).await;
    consumer.all(6).await;
    running.shutdown().await;
    consumer.bus.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_too_large_is_parked_with_what_is_behind_it() {
    let vhost = final_tests::amqp_vhost().await.unwrap();
    let place = Place::<sqlx::MySql>::fresh().await;
    let mut consumer = Consumer::start(vhost.url()).await;
    let script = Script::new();
    super::poison::rows(&script);
    let target = || broker(vhost.url(), Positions::database(place.pool.clone()));
    let small = capture(&script, target()).max_message_bytes(super::poison::SMALL);
    let running = small.start().await.unwrap();
    eventually("all but a key", SOON, async || {
        let parked = running.stats().parked;
        (parked == 3).then_some(()).ok_or(parked)
    })
    .await;
    let mut came = Vec::new();
    for _ in 0..3 {
        came.push(consumer.got.recv().await.unwrap().2);
    }
    // 0 and 5 have one key, 3 has another.
    assert!(
        [[0, 3, 5], [0, 5, 3], [3, 0, 5]].contains(&came[..].try_into().unwrap()),
        "{came:?}"
    );
    running.shutdown().await;

    let running = capture(&script, target()).start().await.unwrap();
    super::poison::retry(&place).await;
    for expected in super::poison::PARKED {
        let came = tokio::time::timeout(SOON, consumer.got.recv())
            .await
            .unwrap();
        assert_eq!(came.unwrap().2, expected);
    }
    eventually("nothing is parked", SOON, async || {
        running.stats().parked == 0
    })
    .await;
    running.shutdown().await;
    consumer.bus.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_at_the_start_is_waited_for() {
    let vhost = final_tests::amqp_vhost().await.unwrap();
    let place = Place::<Sqlite>::fresh().await;
    let mut consumer = Consumer::start(vhost.url()).await;
    let proxy = Proxy::to(vhost.url()).await.unwrap();
    proxy.refuse();
    let script = Script::new();
    script.commit_many(3, 2, 4);
    let target = broker(
        &proxy.url(vhost.url()),
        Positions::database(place.pool.clone()),
    );
    let running = capture(&script, target).start().await.unwrap();
    eventually("it is told", SOON, async || {
        let reasons = running.health().not_ready.concat();
        reasons
            .contains("the broker takes no messages")
            .then_some(())
            .ok_or(reasons)
    })
    .await;
    proxy.accept().unwrap();
    consumer.all(6).await;
    running.shutdown().await;
    consumer.bus.shutdown().await.unwrap();
}

/// Before the link is ready nothing can be put back, and the next changes are there at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_makes_room_before_the_next_changes_after_too_many_were_parked() {
    let vhost = final_tests::amqp_vhost().await.unwrap();
    let place = Place::<Sqlite>::fresh().await;
    let mut consumer = Consumer::start(vhost.url()).await;
    let script = Script::new();
    let target = || broker(vhost.url(), Positions::database(place.pool.clone()));
    super::poison::stops_full(&script, target()).await;
    let positions = SqlPositions::new(place.pool.clone());
    let mark = positions.mark("shop", None, ParkedMark::Retry).await;
    assert_eq!(mark.unwrap(), super::poison::MOST);
    let running = capture(&script, target()).most_parked(super::poison::MOST);
    let running = running.start().await.unwrap();
    consumer.all(20).await;
    running.shutdown().await;
    consumer.bus.shutdown().await.unwrap();
}
