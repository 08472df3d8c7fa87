//! A million records wait, and the service goes on writing.
//!
//! The queue keeps the newest thousand messages only: what is measured is the way to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use lapin::types::{AMQPValue, FieldTable};
use sqlx::{MySql, Postgres};

use super::ours;
use crate::{
    Result,
    bench::Bench,
    db::Db,
    hand,
    load::{self, quantile},
    payload::TOPIC,
    plot::Plot,
    process,
    row::{Must, Row},
};

pub(super) async fn run(bench: &mut Bench) -> Result<()> {
    on::<Postgres>(bench).await?;
    on::<MySql>(bench).await
}

async fn on<DB: Db>(bench: &mut Bench) -> Result<()> {
    if !bench.wants::<DB>() {
        return Ok(());
    }
    let records = bench.count(1_000_000);
    let place = DB::fresh().await?;
    let vhost = final_tests::amqp_vhost().await?;
    let connection = hand::connect(vhost.url()).await?;
    let channel = connection.create_channel().await?;
    let mut short = FieldTable::default();
    short.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    short.insert("x-max-length".into(), AMQPValue::LongInt(1_000));
    hand::declare_with(&channel, TOPIC, "short", short).await?;

    let bus = ours::bus(&place.pool, vhost.url()).await?;
    ours::fill(&bus, records).await?;
    let before = process::memory_mib()?;
    bus.start(final_core::Router::new()).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = {
        let (bus, stop) = (bus.clone(), Arc::clone(&stop));
        let forever = Duration::from_secs(3_600);
        tokio::spawn(async move {
            load::paced(500.0, forever, stop, |n| ours::transaction(&bus, n, 1)).await
        })
    };

    let start = Instant::now();
    let mut drain = Vec::new();
    let mut peak = before;
    let mut memory = Plot::new(
        format!("memory-{}", DB::LABEL),
        format!("Memory of the process meanwhile, {}", DB::LABEL),
        ("seconds", "MiB"),
    );
    loop {
        let acked = bus.acked() as f64;
        let now = start.elapsed().as_secs_f64();
        let mib = process::memory_mib()?;
        peak = peak.max(mib);
        memory.point("resident", now, mib);
        drain.push((now, acked));
        if acked >= records as f64 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(if records > 10_000 {
            2_000
        } else {
            10
        }))
        .await;
    }
    stop.store(true, Relaxed);
    let commits = writing.await??;
    bus.shutdown().await?;

    let mut plot = Plot::new(
        format!("backlog-{}", DB::LABEL),
        format!(
            "A million records, drained while 500/s are added, {}",
            DB::LABEL
        ),
        ("seconds", "records sent"),
    );
    for (at, acked) in &drain {
        plot.point("sent and acked", *at, *acked);
    }
    let total = records as f64;
    let first = rate_between(&drain, 0.05 * total, 0.15 * total);
    let last = rate_between(&drain, 0.85 * total, 0.95 * total);
    let whole = total / start.elapsed().as_secs_f64();
    let row = |metric: &str, value: f64| Row::alone("backlog", "ours", DB::LABEL, metric, &[value]);
    bench.add([
        row("records/s, whole", whole),
        row("records/s, near the start", first),
        row("records/s, near the end", last),
        row("rate at the start over the end", first / last).must(Must::AtMost(1.15)),
        row("peak memory, MiB", peak).must(Must::Below(150.0)),
        row("p50 ms of transactions", quantile(&commits.latencies, 500)),
        row("p99 ms of transactions", quantile(&commits.latencies, 990)).must(Must::Below(50.0)),
    ]);
    bench.plots.extend([plot, memory]);
    Ok(())
}

/// Records per second between two numbers of records sent.
fn rate_between(drain: &[(f64, f64)], from: f64, to: f64) -> f64 {
    let at = |records: f64| drain.iter().find(|(_, sent)| *sent >= records);
    match (at(from), at(to)) {
        (Some((t0, n0)), Some((t1, n1))) if t1 > t0 => (n1 - n0) / (t1 - t0),
        _ => f64::NAN,
    }
}
