//! Our side: the bus, as its documentation says.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use final_amqp::Amqp;
use final_core::{
    BoxError, Bus, Payload, PgBus, Router, SqlBroker,
    log::StartFrom,
    middleware::{CatchPanicLayer, TraceLayer},
};
use lapin::types::{AMQPValue, FieldTable};
use tower::timeout::TimeoutLayer;

use crate::{
    Result,
    contest::{Job, Play, Size, WRITERS},
    load::{self, until},
    payload::{Order, TOPIC},
    place::{Place, insert_order, thousands},
    rabbit::{Rabbit, persistent},
};

const SERVICE: &str = "bench";
const OUTBOX: &str = "final_bench_outbox";
/// Never connected to: the bus is not started.
const NOWHERE: &str = "amqp://127.0.0.1:1";

/// How we do a job.
pub(crate) fn play(job: Job) -> Play {
    match job {
        Job::Tx => |size| Box::pin(tx(size)),
        Job::Relay => |size| Box::pin(relay(size)),
        Job::Consume => |size| Box::pin(consume(size)),
        Job::Queue => |size| Box::pin(queue(size)),
    }
}

/// The bus is not started.
async fn tx(size: Size) -> Result<f64> {
    let place = Place::new().await?;
    let bus = amqp_bus(&place, NOWHERE).await?;
    let work = move |n| transaction(bus.clone(), n, 1);
    let done = load::writers(WRITERS, size.time, work).await?;
    place.has(done.count, "orders").await?;
    place.has(done.count, OUTBOX).await?;
    place.remove().await?;
    Ok(done.per_second())
}

/// The bus is started with an empty router.
async fn relay(size: Size) -> Result<f64> {
    let (place, rabbit) = (Place::new().await?, Rabbit::new().await?);
    make_queue(&place, &rabbit).await?;
    let bus = amqp_bus(&place, rabbit.url()).await?;
    fill(&bus, size.messages).await?;
    place.has(size.messages, OUTBOX).await?;
    let start = Instant::now();
    bus.start(Router::new()).await?;
    place.has_no_more(OUTBOX).await?;
    let took = start.elapsed();
    bus.shutdown().await?;
    rabbit.had(size.messages, SERVICE).await?;
    place.remove().await?;
    Ok(size.messages as f64 / took.as_secs_f64())
}

/// Three layers stand before the handler.
async fn consume(size: Size) -> Result<f64> {
    let (place, rabbit) = (Place::new().await?, Rabbit::new().await?);
    make_queue(&place, &rabbit).await?;
    let mut headers = FieldTable::default();
    let topic = AMQPValue::LongString(TOPIC.into());
    headers.insert("x-final-msg-topic".into(), topic);
    let properties = persistent("application/msgpack").with_headers(headers);
    let body = Order::new(1).encode()?;
    rabbit
        .fill(SERVICE, &properties, &body, size.messages)
        .await?;
    let bus = amqp_bus(&place, rabbit.url()).await?;
    let (router, handled) = counting();
    let router = router
        .layer(TimeoutLayer::new(Duration::from_secs(30)))
        .layer(CatchPanicLayer::new())
        .layer(TraceLayer::new());
    let start = Instant::now();
    bus.start(router).await?;
    let all = async || Ok(handled.load(Relaxed) >= size.messages);
    until("for all messages to be handled", all).await?;
    let took = start.elapsed();
    bus.shutdown().await?;
    rabbit.is_empty(SERVICE).await?;
    place.remove().await?;
    Ok(size.messages as f64 / took.as_secs_f64())
}

/// The database is the broker.
async fn queue(size: Size) -> Result<f64> {
    let place = Place::new().await?;
    let broker = SqlBroker::new(place.pool.clone()).start_from(StartFrom::Beginning);
    let bus = Bus::new(SERVICE, place.pool.clone(), broker.clone());
    bus.migrate().await?;
    fill(&bus, size.messages).await?;
    place.has(size.messages, "final_log").await?;
    let (router, handled) = counting();
    let start = Instant::now();
    bus.start(router).await?;
    let all = async || Ok(handled.load(Relaxed) >= size.messages);
    until("for all jobs to be handled", all).await?;
    let settled = async || Ok(broker.backlog(SERVICE).await?.oldest.is_none());
    until("for all jobs to be settled", settled).await?;
    let took = start.elapsed();
    bus.shutdown().await?;
    place.remove().await?;
    Ok(size.messages as f64 / took.as_secs_f64())
}

async fn amqp_bus(place: &Place, url: &str) -> Result<PgBus> {
    let bus = Bus::new(SERVICE, place.pool.clone(), Amqp::new(url)?);
    bus.migrate().await?;
    Ok(bus)
}

/// Makes the topic and the service's queue, so that messages have a place to go; nobody takes them.
async fn make_queue(place: &Place, rabbit: &Rabbit) -> Result<()> {
    let bus = amqp_bus(place, rabbit.url()).await?;
    bus.start(counting().0).await?;
    Ok(bus.shutdown().await?)
}

/// So many records of different orders.
async fn fill(bus: &PgBus, records: u64) -> Result<()> {
    for (number, messages) in thousands(records) {
        transaction(bus.clone(), number, messages).await?;
    }
    Ok(())
}

/// One business row and so many messages, in one transaction.
async fn transaction(bus: PgBus, number: u64, messages: u64) -> Result<()> {
    let tx = bus.begin().await?;
    bus.transaction(tx, async |mut txbus| {
        insert_order(txbus.conn(), number).await?;
        for message in 0..messages {
            let order = Order::new(number * 1_000 + message);
            txbus.publish(TOPIC, &order).await?;
        }
        Ok::<_, BoxError>(())
    })
    .await
}

/// A router that counts what it handles.
fn counting() -> (Router, Arc<AtomicU64>) {
    let handled = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&handled);
    let router = Router::new().route(TOPIC, move |Payload(_): Payload<Order>| {
        count.fetch_add(1, Relaxed);
        std::future::ready(())
    });
    (router, handled)
}
