//! A small service under test: one topic, numbered messages, and a tally of the handled numbers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use final_amqp::Amqp;
use final_core::{Bus, Error, Options, Payload, PgBus, Router};
use final_tests::{Vhost, eventually};
use lapin::{
    Connection, ConnectionProperties, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tracing_subscriber::{Layer, layer::SubscriberExt, util::SubscriberInitExt};

/// A limit of waiting. Only what is broken takes this long, also on a machine with other work.
pub const SOON: Duration = Duration::from_secs(180);

/// Prints the log of the bus if the test fails.
pub fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "final=debug".into());
    let shown = tracing_subscriber::fmt::layer().with_test_writer();
    let _ = tracing_subscriber::registry()
        .with(shown.with_filter(filter))
        .with(crate::overheard::layer())
        .with(crate::overheard::warnings_layer())
        .try_init();
}

/// How often each number was handled.
#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<i64, u32>>>);

impl Tally {
    pub fn router(&self, topic: &str) -> Router {
        let tally = self.clone();
        Router::new().route(topic, move |Payload(n): Payload<i64>| {
            *tally.0.lock().expect("lock").entry(n).or_default() += 1;
            async {}
        })
    }

    pub fn distinct(&self) -> usize {
        self.0.lock().expect("lock").len()
    }

    pub fn repeats(&self) -> u32 {
        self.0
            .lock()
            .expect("lock")
            .values()
            .map(|times| times - 1)
            .sum()
    }

    /// Waits until each of `numbers` was handled.
    pub async fn has_all(&self, numbers: impl IntoIterator<Item = i64> + Clone) {
        let missing = || {
            let seen = self.0.lock().expect("lock");
            numbers
                .clone()
                .into_iter()
                .filter(|n| !seen.contains_key(n))
                .collect::<Vec<_>>()
        };
        eventually("every message handled", SOON, async || missing().is_empty()).await;
    }

    /// The numbers that were handled and are not among `allowed`.
    pub fn beyond(&self, allowed: impl Fn(i64) -> bool) -> Vec<i64> {
        self.0
            .lock()
            .expect("lock")
            .keys()
            .copied()
            .filter(|n| !allowed(*n))
            .collect()
    }
}

pub fn options() -> Options {
    Options::default()
        .scan_interval(Duration::from_secs(1))
        .lease(Duration::from_secs(2))
        .shutdown_timeout(SOON)
}

/// A unique name for a service.
pub fn service() -> String {
    final_tests::unique("svc").replace('_', "-")
}

/// A bus on a fresh PostgreSQL database of the shared server.
pub async fn pg_bus(service: &str, broker: &str) -> PgBus {
    pg_bus_with(service, Amqp::new(broker).expect("a good URL")).await
}

pub async fn pg_bus_with(service: &str, broker: Amqp) -> PgBus {
    log();
    let url = final_tests::pg_database().await.expect("PostgreSQL");
    let pool = sqlx::PgPool::connect(&url).await.expect("PostgreSQL");
    Bus::new(service, pool, broker).with_options(options())
}

/// Waits until nothing is pending.
#[track_caller]
pub fn outbox_is_empty(bus: &PgBus) -> impl Future<Output = ()> {
    eventually("an empty outbox", SOON, async || {
        bus.stats().await.expect("stats").pending == 0
    })
}

/// Publishes numbers one after another until it is told to stop. Returns the committed ones.
pub fn publish_on<DB: final_core::OutboxDatabase>(
    bus: &Bus<DB>,
    topic: &str,
    first: i64,
) -> (
    tokio::sync::oneshot::Sender<()>,
    tokio::task::JoinHandle<Published>,
) {
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    let (bus, topic) = (bus.clone(), topic.to_owned());
    let task = tokio::spawn(async move {
        let mut published = Published::default();
        for n in first.. {
            if stopped.try_recv() != Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
                break;
            }
            match bus.publish(&topic, &n).await {
                Ok(_) => published.committed.push(n),
                Err(Error::CommitUnknown { .. }) => published.unknown.push(n),
                // Certainly not committed.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        published
    });
    (stop, task)
}

/// The numbers that a publisher has published.
#[derive(Debug, Default)]
pub struct Published {
    pub committed: Vec<i64>,
    /// COMMIT was not answered. The message is handled if the COMMIT took place, else never.
    pub unknown: Vec<i64>,
}

/// Ends all connections of a virtual host, as an operator does. RabbitMQ lists a new one only after a moment.
pub async fn hang_up(vhost: &Vhost) {
    let api = vhost.api().expect("its API");
    eventually("connections to close", SOON, async || {
        let closed = api.close_connections(vhost.name()).await;
        closed.is_ok_and(|closed| closed > 0)
    })
    .await;
}

/// Declares a queue without a consumer, and binds it to a topic.
pub async fn bind_queue(url: &str, topic: &str, queue: &str, arguments: FieldTable) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await;
    let channel = connection.expect("RabbitMQ").create_channel().await;
    let channel = channel.expect("a channel");
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let kind = ExchangeKind::Topic;
    let declared = channel.exchange_declare(topic.into(), kind, durable, FieldTable::default());
    declared.await.expect("an exchange");
    let durable = QueueDeclareOptions::durable();
    let declared = channel.queue_declare(queue.into(), durable, arguments);
    declared.await.expect("a queue");
    let (bind, none) = (QueueBindOptions::default(), FieldTable::default());
    let bound = channel.queue_bind(queue.into(), topic.into(), topic.into(), bind, none);
    bound.await.expect("a binding");
}
