//! hexeract, as its README has it: `publish_in_tx`, an outbox worker whose handler publishes on the
//! bus (it has no bridge of its own between the two), a bus worker on a queue. Batches, prefetch and
//! pauses are its defaults.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use hexeract::{
    bus::{self, BusError, Message, Transport},
    bus_rabbitmq::{RabbitMqConnection, RabbitMqTransport, RabbitMqWorkerBuilder},
    core::HandlerContext,
    outbox::{self, Event, OutboxError, OutboxPublisher},
    outbox_sql::{PgOutboxPublisher, PgOutboxWorkerBuilder, postgres::ensure_schema},
};
use serde::{Deserialize, Serialize};
use sqlx_08::{PgPool, postgres::PgPoolOptions};
use tokio_util::sync::CancellationToken;

use crate::{
    Result,
    contest::{Contest, Job, Size, WRITERS},
    load::{self, until},
    payload::Order,
    place::{CONNECTIONS, CUSTOMER, INSERT_ORDER, Place, TOTAL},
    rabbit::{QUEUE, Rabbit},
};

const PEER: &str = "hexeract 0.6.0";
const OUTBOX: &str = "outbox";
const PENDING: &str = "outbox WHERE delivered_at IS NULL";
const DELIVERED: &str = "outbox WHERE delivered_at IS NOT NULL AND last_error IS NULL";

pub(super) fn contests() -> Vec<Contest> {
    let contest = |job, play| Contest {
        job,
        peer: PEER,
        play,
    };
    vec![
        contest(Job::Tx, |size| Box::pin(tx(size))),
        contest(Job::Relay, |size| Box::pin(relay(size))),
        contest(Job::Consume, |size| Box::pin(consume(size))),
        contest(Job::Queue, |size| Box::pin(queue(size))),
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

async fn relay(size: Size) -> Result<f64> {
    let (place, rabbit) = (Place::new().await?, Rabbit::new().await?);
    rabbit.declare(QUEUE).await?;
    let pool = filled(&place, size.messages).await?;
    let start = Instant::now();
    let forward = Forward(RabbitMqTransport::new(rabbit.url()).await?);
    let worker = PgOutboxWorkerBuilder::new(pool.clone())
        .table_name(OUTBOX)
        .register_handler::<Placed, _>(forward)
        .build()?;
    let cancel = CancellationToken::new();
    let worker = tokio::spawn(worker.run(cancel.clone()));
    place.has_no_more(PENDING).await?;
    let took = start.elapsed();
    cancel.cancel();
    worker.await??;
    pool.close().await;
    place.has(size.messages, DELIVERED).await?;
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
    let worker = PgOutboxWorkerBuilder::new(pool.clone())
        .table_name(OUTBOX)
        .register_handler::<Placed, _>(count.clone())
        .build()?;
    let cancel = CancellationToken::new();
    let worker = tokio::spawn(worker.run(cancel.clone()));
    count.reaches(size.messages).await?;
    place.has_no_more(PENDING).await?;
    let took = start.elapsed();
    cancel.cancel();
    worker.await??;
    pool.close().await;
    place.has(size.messages, DELIVERED).await?;
    place.remove().await?;
    Ok(size.messages as f64 / took.as_secs_f64())
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
    let mut left = messages;
    while left > 0 {
        let some = left.min(1_000);
        transaction(pool.clone(), Arc::clone(&publisher), left, some).await?;
        left -= some;
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
