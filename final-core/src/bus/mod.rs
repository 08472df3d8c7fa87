//! The bus: the one thing a service holds.
//!
//! [`Bus`], [`Stats`] and [`Health`] are at the crate's root as well. Here are the futures that publishing returns, and
//! the markers of [`TxBus`].
//!
//! Inside, a bus is the outbox's door, the broker, the options, and, from `start` on, the relay, the link and
//! the subscriber. `tx` and `publish` stage a message, `policy` checks it, `write` and `alone` commit it;
//! `start` and `stop` are the two ends of its life, and `ending` is what callers of `shutdown` wait for;
//! `stats` and `failed` tell about the outbox, `letters` about dead letters that were collected, `metrics` and
//! `health` about the whole bus.

mod alone;
mod batch;
mod ending;
mod failed;
mod health;
mod letters;
mod metrics;
mod policy;
mod publish;
mod start;
mod stats;
mod stop;
mod transaction;
mod tx;
mod write;

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};

use sqlx::{Pool, Transaction};
use tokio::{runtime::Handle, sync::Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{ending::Ending, start::Running};
pub use self::{
    failed::RetryFailed,
    health::Health,
    letters::CollectedLetters,
    publish::{Publish, PublishIn},
    stats::Stats,
    tx::{ByHand, InClosure, TxBus, TxPublish},
};
use crate::{
    Error, Options, OutboxDatabase,
    admin::{make_operations, operations_script},
    broker::{Broker, Staging, StagingRequest},
    names::ServiceName,
    outbox::{Outbox, Table},
    runtime::{asked::Asked, crew::Crew, inside::BusNumber},
    telemetry::{Hook, Telemetry},
};

/// A bus on PostgreSQL.
#[cfg(feature = "postgres")]
pub type PgBus = Bus<sqlx::Postgres>;
/// A bus on MySQL or MariaDB.
#[cfg(feature = "mysql")]
pub type MySqlBus = Bus<sqlx::MySql>;
/// A bus on SQLite.
#[cfg(feature = "sqlite")]
pub type SqliteBus = Bus<sqlx::Sqlite>;

/// Publishes the messages of a service, and brings it the messages that it subscribes.
///
/// Cheap to clone; all clones are the same bus. It works as the state of an axum service.
///
/// ```text
///   new ── start ──▶ running ── shutdown ──▶ stopped
///    └ publishing before `start`, or after `shutdown`, waits in the outbox
/// ```
///
/// Call [`shutdown`](Self::shutdown) before the process ends. When the last clone is dropped
/// without it, the tasks stop where they are; nothing is lost, but some messages can be repeated.
#[doc = include_str!("../docs/bus_example.md")]
pub struct Bus<DB: OutboxDatabase> {
    inner: Arc<Inner<DB>>,
}

pub(crate) struct Inner<DB: OutboxDatabase> {
    /// The name as it was given; checked by [`service`](Inner::service).
    name: String,
    options: Options,
    pub(crate) outbox: Arc<Outbox<DB>>,
    broker: Arc<dyn Broker>,
    /// Writes messages straight into the broker's tables, so that they need no outbox.
    staging: Option<Arc<dyn Staging<DB>>>,
    phase: AtomicU8,
    /// Notified when a start has ended, with or without success.
    start_ended: Notify,
    /// How far the shutdown is.
    ending: Ending,
    /// Tells this bus from others in what runs inside a handler.
    number: BusNumber,
    /// Where the bus was started.
    runtime: Mutex<Option<Handle>>,
    running: OnceLock<Running<DB>>,
    crew: Crew,
    /// Commits and inserts under way. They are not in the crew, because the crew aborts late tasks, and a
    /// COMMIT must not be aborted.
    writes: TaskTracker,
    /// Whether a log line has told that the pool lends connections with a transaction open.
    told_of_open: AtomicBool,
    /// Sees each message that is staged.
    pub(super) hook: Hook,
    /// What the database counts.
    counts_of_database: Asked<metrics::Counted>,
    /// Whether the database answers.
    sign_of_database: Asked<health::Sign>,
    /// Cancelled when no handler may begin from now on.
    handlers_stop: CancellationToken,
    /// Cancelled when no handler runs from now on.
    handlers_ended: CancellationToken,
}

/// Where the bus stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    New = 0,
    Starting = 1,
    Running = 2,
    Stopping = 3,
    Stopped = 4,
}

impl<DB: OutboxDatabase> Bus<DB> {
    /// Makes a bus for one service. Nothing is connected or checked until it is used.
    ///
    /// `service` names the outbox table and the queue: `[a-z][a-z0-9_-]{0,39}`. A bad name is the
    /// error of [`start`](Self::start) and of every publish.
    pub fn new(service: impl AsRef<str>, pool: Pool<DB>, broker: impl Broker) -> Self {
        Self::build(
            service.as_ref().to_owned(),
            pool,
            Arc::new(broker),
            Options::default(),
            None,
        )
    }

    /// Sets the options. Call it before the bus is cloned or used: it makes a new bus of the parts.
    #[must_use]
    pub fn with_options(self, options: Options) -> Self {
        let Inner {
            name,
            outbox,
            broker,
            ..
        } = self.inner.as_ref();
        Self::build(
            name.clone(),
            outbox.caller().clone(),
            Arc::clone(broker),
            options,
            self.inner.hook.telemetry(),
        )
    }

