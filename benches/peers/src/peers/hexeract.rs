//! hexeract, as its README has it: `publish_in_tx`, an outbox worker whose handler publishes on the
//! bus (it has no bridge of its own between the two), a bus worker on a queue. Prefetch and pauses are
//! its defaults, and so are batches unless they are named.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hexeract::{
    bus::{self, BusError, Message, Transport},
    bus_rabbitmq::{RabbitMqConnection, RabbitMqTransport, RabbitMqWorkerBuilder},
    core::HandlerContext,
    outbox::{self, Event, OutboxError, OutboxPublisher, OutboxWorker},
    outbox_sql::{
        PgOutboxPublisher, PgOutboxStore, PgOutboxWorkerBuilder, postgres::ensure_schema,
    },
};
use serde::{Deserialize, Serialize};
use sqlx_08::{PgPool, postgres::PgPoolOptions};
use tokio_util::sync::CancellationToken;

use crate::{
    Result,
    contest::{Contest, Job, Size, WRITERS},
    load::{self, until},
    payload::Order,
    place::{CONNECTIONS, CUSTOMER, INSERT_ORDER, Place, TOTAL, thousands},
    rabbit::{QUEUE, Rabbit},
};

const PEER: &str = "hexeract 0.6.0";
const BATCHES: &str = "hexeract 0.6.0, batches of 500";
const OUTBOX: &str = "outbox";
const PENDING: &str = "outbox WHERE delivered_at IS NULL";
const DELIVERED: &str = "outbox WHERE delivered_at IS NOT NULL AND last_error IS NULL";

