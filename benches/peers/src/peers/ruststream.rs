//! ruststream with its brokers for SQL tables and for RabbitMQ, as its guides have them.
//!
//! Its guide for a relay writes the event into an inbox table in the caller's transaction, and a
//! subscription on that table publishes it to the other broker; so `tx` and `relay` are played with
//! that, and not with its outbox, which records what a service publishes when it publishes it. Eight
//! workers, a pool for them and a prefetch of 64 are those of the guides for production. It can also work
//! in batches, where one transaction claims and settles 500 rows.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use ruststream_lapin::{ConfirmsPublish, LapinBroker, RabbitQuorumQueue};
use ruststream_sqlx::prelude::*;
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, Postgres, postgres::PgPoolOptions};

use crate::{
    Result,
    contest::{Contest, Job, Size, WRITERS},
    load::{self, until},
    payload::Order,
    place::{Place, insert_order, thousands},
    rabbit::{QUEUE, Rabbit, persistent},
};

const PEER: &str = "ruststream 0.7.7";
const BATCHES: &str = "ruststream 0.7.7, batches of 500";
const TABLE: &str = "CREATE TABLE order_events (id bigserial PRIMARY KEY, payload bytea NOT NULL)";
const WORKERS: u32 = 8;

/// What the handlers have seen in this play.
static HANDLED: AtomicU64 = AtomicU64::new(0);

pub(super) fn contests() -> Vec<Contest> {
    let contest = |job, peer, play| Contest { job, peer, play };
    vec![
        contest(Job::Tx, PEER, |size| Box::pin(tx(size))),
        contest(Job::Relay, PEER, |size| Box::pin(relay(size, false))),
        contest(Job::Relay, BATCHES, |size| Box::pin(relay(size, true))),
        contest(Job::Consume, PEER, |size| Box::pin(consume(size))),
        contest(Job::Queue, PEER, |size| Box::pin(queue(size, false))),
        contest(Job::Queue, BATCHES, |size| Box::pin(queue(size, true))),
    ]
}

#[derive(Inbox, sqlx::FromRow)]
#[inbox(table = "order_events")]
struct OrderEvent {
    #[field(id, generated)]
    id: i64,
    #[field(payload)]
    payload: Vec<u8>,
}

#[derive(Clone, Debug, Serialize, Deserialize, Outgoing)]
#[outgoing(name = "orders")]
#[serde(transparent)]
struct Placed(Order);

#[subscriber(InboxQueue::<OrderEvent>::new("order-events"), reply)]
async fn forward(placed: &Placed) -> Placed {
    placed.clone()
}

#[subscriber(InboxQueue::<OrderEvent>::new("order-events"), reply)]
async fn forward_many(placed: &[Placed]) -> Vec<Placed> {
    placed.to_vec()
}

#[subscriber(InboxQueue::<OrderEvent>::new("order-events"))]
async fn one(_placed: &Placed) -> HandlerOutcome {
    HANDLED.fetch_add(1, Relaxed);
    HandlerOutcome::ack()
}

#[subscriber(InboxQueue::<OrderEvent>::new("order-events"))]
async fn many(placed: &[Placed]) -> HandlerOutcome {
    HANDLED.fetch_add(placed.len() as u64, Relaxed);
    HandlerOutcome::ack()
}

#[subscriber(RabbitQuorumQueue::new("orders"))]
async fn delivered(_placed: &Placed) -> HandlerOutcome {
    HANDLED.fetch_add(1, Relaxed);
    HandlerOutcome::ack()
}

async fn tx(size: Size) -> Result<f64> {
    let place = Place::new().await?;
    place.execute(TABLE).await?;
    let pool = place.pool.clone();
    let work = move |n| transaction(pool.clone(), n, 1);
    let done = load::writers(WRITERS, size.time, work).await?;
    place.has(done.count, "orders").await?;
    place.has(done.count, "order_events").await?;
    place.remove().await?;
    Ok(done.per_second())
}

