//! What runs inside a worker process.

mod behavior;
mod orders;
mod seller;
mod shop;
mod subscriber;

use std::{path::PathBuf, sync::Arc, time::Duration};

use final_amqp::{Amqp, QueueKind};
use final_core::{Bus, Options, OutboxDatabase, SqlBroker, broker::DeadLetterFilter};
use serde::{Deserialize, Serialize};
use sqlx::{Pool, pool::PoolOptions};

pub(crate) use behavior::{Behavior, scatter};
pub(crate) use orders::{KillPlace, Order};
pub(crate) use shop::TABLES;

use self::shop::Shop;
use super::journal::{Entry, Journal};

/// How many messages may wait for their confirm in one process. A kill repeats at most so many on the way
/// out.
pub(crate) const CONFIRM_WINDOW: usize = 200;
/// How many deliveries one process holds. A kill repeats at most so many on the way in.
pub(crate) const PREFETCH: u16 = 100;
/// The outbox's lease: after that time another instance takes over the records of a silent one.
pub(crate) const LEASE: Duration = Duration::from_secs(5);
/// The log's lease: after that time another member takes over the lanes of a silent one.
pub(crate) const LOG_LEASE: Duration = Duration::from_secs(2);
/// After so many settled messages the log writes its progress. A kill repeats at most so many of them.
pub(crate) const COMMIT_AFTER: usize = 100;
/// Connections of the callers' pool.
const CONNECTIONS: u32 = 8;

/// Any error; a worker only logs it.
pub type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// What a worker is told when it starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// What it does.
    pub(crate) role: Role,
    /// The worker's number. It is the upper half of the ids of the worker's sales.
    pub(crate) born: u32,
    pub(crate) seed: u64,
    pub(crate) database: String,
    /// The URL of RabbitMQ. Without one the worker uses the log of the database.
    pub(crate) broker: Option<String>,
    pub(crate) journal: PathBuf,
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    /// Writes sales and publishes; service `shop`.
    Seller,
    /// Handles two topics from a quorum queue; service `mail`.
    Mail,
    /// Handles the third topic from a classic queue; service `audit`.
    Audit,
}

impl Role {
    pub(crate) fn service(self) -> &'static str {
        match self {
            Self::Seller => "shop",
            Self::Mail => "mail",
            Self::Audit => "audit",
        }
    }

    pub(crate) fn topics(self) -> &'static [&'static str] {
        match self {
            Self::Seller => &[],
            Self::Mail => &["sold.a", "sold.b"],
            Self::Audit => &["sold.c"],
        }
    }
}

/// A message of a sale.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Sold {
    pub(crate) sale: i64,
    pub(crate) index: u8,
    /// The message is due at this time of the machine's monotonic clock, in microseconds.
    due: u64,
    /// Makes some messages long.
    #[serde(default)]
    note: String,
}

/// Works until it is told to stop, or until its standard input ends.
pub async fn work(job: Job) -> Result<(), AnyError> {
    if job.database.starts_with("postgres:") {
        work_on::<sqlx::Postgres>(job).await
    } else if job.database.starts_with("sqlite:") {
        work_on::<sqlx::Sqlite>(job).await
    } else {
        work_on::<sqlx::MySql>(job).await
    }
}

async fn work_on<DB: Shop>(job: Job) -> Result<(), AnyError> {
    let journal = Arc::new(Journal::create(&job.journal)?);
    let pool: Pool<DB> = PoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(Duration::from_secs(3))
        .connect_lazy(&job.database)?;
    let options = Options::default()
        .confirm_window(CONFIRM_WINDOW)
        .lease(LEASE)
        .scan_interval(Duration::from_secs(2))
        .shutdown_timeout(Duration::from_secs(15));
    let service = job.role.service();
    let bus = match &job.broker {
        Some(url) => Bus::new(service, pool.clone(), rabbitmq(url, job.role)?),
        None => Bus::new(service, pool.clone(), log(&pool)),
    };
    let bus = bus.with_options(options);

    // A supervisor would start the process again while the database is away. Here the start is tried again.
    let router = || subscriber::router(job.role, &journal);
    while let Err(error) = bus.start(router()).await {
        tracing::warn!(%error, "not started");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    journal.write(&Entry::Started)?;
    let sellers = seller::Sellers::start(&job, &bus, &journal);
    orders::follow(&pool, &sellers, &journal).await?;
    sellers.stop().await?;
    bus.shutdown().await?;
    Ok(())
}

fn rabbitmq(url: &str, role: Role) -> Result<Amqp, AnyError> {
    let kind = match role {
        Role::Audit => QueueKind::Classic,
        Role::Seller | Role::Mail => QueueKind::Quorum,
    };
    Ok(Amqp::new(url)?.queue_kind(kind).prefetch(PREFETCH))
}

fn log<DB: Shop>(pool: &Pool<DB>) -> SqlBroker<DB> {
    SqlBroker::new(pool.clone())
        .lease(LOG_LEASE)
        .prefetch(PREFETCH.into())
        .commit_after(COMMIT_AFTER)
}

/// Takes the dead letters of a service out of the log, with the reason of each.
pub(crate) async fn dead_letters<DB: OutboxDatabase>(
    pool: &Pool<DB>,
    service: &str,
) -> Result<Vec<(Option<Sold>, String)>, final_core::Error> {
    let log = SqlBroker::new(pool.clone());
    let mut dead = Vec::new();
    loop {
        let some = log
            .dead_letters(service, &DeadLetterFilter::all().limit(500))
            .await?;
        if some.is_empty() {
            return Ok(dead);
        }
        let ids: Vec<_> = some.iter().map(|letter| letter.id).collect();
        dead.extend(some.into_iter().map(|letter| {
            let sold = letter.message.ok();
            let sold = sold.and_then(|message| rmp_serde::from_slice(message.payload()).ok());
            (sold, letter.reason)
        }));
        log.discard(service, &DeadLetterFilter::all().ids(ids))
            .await?;
    }
}
