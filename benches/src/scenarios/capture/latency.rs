//! From before a COMMIT at the source to the handler, through the log, at 1,000 rows a second.

use std::sync::{Arc, Mutex, PoisonError, atomic::AtomicBool};

use final_capture::{Change, target::Target};
use final_core::{Bus, Router, SqlBroker};
use serde::Deserialize;

use super::{
    source::{CaptureSource, TOPIC},
    streams,
};
use crate::{
    Result,
    bench::Bench,
    db::Db,
    load::{self, quantile, until},
    payload::now,
    row::{Must, Row},
    sides::OURS,
};

/// What the handler needs of a row.
#[derive(Debug, Deserialize)]
struct Order {
    /// When it was inserted, in nanoseconds since 1970.
    id: u64,
}

pub(super) async fn run<DB: Db>(bench: &mut Bench, source: &CaptureSource) -> Result<()> {
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for round in 0..bench.rounds(5) {
        let ages = ages::<DB>(bench, source, round).await?;
        p50.push(quantile(&ages, 500));
        p99.push(quantile(&ages, 990));
    }
    let row = |metric: &str, values: &[f64]| {
        let metric = format!("{metric}, COMMIT to handler, 1,000 rows/s");
        Row::alone("capture", OURS, source.label(), metric, values)
    };
    bench.add([
        row("p50 ms", &p50),
        row("p99 ms", &p99).must(Must::Below(20.0)),
    ]);
    Ok(())
}

async fn ages<DB: Db>(bench: &Bench, source: &CaptureSource, round: usize) -> Result<Vec<f64>> {
    let place = DB::fresh().await?;
    let log = SqlBroker::new(place.pool.clone());
    let bus = Bus::new("bench", place.pool.clone(), log.clone());
    bus.migrate().await?;
    let ages = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&ages);
    let router = Router::new().route(TOPIC, move |change: Change<Order>| {
        if let Change::Insert { after, .. } = change {
            let age = now().saturating_sub(after.id) as f64 / 1e6;
            seen.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(age);
        }
        std::future::ready(())
    });
    bus.start(router).await?;
    let name = format!("latency_{round}");
    let capture = source.capture(&name)?;
    let running = capture
        .to(Target::log(place.pool.clone(), log))
        .start()
        .await?;
    streams(&running).await?;
    let writers = source.writers(16).await?;
    let never = Arc::new(AtomicBool::new(false));
    let done = load::paced(1_000.0, bench.time(5.0), never, |_| {
        let writers = writers.clone();
        async move { writers.insert(now()).await }
    })
    .await?;
    let count = || ages.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
    until("for the last rows", async || Ok(count() >= done.count)).await?;
    running.shutdown().await;
    bus.shutdown().await?;
    source.forget(&name).await?;
    source.clear().await?;
    let mut ages = ages.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ages.sort_by(f64::total_cmp);
    Ok(ages)
}