async fn relay(size: Size, batches: bool) -> Result<f64> {
    let (place, rabbit) = (filled(size.messages).await?, Rabbit::new().await?);
    rabbit.declare(QUEUE).await?;
    let bus = LapinBroker::new(rabbit.url()).bindable();
    let to_bus = bus.bind(ConfirmsPublish::default());
    let service = RustStream::new(AppInfo::new("bench", "0.1.0"))
        .with_broker(broker(&place)?, |b| {
            if batches {
                // All confirms of a batch are waited for together.
                let replies = b.include(forward_many.batch(nonzero!(500)));
                replies.out_reply(to_bus).transactional();
            } else {
                b.include(forward.workers(nonzero!(8))).out_reply(to_bus);
            }
        })
        .with_broker(bus, |_| {});
    let start = Instant::now();
    let running = service.start().await?;
    place.has_no_more("order_events").await?;
    let took = start.elapsed();
    running.shutdown().await?;
    rabbit.had(size.messages, QUEUE).await?;
    place.remove().await?;
    Ok(size.messages as f64 / took.as_secs_f64())
}

async fn consume(size: Size) -> Result<f64> {
    let rabbit = Rabbit::new().await?;
    rabbit.declare(QUEUE).await?;
    let body = serde_json::to_vec(&Order::new(1))?;
    rabbit
        .fill(QUEUE, &persistent("application/json"), &body, size.messages)
        .await?;
    HANDLED.store(0, Relaxed);
    let broker = LapinBroker::new(rabbit.url()).prefetch(nonzero!(64));
    let service = RustStream::new(AppInfo::new("bench", "0.1.0")).with_broker(broker, |b| {
        b.include(delivered);
    });
    let start = Instant::now();
    let running = service.start().await?;
    let all = async || Ok(HANDLED.load(Relaxed) >= size.messages);
    until("for all messages to be handled", all).await?;
    let took = start.elapsed();
    running.shutdown().await?;
    rabbit.is_empty(QUEUE).await?;
    Ok(size.messages as f64 / took.as_secs_f64())
}

async fn queue(size: Size, batches: bool) -> Result<f64> {
    let place = filled(size.messages).await?;
    HANDLED.store(0, Relaxed);
    let service = RustStream::new(AppInfo::new("bench", "0.1.0"));
    let service = service.with_broker(broker(&place)?, |b| {
        if batches {
            b.include(many.batch(nonzero!(500)));
        } else {
            b.include(one.workers(nonzero!(8)));
        }
    });
    let start = Instant::now();
    let running = service.start().await?;
    let all = async || Ok(HANDLED.load(Relaxed) >= size.messages);
    until("for all jobs to be handled", all).await?;
    place.has_no_more("order_events").await?;
    let took = start.elapsed();
    running.shutdown().await?;
    place.remove().await?;
    Ok(size.messages as f64 / took.as_secs_f64())
}

/// A connection for each worker, and one for the rest.
fn broker(place: &Place) -> Result<SqlxBroker<Postgres>> {
    let pool = PgPoolOptions::new().max_connections(WORKERS + 1);
    Ok(SqlxBroker::from_connect_options(place.url.parse()?, pool))
}

async fn filled(messages: u64) -> Result<Place> {
    let place = Place::new().await?;
    place.execute(TABLE).await?;
    for (number, messages) in thousands(messages) {
        transaction(place.pool.clone(), number, messages).await?;
    }
    place.has(messages, "order_events").await?;
    Ok(place)
}

async fn transaction(pool: PgPool, number: u64, messages: u64) -> Result<()> {
    let mut tx = pool.begin().await?;
    insert_order(&mut tx, number).await?;
    for message in 0..messages {
        let placed = Placed(Order::new(number * 1_000 + message));
        let event = OrderEvent {
            id: 0,
            payload: serde_json::to_vec(&placed)?,
        };
        event.insert(&mut *tx).await?;
    }
    Ok(tx.commit().await?)
}
