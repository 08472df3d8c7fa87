//! A process that fills its outbox while the broker is away, and goes on publishing while the outbox drains.
//!
//! `backlog_publisher SERVICE DATABASE_URL AMQP_URL RECORDS`. It writes `piled` to standard output, waits for
//! a line, and ends with one line of JSON: how long the drain took, and how long commits took meanwhile.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use final_amqp::Amqp;
use final_core::{Bus, OutboxDatabase, Router};
use sqlx::{Pool, pool::PoolOptions};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::{interval, sleep},
};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

const WRITERS: u64 = 8;
/// Messages in one transaction while they pile up.
const BATCH: u64 = 25;
/// Between two commits while they drain.
const PACE: Duration = Duration::from_millis(5);

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), AnyError> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [service, database, broker, records] = args.as_slice() else {
        return Err("backlog_publisher SERVICE DATABASE_URL AMQP_URL RECORDS".into());
    };
    let records = records.parse()?;
    if database.starts_with("postgres:") {
        run(pool::<sqlx::Postgres>(database)?, service, broker, records).await
    } else {
        run(pool::<sqlx::MySql>(database)?, service, broker, records).await
    }
}

fn pool<DB: OutboxDatabase>(url: &str) -> Result<Pool<DB>, sqlx::Error> {
    PoolOptions::new().max_connections(10).connect_lazy(url)
}

async fn run<DB: OutboxDatabase>(
    pool: Pool<DB>,
    service: &str,
    broker: &str,
    records: u64,
) -> Result<(), AnyError> {
    let topic: Arc<str> = format!("{service}.piled").into();
    let bus = Bus::new(service, pool, Amqp::new(broker)?);
    bus.start(Router::new()).await?;
    let next = Arc::new(AtomicU64::new(0));

    let start = Instant::now();
    let writers = (0..WRITERS).map(|_| {
        let (bus, topic, next) = (bus.clone(), Arc::clone(&topic), Arc::clone(&next));
        tokio::spawn(async move {
            loop {
                let first = next.fetch_add(BATCH, Ordering::Relaxed);
                if first >= records {
                    return Ok::<_, AnyError>(());
                }
                publish(&bus, &topic, first..first + BATCH).await?;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await??;
    }
    let piling = start.elapsed();
    let pending = bus.stats().await?.pending;
    println!("piled {pending}");

    let mut line = String::new();
    BufReader::new(tokio::io::stdin())
        .read_line(&mut line)
        .await?;
    let start = Instant::now();
    let draining = tokio::spawn(drained(bus.clone()));
    let mut pace = interval(PACE);
    let mut commits = Vec::new();
    while !draining.is_finished() {
        pace.tick().await;
        let number = records + commits.len() as u64;
        let begin = Instant::now();
        publish(&bus, &topic, number..number + 1).await?;
        commits.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    draining.await??;
    let draining = start.elapsed().as_secs_f64();
    commits.sort_by(f64::total_cmp);
    let at = |share: f64| commits[((commits.len() - 1) as f64 * share) as usize];
    let result = serde_json::json!({
        "piling_s": piling.as_secs_f64(),
        "draining_s": draining,
        "rate": records as f64 / draining,
        "commits": commits.len(),
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "max_ms": at(1.0),
        "peak_kib": peak_memory()?,
    });
    bus.shutdown().await?;
    println!("{result}");
    Ok(())
}

async fn publish<DB: OutboxDatabase>(
    bus: &Bus<DB>,
    topic: &str,
    numbers: std::ops::Range<u64>,
) -> Result<(), AnyError> {
    let tx = bus.begin().await?;
    bus.transaction(tx, async |mut txbus| {
        for number in numbers {
            // A payload of a usual size.
            txbus
                .publish(topic, &(number, [7_u8; 200].as_slice()))
                .await?;
        }
        Ok(())
    })
    .await
}

/// Waits until almost nothing is pending. The messages that are committed meanwhile are pending for a moment.
async fn drained<DB: OutboxDatabase>(bus: Bus<DB>) -> Result<(), AnyError> {
    while bus.stats().await?.pending > 100 {
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// The peak memory of this process, in KiB.
fn peak_memory() -> Result<u64, AnyError> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no VmHWM in /proc/self/status")?.parse()?)
}
