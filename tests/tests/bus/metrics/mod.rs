//! Metrics and health: what a monitoring system and an orchestrator see of a bus.
//!
//! The files for Prometheus and Grafana are in `files`, what happens to a hook of a tracing system in `telemetry`.

mod files;
mod health;
mod telemetry;

use std::{collections::BTreeMap, time::Duration};

use final_core::{Bus, Error, HandlerError, MemoryBroker, Metrics, OutboxDatabase, PgBus, Router};
use final_tests::{Proxy, eventually};
use sqlx::postgres::PgPoolOptions;

use crate::{
    database::Database,
    house::{House, Notes, SOON},
    transport::{Log, Transport},
};

crate::suite!(
    everywhere: [
        the_counts_of_the_topics_are_those_of_the_stats,
    ],
    with an outbox: [
        an_outage_of_the_broker_is_in_the_time_until_the_confirm,
    ],
);

/// The text that Prometheus scrapes.
async fn scrape<D: OutboxDatabase>(bus: &Bus<D>) -> String {
    let mut text = String::new();
    bus.metrics().await.write_prometheus(&mut text);
    text
}

/// The sum of all series of a metric that have these labels.
fn sum(text: &str, name: &str, labels: &str) -> Option<f64> {
    let values: Vec<f64> = text
        .lines()
        .filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(labels))
        .map(|line| {
            line.rsplit_once(' ')
                .expect("a value")
                .1
                .parse()
                .expect("a number")
        })
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

/// The outcomes of all topics together.
fn outcomes(metrics: &Metrics) -> BTreeMap<&'static str, u64> {
    let mut sums = BTreeMap::new();
    for (outcome, count) in metrics.consumed.iter().flat_map(|topic| &topic.outcomes) {
        *sums.entry(*outcome).or_default() += count;
    }
    sums
}

async fn the_counts_of_the_topics_are_those_of_the_stats<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let bus = house.bus_with(house.options().retry_count(2));
    let notes = Notes::default();
    let router = house
        .noting(&notes, &["placed", "cancelled"])
        .route(house.topic("broken"), async || {
            Err::<(), _>(HandlerError::from("broken, on purpose"))
        })
        .route(
            house.topic("panics"),
            async || -> Result<(), HandlerError> { panic!("a handler that panics, on purpose") },
        );
    bus.start(router).await.expect("start");
    let topics = [
        ("placed", 5),
        ("cancelled", 3),
        ("broken", 2),
        ("panics", 1),
    ];
    for (topic, count) in topics {
        for n in 0..count {
            let published = bus.publish(house.topic(topic), &n).await;
            published.expect("publish");
        }
    }
    let stats = house
        .stats_are(&bus, "eight handled and three dead", |stats| {
            stats.handled == 8 && stats.dead_lettered == 3 && stats.pending == 0
        })
        .await;

    let metrics = bus.metrics().await;
    let outcomes = outcomes(&metrics);
    assert_eq!(outcomes["done"], stats.handled);
    assert_eq!(outcomes["dead"], stats.dead_lettered);
    assert_eq!(outcomes["retry"], stats.retried);
    assert_eq!(outcomes["handed_back"], stats.requeued);
    assert_eq!(outcomes["postponed"], stats.postponed);
    assert_eq!(metrics.relay_statements > 0, stats.relay_statements > 0);
    // Each attempt of the handler, and no other panic.
    assert_eq!(metrics.panics, 3);
    for topic in metrics
        .consumed
        .iter()
        .filter(|topic| topic.topic.is_some())
    {
        let count = |outcome| topic.outcomes.iter().find(|(name, _)| *name == outcome);
        let count = |outcome| count(outcome).expect("an outcome").1;
        let name = topic.topic.as_deref().unwrap_or_default();
        let attempts = count("done") + count("retry") + count("dead");
        assert_eq!(topic.process.count(), attempts, "{name}");
        assert_eq!(topic.age.count(), count("done"), "{name}");
        let expected = topics.iter().find(|(of, _)| house.topic(of) == name);
        let (_, expected) = expected.expect("a topic of this test");
        assert_eq!(count("done") + count("dead"), *expected, "{name}");
    }
    let stored: u64 = metrics
        .sent
        .iter()
        .map(|sent| sent.answers.iter().find(|(answer, _)| *answer == "stored"))
        .map(|stored| stored.expect("an answer").1)
        .sum();
    assert_eq!(stored, stats.acked);
    let confirmed: u64 = metrics
        .sent
        .iter()
        .map(|sent| sent.commit_to_confirm.count())
        .sum();
    assert_eq!(confirmed, stored);
    bus.shutdown().await.expect("shutdown");
}

async fn an_outage_of_the_broker_is_in_the_time_until_the_confirm<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let (bus, notes) = house.start_connected(house.options(), &["placed"]).await;
    house.transport.go_away().await;
    house
        .stats_are(&bus, "a lost broker", |stats| !stats.connected)
        .await;
    let away = std::time::Instant::now();
    bus.publish(house.topic("placed"), &1_i64)
        .await
        .expect("publish");
    eventually("a second of outage", SOON, async || {
        away.elapsed() > Duration::from_millis(1_200)
    })
    .await;
    house.transport.come_back().await;
    notes.reach(1).await;
    house.outbox_is_empty(&bus).await;

    let text = scrape(&bus).await;
    let name = "final_outbox_commit_to_confirm_seconds";
    let took = sum(&text, &format!("{name}_sum"), "");
    assert!(took > Some(1.0), "{took:?} in\n{text}");
    assert_eq!(sum(&text, &format!("{name}_count"), ""), Some(1.0));
    bus.shutdown().await.expect("shutdown");
}