    /// Has a tracing system see each message. Call it before the bus is cloned or used: it makes a new bus of the
    /// parts.
    #[must_use]
    pub fn with_telemetry(self, telemetry: impl Telemetry) -> Self {
        let Inner {
            name,
            outbox,
            broker,
            options,
            ..
        } = self.inner.as_ref();
        Self::build(
            name.clone(),
            outbox.caller().clone(),
            Arc::clone(broker),
            options.clone(),
            Some(Arc::new(telemetry)),
        )
    }

    fn build(
        name: String,
        pool: Pool<DB>,
        broker: Arc<dyn Broker>,
        options: Options,
        telemetry: Option<Arc<dyn Telemetry>>,
    ) -> Self {
        let crew = Crew::new();
        let inner = Inner {
            staging: StagingRequest::ask(&pool, &*broker),
            outbox: Arc::new(Outbox::new(name.clone(), pool, options.lease)),
            name,
            broker,
            options,
            phase: AtomicU8::new(Phase::New as u8),
            start_ended: Notify::new(),
            ending: Ending::new(),
            number: BusNumber::new(),
            runtime: Mutex::default(),
            running: OnceLock::new(),
            writes: TaskTracker::new(),
            told_of_open: AtomicBool::new(false),
            hook: Hook::new(telemetry, Arc::clone(crew.panics())),
            counts_of_database: metrics::question(),
            sign_of_database: health::question(),
            // A child of the crew's token, so that dropping the bus also stops handlers and requeues deliveries.
            handlers_stop: crew.stop_token().child_token(),
            crew,
            handlers_ended: CancellationToken::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Begins a transaction on the bus's pool, for the caller.
    ///
    /// Better than `pool.begin()` in two ways: on SQLite it is IMMEDIATE, because a transaction that
    /// reads first and writes later would fail as soon as another connection wrote in between; and it is
    /// safe to cancel, where sqlx 0.9.0 can leave an open transaction in the pool.
    ///
    /// On SQLite the writers of this process begin one after the other, nearly in the order in which they came.
    /// End the transaction by [`transaction`](Self::transaction) or [`with_tx`](Self::with_tx), so that the
    /// next writer hears of it.
    ///
    /// # Errors
    ///
    /// Fails if the pool has no connection in time or the database refuses. On SQLite also if another
    /// transaction keeps the lock for as long as the connection waits, and at least for 5 s: that of the calling
    /// task itself, for example.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn begin(&self) -> Result<Transaction<'static, DB>, Error> {
        self.inner.outbox.begin().await
    }

    /// Creates the outbox table, or brings it to this release's version; also the broker's tables, if
    /// it has any, and the table in which [`admin`](crate::admin) writes operations down.
    ///
    /// [`start`](Self::start) does the same, but for the last one, which the first plan creates as well. Several
    /// instances may call it at once.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or if the table belongs to another service or system.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets the migration finish or leaves the rest to the next call.
    pub async fn migrate(&self) -> Result<(), Error> {
        self.inner.outbox.migrate().await?;
        make_operations::<DB>(&self.inner.outbox.own_pool()).await?;
        self.inner.broker.migrate().await
    }

    /// The statements [`migrate`](Self::migrate) runs, as SQL text to be run by hand.
    ///
    /// Run the whole text in one session: on MySQL a part of it prepares a statement.
    ///
    /// # Errors
    ///
    /// Fails if the service name is not usable.
    pub fn migration_sql(&self) -> Result<String, Error> {
        let outbox = self.inner.outbox.migration_sql()?;
        Ok(outbox + &operations_script::<DB>() + &self.inner.broker.migration_sql())
    }

    /// Tells the bus that a transaction with a [`publish_in`](Self::publish_in) has committed, so
    /// that its messages need not wait for the next scan, nor the next writer of a SQLite file for its turn.
    pub fn wake(&self) {
        self.inner.outbox.writers().may_have_ended();
        self.inner.tell_committed();
        if let Some(running) = self.inner.running() {
            running.relay.ring();
        }
    }
}

impl<DB: OutboxDatabase> Inner<DB> {
    pub(crate) fn service(&self) -> Result<&ServiceName, Error> {
        self.outbox.service()
    }

    /// The outbox's statements, for what a person asks of a bus that has not been shut down.
    async fn table(&self) -> Result<Table<'_, DB>, Error> {
        if self.phase() == Phase::Stopped {
            return Err(Error::ShutDown);
        }
        self.outbox.located().await
    }

    /// The running parts, from the end of `start` to the beginning of `shutdown`.
    pub(crate) fn running(&self) -> Option<&Running<DB>> {
        self.running
            .get()
            .filter(|_| self.phase() == Phase::Running)
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::New,
            1 => Phase::Starting,
            2 => Phase::Running,
            3 => Phase::Stopping,
            _ => Phase::Stopped,
        }
    }

    /// Goes from one phase to another. The phase it is in, if that is not `from`.
    fn advance(&self, from: Phase, to: Phase) -> Result<(), Phase> {
        self.phase
            .compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(|_| self.phase())
    }
}

impl<DB: OutboxDatabase> Clone for Bus<DB> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<DB: OutboxDatabase> fmt::Debug for Bus<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("service", &self.inner.name)
            .field("phase", &self.inner.phase())
            .finish_non_exhaustive()
    }
}
