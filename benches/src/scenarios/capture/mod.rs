//! Change capture, from a source of its own to the log and to RabbitMQ.
//!
//! The source is a server of its own with the settings that capture needs. The log is in the shared database of the same
//! kind. The reader runs in this process, but for what it takes of memory, which is measured in a process of its own.

mod bare;
mod decode;
mod latency;
mod log;
mod memory;
mod rabbitmq;
mod source;

use std::time::{Duration, Instant};

use final_capture::{CaptureState, RunningCapture};
use sqlx::{MySql, Postgres};

pub(crate) use self::memory::{READER, read};
use self::source::CaptureSource;
use crate::{Result, bench::Bench, db::Db};

pub(super) async fn run(bench: &mut Bench) -> Result<()> {
    if bench.wants::<Postgres>() {
        on::<Postgres>(bench, &CaptureSource::postgres().await?).await?;
    }
    if bench.wants::<MySql>() {
        on::<MySql>(bench, &CaptureSource::mariadb().await?).await?;
    }
    Ok(())
}

async fn on<DB: Db>(bench: &mut Bench, source: &CaptureSource) -> Result<()> {
    decode::run(bench, source).await?;
    log::run::<DB>(bench, source).await?;
    rabbitmq::run::<DB>(bench, source).await?;
    latency::run::<DB>(bench, source).await?;
    memory::run::<DB>(bench, source).await
}

/// Waits until a capture reads.
async fn streams(running: &RunningCapture) -> Result<()> {
    let mut state = running.state();
    loop {
        match &*state.borrow_and_update() {
            CaptureState::Streaming => return Ok(()),
            CaptureState::Stopped(why) => return Err(why.to_string().into()),
            _ => {}
        }
        state.changed().await?;
    }
}

/// Waits until a capture has handed over so many messages since its start, and returns how long ago that start was.
async fn hands_over(running: &RunningCapture, messages: u64, start: Instant) -> Result<Duration> {
    loop {
        let stats = running.stats();
        if stats.messages >= messages {
            return Ok(start.elapsed());
        }
        if let CaptureState::Stopped(why) = stats.state {
            return Err(why.to_string().into());
        }
        if start.elapsed() > Duration::from_secs(300) {
            return Err(
                format!("{} of {messages} messages after 5 minutes", stats.messages).into(),
            );
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
