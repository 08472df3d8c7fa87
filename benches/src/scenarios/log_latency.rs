//! How long a message of the log is under way, within a process and from one to another.

use std::{
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use final_core::{Bus, Router};
use sqlx::{MySql, Postgres, Sqlite};

use super::ours::{self, log_bus};
use crate::{
    Result,
    bench::Bench,
    db::{Db, Place},
    load::{self, quantile, until},
    row::{Must, Row},
    sides::OURS,
};

/// The first word of this program's command line in a process that publishes; then the database,
/// where it is, and for how many seconds.
pub(crate) const PUBLISHER: &str = "publisher";

/// That process.
pub(crate) async fn publish(words: &[String]) -> Result<()> {
    let [db, url, seconds] = words else {
        return Err("a publisher is told its database, where it is, and for how long".into());
    };
    let time = Duration::from_secs_f64(seconds.parse()?);
    match db.as_str() {
        <Postgres as Db>::LABEL => publish_to::<Postgres>(url, time).await,
        <MySql as Db>::LABEL => publish_to::<MySql>(url, time).await,
        _ => publish_to::<Sqlite>(url, time).await,
    }
}

async fn publish_to<DB: Db>(url: &str, time: Duration) -> Result<()> {
    let bus = log_bus(&DB::connect(url).await?).await?;
    bus.start(Router::new()).await?;
    let count = paced(&bus, time).await?;
    bus.shutdown().await?;
    println!("{count}");
    Ok(())
}

/// From before COMMIT to the handler: in this process, and from another one.
pub(super) async fn run<DB: Db>(bench: &mut Bench, place: &Place<DB>) -> Result<()> {
    for (apart, what, most) in [
        (false, "one process", Some(5.0)),
        (true, "across processes", None),
    ] {
        let (mut p50, mut p99) = (Vec::new(), Vec::new());
        for _ in 0..bench.rounds(5) {
            let ages = ages(place, apart, bench.time(5.0)).await?;
            p50.push(quantile(&ages, 500));
            p99.push(quantile(&ages, 990));
        }
        // Elsewhere nothing tells another process, so it looks from time to time.
        let notified = DB::LABEL == <Postgres as Db>::LABEL;
        let most = most.or(notified.then_some(15.0));
        let row = |metric: &str, values: &[f64]| {
            let metric = format!("{metric} at 100/s, {what}");
            Row::alone("log", OURS, DB::LABEL, metric, values)
        };
        let half = row("p50 ms", &p50);
        bench.add([
            match most {
                Some(most) => half.must(Must::Below(most)),
                None => half,
            },
            row("p99 ms", &p99),
        ]);
    }
    Ok(())
}

/// How old messages are when they are handled here, in milliseconds, sorted.
async fn ages<DB: Db>(place: &Place<DB>, apart: bool, time: Duration) -> Result<Vec<f64>> {
    let bus = log_bus(&place.pool).await?;
    let ages = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&ages);
    let (router, handled) = ours::counting(move |order| {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(order.age_ms());
    });
    bus.start(router).await?;
    let count = if apart {
        published_by_another(place, time).await?
    } else {
        paced(&bus, time).await?
    };
    let all = async || Ok(handled.load(Relaxed) >= count);
    until("for all messages to be handled", all).await?;
    bus.shutdown().await?;
    let mut ages = std::mem::take(&mut *ages.lock().unwrap_or_else(PoisonError::into_inner));
    ages.sort_by(f64::total_cmp);
    Ok(ages)
}

async fn published_by_another<DB: Db>(place: &Place<DB>, time: Duration) -> Result<u64> {
    let publisher = Command::new(std::env::current_exe()?)
        .args([PUBLISHER, DB::LABEL, &place.url])
        .arg(time.as_secs_f64().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = tokio::task::spawn_blocking(|| publisher.wait_with_output()).await??;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

async fn paced<DB: Db>(bus: &Bus<DB>, time: Duration) -> Result<u64> {
    let go_on = Arc::new(AtomicBool::new(false));
    let done = load::paced(100.0, time, go_on, |n| ours::transaction(bus, n, 1)).await?;
    Ok(done.count)
}
