//! apalis: `push_tasks` in the caller's transaction, and its workers on PostgreSQL and on RabbitMQ.
//! It has no relay from one to the other.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use apalis::prelude::*;
use apalis_amqp::AmqpBackend;
use apalis_postgres::{PostgresStorage, queries::push_tasks};
use sqlx::PgPool;
use tokio::sync::oneshot;

use crate::{
    Result,
    contest::{Contest, Job, Size, WRITERS},
    load::{self, until},
    payload::Order,
    place::{Place, insert_order, thousands},
    rabbit::{QUEUE, Rabbit, persistent, quorum},
};

const PEER: &str = "apalis 1.0.0";
const AT_ITS_BEST: &str = "apalis 1.0.0, batches of 500";
const JOBS: &str = "apalis.jobs";

/// What the handler has seen in this play.
static HANDLED: AtomicU64 = AtomicU64::new(0);

pub(super) fn contests() -> Vec<Contest> {
    let contest = |job, peer, play| Contest { job, peer, play };
    vec![
        contest(Job::Tx, PEER, |size| Box::pin(tx(size))),
        contest(Job::Consume, PEER, |size| Box::pin(consume(size))),
        contest(Job::Queue, PEER, |size| Box::pin(queue(size, None))),
        contest(Job::Queue, AT_ITS_BEST, |size| {
            Box::pin(queue(size, Some(500)))
        }),
    ]
}

async fn handle(_order: Order) -> Result<(), BoxDynError> {
    HANDLED.fetch_add(1, Relaxed);
    Ok(())
}

async fn tx(size: Size) -> Result<f64> {
    let place = prepared().await?;
    let pool = place.pool.clone();
    let work = move |n| transaction(pool.clone(), n, 1);
    let done = load::writers(WRITERS, size.time, work).await?;
    place.has(done.count, "orders").await?;
    place.has(done.count, JOBS).await?;
    place.remove().await?;
    Ok(done.per_second())
}

async fn consume(size: Size) -> Result<f64> {
    let rabbit = Rabbit::new().await?;
    let config = apalis_amqp::Config::default()
        .queue(QUEUE)
        .declare_arguments(quorum());
    let mut backend = AmqpBackend::<Order>::new_from_addr(rabbit.url())?.with_config(config);
    // A backend can only ack on the channel that it has opened by pushing before it became a worker's.
    backend.push(Order::new(1)).await?;
    let body = serde_json::to_vec(&Order::new(1))?;
    let properties = persistent("application/json");
    rabbit
        .fill(QUEUE, &properties, &body, size.messages - 1)
        .await?;
    HANDLED.store(0, Relaxed);
    let start = Instant::now();
    let worker = WorkerBuilder::new("bench").backend(backend).build(handle);
    let (stop, stopped) = oneshot::channel();
    let working = async { Ok(worker.run_until(until_told(stopped)).await?) };
    let watching = async {
        let all = async || Ok(HANDLED.load(Relaxed) >= size.messages);
        until("for all messages to be handled", all).await?;
        let took = start.elapsed();
        let _ = stop.send(());
        Ok(took)
    };
    let took = both(working, watching).await?;
    rabbit.is_empty(QUEUE).await?;
    Ok(size.messages as f64 / took.as_secs_f64())
}

async fn queue(size: Size, batch: Option<usize>) -> Result<f64> {
    let place = prepared().await?;
    for (number, messages) in thousands(size.messages) {
        transaction(place.pool.clone(), number, messages).await?;
    }
    place.has(size.messages, JOBS).await?;
    HANDLED.store(0, Relaxed);
    let mut config = apalis_postgres::Config::default().queue(QUEUE);
    if let Some(batch) = batch {
        config = config.batch_size(batch);
    }
    let start = Instant::now();
    let backend = PostgresStorage::<Order>::new(&place.pool).with_config(config);
    let worker = WorkerBuilder::new("bench").backend(backend).build(handle);
    let (stop, stopped) = oneshot::channel();
    let working = async { Ok(worker.run_until(until_told(stopped)).await?) };
    let watching = async {
        let all = async || Ok(HANDLED.load(Relaxed) >= size.messages);
        until("for all jobs to be handled", all).await?;
        place
            .has_no_more("apalis.jobs WHERE status <> 'Done'")
            .await?;
        let took = start.elapsed();
        let _ = stop.send(());
        Ok(took)
    };
    let took = both(working, watching).await?;
    place.has(size.messages, JOBS).await?;
    place.remove().await?;
    Ok(size.messages as f64 / took.as_secs_f64())
}

/// A worker's future is not one that can be spawned, so it runs beside what watches it.
async fn both(
    working: impl Future<Output = Result<()>>,
    watching: impl Future<Output = Result<Duration>>,
) -> Result<Duration> {
    let ((), took) = tokio::try_join!(working, watching)?;
    Ok(took)
}

async fn until_told(stopped: oneshot::Receiver<()>) -> Result<(), WorkerError> {
    // Whoever would tell being gone is a reason to stop as well.
    let _ = stopped.await;
    Ok(())
}

async fn prepared() -> Result<Place> {
    let place = Place::new().await?;
    PostgresStorage::setup(&place.pool).await?;
    Ok(place)
}

async fn transaction(pool: PgPool, number: u64, messages: u64) -> Result<()> {
    let mut tx = pool.begin().await?;
    insert_order(&mut tx, number).await?;
    let mut tasks = Vec::new();
    for message in 0..messages {
        let order = Order::new(number * 1_000 + message);
        tasks.push(TaskBuilder::new(serde_json::to_vec(&order)?).build());
    }
    push_tasks(&mut *tx, QUEUE, tasks).await?;
    Ok(tx.commit().await?)
}
