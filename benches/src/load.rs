//! Work by several writers at once, and how long each piece of it took.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::Result;

/// What was done.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) count: u64,
    pub(crate) took: Duration,
    /// Of each piece, in milliseconds, sorted.
    pub(crate) latencies: Vec<f64>,
}

impl Done {
    pub(crate) fn per_second(&self) -> f64 {
        self.count as f64 / self.took.as_secs_f64()
    }
}

/// So many writers, each doing one piece after the other until the time is over.
pub(crate) async fn writers<F>(
    count: usize,
    time: Duration,
    work: impl Fn(u64) -> F + Clone + Send + 'static,
) -> Result<Done>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (start, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let (work, next) = (work.clone(), Arc::clone(&next));
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            while start.elapsed() < time {
                let begun = Instant::now();
                work(next.fetch_add(1, Relaxed)).await?;
                latencies.push(ms(begun.elapsed()));
            }
            Ok::<_, crate::BoxError>(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(done) = tasks.join_next().await {
        latencies.extend(done??);
    }
    Ok(finished(start, latencies))
}

/// Pieces begun at a steady rate, whether or not those before are done, until the time is over or
/// `stop` is set.
pub(crate) async fn paced<F>(
    per_second: f64,
    time: Duration,
    stop: Arc<AtomicBool>,
    work: impl Fn(u64) -> F,
) -> Result<Done>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    let mut latencies = Vec::new();
    for number in 0_u64.. {
        let due = start + Duration::from_secs_f64(number as f64 / per_second);
        if due.duration_since(start) >= time || stop.load(Relaxed) {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        let piece = work(number);
        tasks.spawn(async move {
            piece.await?;
            // From when it was due: a late start is the system's fault as well.
            Ok::<_, crate::BoxError>(ms(due.elapsed()))
        });
        while let Some(done) = tasks.try_join_next() {
            latencies.push(done??);
        }
    }
    while let Some(done) = tasks.join_next().await {
        latencies.push(done??);
    }
    Ok(finished(start, latencies))
}

fn finished(start: Instant, mut latencies: Vec<f64>) -> Done {
    let took = start.elapsed();
    latencies.sort_by(f64::total_cmp);
    Done {
        count: latencies.len() as u64,
        took,
        latencies,
    }
}

/// The value that so many of a thousand are below, of sorted ones.
pub(crate) fn quantile(sorted: &[f64], per_mille: usize) -> f64 {
    let at = (sorted.len() * per_mille / 1_000).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// Waits until a condition holds, looking every millisecond; an error after five minutes.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !holds().await? {
        if start.elapsed() > Duration::from_secs(300) {
            return Err(format!("waited for five minutes: {what}").into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