/// A bus behind a proxy to its PostgreSQL.
async fn behind_a_proxy() -> (PgBus, Proxy, Notes) {
    let url = final_tests::pg_database().await.expect("PostgreSQL");
    let proxy = Proxy::to(&url).await.expect("a proxy");
    let pool = PgPoolOptions::new().acquire_timeout(Duration::from_secs(2));
    let pool = pool.connect(&proxy.url(&url)).await.expect("connected");
    let bus: PgBus = Bus::new("shop", pool, MemoryBroker::new());
    let notes = Notes::default();
    let noted = notes.clone();
    let router = Router::new().route("placed", async move |message| noted.add(message));
    bus.start(router).await.expect("start");
    (bus, proxy, notes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_database_the_process_still_says_what_it_has_counted() {
    let (bus, proxy, notes) = behind_a_proxy().await;
    bus.publish("placed", &1_i64).await.expect("publish");
    notes.reach(1).await;
    let text = scrape(&bus).await;
    assert_eq!(sum(&text, "final_database_up", ""), Some(1.0));
    assert!(sum(&text, "final_outbox_records", "pending").is_some());

    // Silent, so that the question takes as long as it may.
    proxy.stall();
    let text = eventually("a scrape without the database", SOON, async || {
        let text = scrape(&bus).await;
        match sum(&text, "final_database_up", "") {
            Some(0.0) => Ok(text),
            _ => Err(text),
        }
    })
    .await;
    assert_eq!(
        sum(&text, "final_consume_total", "outcome=\"done\""),
        Some(1.0)
    );
    assert!(sum(&text, "final_process_seconds_count", "").is_some());
    assert_eq!(sum(&text, "final_outbox_records", ""), None);
    assert_eq!(sum(&text, "final_outbox_oldest_due_seconds", ""), None);
    let metrics = bus.metrics().await;
    assert!(metrics.database_error.is_some(), "{metrics:?}");

    proxy.resume();
    eventually("the database again", SOON, async || {
        sum(&scrape(&bus).await, "final_database_up", "") == Some(1.0)
    })
    .await;
    bus.shutdown().await.expect("shutdown");
    let after = scrape(&bus).await;
    assert_eq!(sum(&after, "final_database_up", ""), None);
    assert_eq!(
        sum(&after, "final_consume_total", "outcome=\"done\""),
        Some(1.0)
    );
}

/// Whatever topics there are, the text stays small.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn very_many_topics_make_few_series() {
    let house = House::<sqlx::Sqlite, crate::transport::Memory>::new().await;
    let (bus, _) = house.start_connected(house.options(), &["placed"]).await;
    const TOPICS: u64 = 1_000;
    let mut txbus = bus.with_tx(bus.begin().await.expect("begin"));
    for n in 0..TOPICS {
        let topic = format!("{}.\"{n}\\", house.service);
        txbus.publish(topic, &n).await.expect("publish");
    }
    txbus.commit().await.expect("commit");
    let parked = |stats: &final_core::Stats| stats.unroutable == TOPICS && stats.in_flight == 0;
    house.stats_are(&bus, "all topics parked", parked).await;

    let text = scrape(&bus).await;
    let series = text
        .lines()
        .filter(|line| line.starts_with("final_outbox_sent_total{"));
    assert_eq!(series.count(), 101 * 10);
    let unroutable = sum(&text, "final_outbox_sent_total", "answer=\"unroutable\"");
    assert!(unroutable >= Some(TOPICS as f64), "{unroutable:?}");
    bus.shutdown().await.expect("shutdown");
}

/// A bus on the log says how far its group is behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_says_how_far_its_group_is_behind() {
    let house = House::<sqlx::Postgres, Log>::new().await;
    let bus = house.bus_with(house.options().concurrency(1).retry_count(0));
    let (held, hold) = tokio::sync::oneshot::channel::<()>();
    let hold = std::sync::Arc::new(tokio::sync::Mutex::new(Some(hold)));
    let router = Router::new().route(house.topic("placed"), async move || {
        if let Some(hold) = hold.lock().await.take() {
            let _ = hold.await;
        }
        Err::<(), _>(Error::NotStarted)
    });
    bus.start(router).await.expect("start");
    bus.publish(house.topic("placed"), &1_i64)
        .await
        .expect("publish");

    let seen = |text: &str, name| sum(text, name, &house.service);
    eventually("a message in hand, and all lanes", SOON, async || {
        let text = scrape(&bus).await;
        let is_seen = seen(&text, "final_log_oldest_seconds") > Some(0.0)
            && seen(&text, "final_lanes_held") == Some(16.0)
            && seen(&text, "final_log_waiting") == Some(0.0)
            && seen(&text, "final_dead_letters") == Some(0.0);
        is_seen.then_some(()).ok_or(text)
    })
    .await;
    held.send(()).expect("the handler waits");
    eventually("a dead letter", SOON, async || {
        let text = scrape(&bus).await;
        let is_dead = seen(&text, "final_dead_letters") == Some(1.0)
            && seen(&text, "final_log_oldest_seconds").is_none();
        is_dead.then_some(()).ok_or(text)
    })
    .await;
    bus.shutdown().await.expect("shutdown");
}
