//! A process of the consuming service. Some of its handlers abort it.
//!
//! Input: a [`VictimJob`], and the end of standard input or a line on it, which shuts the process down. Output: the
//! lines `began N` and `handled N` in its journal, each written before the process goes on.

use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use final_amqp::{Amqp, QueueKind};
use final_core::{Bus, Options, OutboxDatabase, Payload, Router};
use serde::{Deserialize, Serialize};
use sqlx::Pool;
use tokio::io::AsyncBufReadExt;

use super::HandlerFate;
use crate::chaos::work::AnyError;

/// Handlers that run at once.
const CONCURRENCY: usize = 8;

/// What a process is told when it starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VictimJob {
    pub(super) service: String,
    pub(super) topic: String,
    pub(super) seed: u64,
    pub(super) database: String,
    pub(super) broker: String,
    pub(super) is_classic: bool,
    pub(super) journal: PathBuf,
    /// A folder with a file for each message that has killed its process.
    pub(super) killed: PathBuf,
}

/// Handles messages until it is told to stop, or until one of its handlers aborts the process.
///
/// # Errors
///
/// Fails if the bus cannot be started or does not stop in order.
pub async fn be_victim(job: VictimJob) -> Result<(), AnyError> {
    if job.database.starts_with("postgres:") {
        let pool = sqlx::PgPool::connect(&job.database).await?;
        handle_all(job, pool).await
    } else if job.database.starts_with("sqlite:") {
        let pool = sqlx::SqlitePool::connect(&job.database).await?;
        handle_all(job, pool).await
    } else {
        let pool = sqlx::MySqlPool::connect(&job.database).await?;
        handle_all(job, pool).await
    }
}

async fn handle_all<DB: OutboxDatabase>(job: VictimJob, pool: Pool<DB>) -> Result<(), AnyError> {
    let kind = match job.is_classic {
        true => QueueKind::Classic,
        false => QueueKind::Quorum,
    };
    let amqp = Amqp::new(&job.broker)?.queue_kind(kind);
    let options = Options::default()
        .concurrency(CONCURRENCY)
        .shutdown_timeout(Duration::from_secs(15));
    let bus = Bus::new(&job.service, pool, amqp).with_options(options);
    let journal = File::options()
        .create(true)
        .append(true)
        .open(&job.journal)?;
    let (topic, shared) = (job.topic.clone(), Arc::new((job, journal)));
    let router = Router::new().route(topic, move |Payload(number): Payload<i64>| {
        let shared = Arc::clone(&shared);
        async move { handle(&shared.0, &shared.1, number).await }
    });
    bus.start(router).await?;
    let mut orders = tokio::io::BufReader::new(tokio::io::stdin()).lines();
    orders.next_line().await?;
    bus.shutdown().await?;
    Ok(())
}

async fn handle(job: &VictimJob, mut journal: &File, number: i64) -> io::Result<()> {
    journal.write_all(format!("began {number}\n").as_bytes())?;
    match HandlerFate::of(job.seed, number) {
        HandlerFate::Good(pause) => tokio::time::sleep(pause).await,
        HandlerFate::Poison => std::process::abort(),
        HandlerFate::KillsOnce => {
            let mark = job.killed.join(number.to_string());
            match File::create_new(mark) {
                Ok(_) => std::process::abort(),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }
    journal.write_all(format!("handled {number}\n").as_bytes())
}