pub(super) fn contests() -> Vec<Contest> {
    let contest = |job, peer, play| Contest { job, peer, play };
    vec![
        contest(Job::Tx, PEER, |size| Box::pin(tx(size))),
        contest(Job::Relay, PEER, |size| Box::pin(relay(size, None))),
        contest(Job::Relay, BATCHES, |size| Box::pin(relay(size, Some(500)))),
        contest(Job::Consume, PEER, |size| Box::pin(consume(size))),
        contest(Job::Queue, PEER, |size| Box::pin(queue(size))),
    ]
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Placed(Order);

impl Event for Placed {
    const EVENT_TYPE: &'static str = "orders.placed";
}

impl Message for Placed {
    const MESSAGE_TYPE: &'static str = "orders.placed";
}

/// From the outbox to the bus: `Ok` means that RabbitMQ has confirmed it.
struct Forward(RabbitMqTransport);

impl outbox::Handler<Placed> for Forward {
    type Error = OutboxError;

    async fn handle(&self, placed: Placed, _: &HandlerContext) -> Result<(), OutboxError> {
        let sent = self.0.publish(QUEUE, &placed).await;
        sent.map_err(|error| OutboxError::Internal(error.to_string()))?;
        Ok(())
    }
}

/// Does nothing, and counts.
#[derive(Clone, Default)]
struct Count(Arc<AtomicU64>);

impl Count {
    async fn reaches(&self, messages: u64) -> Result<()> {
        let all = async || Ok(self.0.load(Relaxed) >= messages);
        until("for all messages to be handled", all).await
    }
}

impl bus::Handler<Placed> for Count {
    type Error = BusError;

    async fn handle(&self, _: Placed, _: &HandlerContext) -> Result<(), BusError> {
        self.0.fetch_add(1, Relaxed);
        Ok(())
    }
}

impl outbox::Handler<Placed> for Count {
    type Error = OutboxError;

    async fn handle(&self, _: Placed, _: &HandlerContext) -> Result<(), OutboxError> {
        self.0.fetch_add(1, Relaxed);
        Ok(())
    }
}

async fn tx(size: Size) -> Result<f64> {
    let place = Place::new().await?;
    let (pool, publisher) = prepared(&place).await?;
    let work = move |n| transaction(pool.clone(), publisher.clone(), n, 1);
    let done = load::writers(WRITERS, size.time, work).await?;
    place.has(done.count, "orders").await?;
    place.has(done.count, PENDING).await?;
    place.remove().await?;
    Ok(done.per_second())
}

async fn relay(size: Size, batch: Option<usize>) -> Result<f64> {
    let (place, rabbit) = (Place::new().await?, Rabbit::new().await?);
    rabbit.declare(QUEUE).await?;
    let pool = filled(&place, size.messages).await?;
    let start = Instant::now();
    let forward = Forward(RabbitMqTransport::new(rabbit.url()).await?);
    let mut worker = PgOutboxWorkerBuilder::new(pool)
        .table_name(OUTBOX)
        .register_handler::<Placed, _>(forward);
    if let Some(batch) = batch {
        worker = worker.batch_size(batch);
    }
    let took = drain(&place, worker.build()?, size.messages, start).await?;
    rabbit.had(size.messages, QUEUE).await?;
    place.remove().await?;
    Ok(size.messages as f64 / took.as_secs_f64())
}

async fn consume(size: Size) -> Result<f64> {
    let rabbit = Rabbit::new().await?;
    rabbit.declare(QUEUE).await?;
    let sender = RabbitMqTransport::new(rabbit.url()).await?;
    sender.publish(QUEUE, &Placed(Order::new(1))).await?;
    let (properties, body) = rabbit.take(QUEUE).await?;
    rabbit
        .fill(QUEUE, &properties, &body, size.messages)
        .await?;
    let count = Count::default();
    let start = Instant::now();
    let worker = RabbitMqWorkerBuilder::new(RabbitMqConnection::connect(rabbit.url()).await?)
        .queue(QUEUE)
        .register_handler::<Placed, _>(count.clone())
        .build()?;
    let cancel = CancellationToken::new();
    let worker = tokio::spawn(worker.run(cancel.clone()));
    count.reaches(size.messages).await?;
    let took = start.elapsed();
    cancel.cancel();
    worker.await??;
    rabbit.is_empty(QUEUE).await?;
    Ok(size.messages as f64 / took.as_secs_f64())
}

async fn queue(size: Size) -> Result<f64> {
    let place = Place::new().await?;
    let pool = filled(&place, size.messages).await?;
    let count = Count::default();
    let start = Instant::now();
    let worker = PgOutboxWorkerBuilder::new(pool)
        .table_name(OUTBOX)
        .register_handler::<Placed, _>(count.clone())
        .build()?;
    let took = drain(&place, worker, size.messages, start).await?;
    count.reaches(size.messages).await?;
    place.remove().await?;
    Ok(size.messages as f64 / took.as_secs_f64())
}

/// Runs the worker of an outbox until nothing is pending there.
async fn drain(
    place: &Place,
    worker: OutboxWorker<PgOutboxStore>,
    messages: u64,
    start: Instant,
) -> Result<Duration> {
    let cancel = CancellationToken::new();
    let worker = tokio::spawn(worker.run(cancel.clone()));
    place.has_no_more(PENDING).await?;
    let took = start.elapsed();
    cancel.cancel();
    worker.await??;
    place.has(messages, DELIVERED).await?;
    Ok(took)
}

async fn prepared(place: &Place) -> Result<(PgPool, Arc<PgOutboxPublisher>)> {
    let options = PgPoolOptions::new().max_connections(CONNECTIONS);
    let pool = options.connect(&place.url).await?;
    ensure_schema(&pool, OUTBOX).await?;
    let publisher = PgOutboxPublisher::new(pool.clone(), OUTBOX)?;
    Ok((pool, Arc::new(publisher)))
}

async fn filled(place: &Place, messages: u64) -> Result<PgPool> {
    let (pool, publisher) = prepared(place).await?;
    for (number, messages) in thousands(messages) {
        transaction(pool.clone(), Arc::clone(&publisher), number, messages).await?;
    }
    place.has(messages, PENDING).await?;
    Ok(pool)
}

async fn transaction(
    pool: PgPool,
    publisher: Arc<PgOutboxPublisher>,
    number: u64,
    messages: u64,
) -> Result<()> {
    let mut tx = pool.begin().await?;
    sqlx_08::query(INSERT_ORDER)
        .bind(number as i64)
        .bind(CUSTOMER)
        .bind(TOTAL)
        .execute(&mut *tx)
        .await?;
    for message in 0..messages {
        let placed = Placed(Order::new(number * 1_000 + message));
        publisher.publish_in_tx(&mut tx, &placed).await?;
    }
    Ok(tx.commit().await?)
}
