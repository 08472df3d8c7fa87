//! A process that a message takes down: it handles numbers, and a negative one aborts it.
//!
//! `poisoned SERVICE DATABASE_URL BROKER JOURNAL`; BROKER is `log`, or `quorum` or `classic` and the URL of a RabbitMQ
//! with a comma between. Each number is a line of the journal when its handler begins, and `done` and the number when
//! it ends. Ends in good order when its standard input does.

use std::{fs::File, io::Write, sync::Arc, time::Duration};

use final_amqp::{Amqp, QueueKind};
use final_core::{
    Bus, Options, OutboxDatabase, Payload, Router, SqlBroker, broker::Broker, log::StartFrom,
};
use sqlx::{MySqlPool, PgPool, Pool, SqlitePool};
use tokio::io::AsyncReadExt;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), AnyError> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [service, url, broker, journal] = args.as_slice() else {
        return Err("poisoned SERVICE DATABASE_URL BROKER JOURNAL".into());
    };
    match url.split(':').next() {
        Some("postgres") => over(broker, service, PgPool::connect(url).await?, journal).await,
        Some("mysql") => over(broker, service, MySqlPool::connect(url).await?, journal).await,
        _ => over(broker, service, SqlitePool::connect(url).await?, journal).await,
    }
}

async fn over<DB: OutboxDatabase>(
    broker: &str,
    service: &str,
    pool: Pool<DB>,
    journal: &str,
) -> Result<(), AnyError> {
    let Some((kind, url)) = broker.split_once(',') else {
        let broker = SqlBroker::new(pool.clone())
            .lease(Duration::from_millis(600))
            .poll_interval(Duration::from_millis(100))
            .start_from(StartFrom::Beginning);
        return work(service, pool, broker, journal).await;
    };
    let kind = match kind {
        "classic" => QueueKind::Classic,
        _ => QueueKind::Quorum,
    };
    let amqp = Amqp::new(url)?.queue_kind(kind);
    work(service, pool, amqp, journal).await
}

async fn work<DB: OutboxDatabase>(
    service: &str,
    pool: Pool<DB>,
    broker: impl Broker,
    journal: &str,
) -> Result<(), AnyError> {
    let journal = Arc::new(File::options().append(true).create(true).open(journal)?);
    let options = Options::default().shutdown_timeout(Duration::from_secs(10));
    let bus: Bus<DB> = Bus::new(service, pool, broker).with_options(options);
    let topic = format!("{service}.job");
    let router = Router::new().route(&topic, move |Payload(number): Payload<i64>| {
        let journal = Arc::clone(&journal);
        async move {
            (&*journal).write_all(format!("{number}\n").as_bytes())?;
            if number < 0 {
                std::process::abort();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            (&*journal).write_all(format!("done {number}\n").as_bytes())
        }
    });
    bus.start(router).await?;
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(bus.shutdown().await?)
}
