//! One running bus among those that share a log.
//!
//! Input: the broker's log and tuning, a service, and its topics. State: the lease, the link's state, the
//! watermarks of the sequence, and the signals that end the tasks. Output: a membership in the service's group,
//! which [`engine`](super::engine) and the tasks of this folder work with.
//!
//! ```text
//!   prepare: tables, subscriptions, membership ─▶ renewed each third of the lease
//!   stop: no more deliveries ─▶ finish: progress written, lanes given back ─▶ close: every task ends
//! ```

pub(crate) mod send;
pub(crate) mod settlements;
pub(crate) mod tasks;
pub(crate) mod trim;
pub(crate) mod wakeups;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, OnceCell, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{settlements::Settlements, wakeups::Wakeups};
use super::{
    hooks::Hooks,
    progress::{knowledge::ReaderKnowledge, watermark::Watermarks},
    tables::{Log, members::Announcement, renumber::Mended},
    tuning::Tuning,
};
use crate::{
    Message, OutboxDatabase,
    broker::{BrokerError, BrokerErrorKind, Cause, LinkState},
    database::DbResult,
    handler::Hold,
    lock::lock,
    runtime::counter::Counter,
};

/// One member of a group, as the tasks of its link share it. It has no task of its own.
pub(crate) struct Member<DB: OutboxDatabase> {
    /// The tables, shared by all buses on this broker.
    pub(crate) log: Arc<Log<DB>>,
    /// How the buses of this process on this database wake each other.
    pub(crate) wakeups: Arc<Wakeups>,
    /// The values of the options.
    pub(crate) tuning: Tuning,
    /// Functions of the service for errors.
    pub(crate) hooks: Hooks,
    /// The group: the name of the service.
    pub(crate) group: Arc<str>,
    /// The topics that the bus subscribes. Without any it only publishes.
    topics: Vec<Arc<str>>,
    /// The topics whose messages are held when they fail, and what waits behind them.
    pub(crate) holds: BTreeMap<Arc<str>, Hold>,
    /// The name of this member among all others. It is new for each bus.
    pub(crate) id: Uuid,
    /// Where settlements of the handlers wait for the engine.
    pub(crate) settlements: Arc<Settlements>,
    /// Messages whose handler is done, and dead letters. Both count once their progress is written.
    pub(crate) handled: Counter,
    pub(crate) dead_lettered: Counter,
    /// How many connections the engine has taken.
    pub(crate) connections: Counter,
    /// How many lanes the engine has.
    pub(crate) lanes: AtomicU64,
    /// How many messages the engine holds.
    pub(crate) held: AtomicU64,
    /// Notified when messages may have become removable.
    pub(crate) progress: Notify,
    /// Nothing is delivered from then on.
    pub(crate) stop: CancellationToken,
    /// Settlements up to then are written, and the rest is given back.
    pub(crate) finish: CancellationToken,
    /// Every task ends.
    pub(crate) close: CancellationToken,
    /// Whether the database answers, as the bus is told.
    state: watch::Sender<LinkState>,
    /// Set once the tables are there, the topics are subscribed, and the membership is written.
    prepared: OnceCell<()>,
    /// Up to where the engine has read, and when those rows were written.
    watermarks: Mutex<Watermarks>,
    /// Whether a task has found a sequence number that was used twice.
    suspects: AtomicBool,
    /// How many messages could not be given new sequence numbers, as reported last.
    refused_numbers: AtomicUsize,
    /// Until when the lease surely holds, by this process's clock.
    lease_end: Mutex<Instant>,
    /// Whether announcements of other processes are heard.
    listening: AtomicBool,
}

impl<DB: OutboxDatabase> Member<DB> {
    /// A member that has not joined yet. Nothing is asked of the database.
    pub(crate) fn new(
        log: Arc<Log<DB>>,
        wakeups: Arc<Wakeups>,
        tuning: Tuning,
        hooks: Hooks,
        group: Arc<str>,
        topics: Vec<Arc<str>>,
        holds: BTreeMap<Arc<str>, Hold>,
    ) -> Self {
        Self {
            log,
            wakeups,
            settlements: Arc::new(Settlements::new(tuning.key_order)),
            tuning,
            hooks,
            group,
            topics,
            holds,
            id: Uuid::now_v7(),
            handled: Counter::default(),
            dead_lettered: Counter::default(),
            connections: Counter::default(),
            lanes: AtomicU64::new(0),
            held: AtomicU64::new(0),
            progress: Notify::new(),
            stop: CancellationToken::new(),
            finish: CancellationToken::new(),
            close: CancellationToken::new(),
            state: watch::Sender::new(LinkState::Away),
            prepared: OnceCell::new(),
            watermarks: Mutex::default(),
            suspects: AtomicBool::new(false),
            refused_numbers: AtomicUsize::new(0),
            lease_end: Mutex::new(Instant::now()),
            listening: AtomicBool::new(false),
        }
    }

    /// Whether the bus subscribes any topic.
    pub(crate) fn consumes(&self) -> bool {
        !self.topics.is_empty()
    }

    /// Makes the tables, mends the sequence, subscribes and joins, once. After an error the next call begins
    /// anew; each step finds done what was done before.
    pub(crate) async fn prepare(&self) -> DbResult<()> {
        self.prepared
            .get_or_try_init(|| async {
                self.log.migrate().await?;
                // Before anything starts at the end of the log, which may lie too low.
                self.mended(self.log.mend(&ReaderKnowledge::default()).await?);
                if self.consumes() {
                    self.subscribe().await?;
                }
                let (mark, now) = self.log.watermark().await?;
                self.watermarks().learn(mark, now);
                self.join().await?;
                self.announce_members().await;
                Ok(())
            })
            .await
            .map(drop)
    }

    /// Whether the tables are there and the membership is written.
    pub(crate) fn is_prepared(&self) -> bool {
        self.prepared.initialized()
    }

    /// Subscribes topics that the group has not subscribed yet.
    pub(crate) async fn subscribe(&self) -> DbResult<()> {
        let start = self.tuning.start;
        self.log.subscribe(&self.group, &self.topics, start).await
    }

    /// Removes the group's unread messages and its dead letters.
    pub(crate) async fn purge(&self) -> Result<(), BrokerError> {
        let failed = |error: sqlx::Error| {
            let text = "the log could not be purged; see the cause";
            BrokerError::new(BrokerErrorKind::Refused, text).because(error)
        };
        self.log.migrate().await.map_err(failed)?;
        if self.log.purge(&self.group).await.map_err(failed)? {
            return Ok(());
        }
        Err(BrokerError::new(
            BrokerErrorKind::InUse,
            "another instance of the service is at work; stop it, or wait until its lease is over",
        ))
    }

    /// Writes the membership, with a lease.
    async fn join(&self) -> DbResult<()> {
        let asked = Instant::now();
        // A bus that only publishes gets no share of the lanes, so it is a member without a group.
        let group = if self.consumes() { &*self.group } else { "" };
        let lease = self.tuning.lease;
        self.log
            .join(group, self.id, self.wakeups.process, lease)
            .await?;
        self.leased_since(asked);
        Ok(())
    }

    /// Extends the lease, or joins again if the membership was removed meanwhile. Lanes that other members have
    /// claimed by then are noticed by the next commit or refresh.
    pub(crate) async fn renew(&self) -> DbResult<()> {
        let asked = Instant::now();
        if self.log.renew(self.id, self.tuning.lease).await? {
            self.leased_since(asked);
            return Ok(());
        }
        self.join().await
    }

    /// Notes a lease by this process's clock. It runs from before the statement was sent, so it ends here first.
    fn leased_since(&self, asked: Instant) {
        *lock(&self.lease_end) = asked + self.tuning.lease;
    }

    /// Whether the lease is surely still running.
    pub(crate) fn is_alive(&self) -> bool {
        !self.lease_left().is_zero()
    }

    /// How long the lease is surely still running.
    pub(crate) fn lease_left(&self) -> Duration {
        lock(&self.lease_end).saturating_duration_since(Instant::now())
    }

    /// What this process knows of the sequence. The lock is held for moments only.
    pub(crate) fn watermarks(&self) -> MutexGuard<'_, Watermarks> {
        lock(&self.watermarks)
    }

    /// A task has found a sequence number that was used twice. The next refresh looks through the whole log.
    pub(crate) fn suspect_numbers(&self) {
        self.suspects.store(true, Ordering::Release);
        self.wakeups.wake_members();
    }

    /// Whether a task has found one. True once.
    pub(crate) fn take_suspicion(&self) -> bool {
        self.suspects.swap(false, Ordering::AcqRel)
    }

    /// Reports that sequence numbers went back, and wakes the readers for the messages that have new ones.
    pub(crate) fn mended(&self, mended: Mended) {
        if let Some((seq, error)) = mended.refused.first() {
            // Each refresh tries them again, so only a new count is reported.
            let messages = mended.refused.len();
            if self.refused_numbers.swap(messages, Ordering::Relaxed) != messages {
                tracing::error!(
                    target: "final::log",
                    service = &*self.group, seq, messages, %error,
                    "the sequence numbers of the log went back, and it refuses messages that need new ones; \
                     they wait and are tried again. Look at the triggers, constraints and columns of \
                     final_log"
                );
            }
            self.hooks.read(error);
        }
        if mended.raised.is_none() && mended.moved == 0 {
            return;
        }
        let (from, to) = mended.raised.unzip();
        tracing::error!(
            target: "final::log",
            service = &*self.group,
            from,
            to,
            messages = mended.moved,
            "the sequence numbers of the log went back: its sequence was restarted, its table truncated, \
             or another server counts on its own. The sequence was raised, and messages that would have \
             been passed over have new sequence numbers"
        );
        self.wakeups.committed();
    }

    /// Tells the engines of this and of other processes that members came or went.
    pub(crate) async fn announce_members(&self) {
        self.wakeups.wake_members();
        if let Err(error) = self
            .log
            .notify(self.wakeups.process, Announcement::Members)
            .await
        {
            tracing::debug!(
                target: "final::log",
                %error,
                "other processes were not told that members came or went"
            );
        }
    }

    /// The state of the link, to watch.
    pub(crate) fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Sets the state of the link. A closed link stays closed.
    pub(crate) fn set_state(&self, new: LinkState) {
        self.state.send_if_modified(|state| {
            let changes = *state != new && *state != LinkState::Closed;
            if changes {
                *state = new;
            }
            changes
        });
    }

    /// Whether announcements of other processes are heard, so that nothing has to be polled.
    pub(crate) fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Relaxed)
    }

    /// Notes whether announcements of other processes are heard.
    pub(crate) fn set_listening(&self, listening: bool) {
        self.listening.store(listening, Ordering::Relaxed);
    }

    /// Reports that the log could not be read, to the log and to the service's hook.
    pub(crate) fn reading_failed(&self, error: &sqlx::Error, failures: u32) {
        self.log_failure("reading the log", error, failures);
        self.hooks.read(error);
    }

    /// Reports that the lease could not be renewed, without which nothing is read: to the log and to the
    /// service's hook.
    pub(crate) fn renewing_failed(&self, error: &sqlx::Error, failures: u32) {
        self.log_failure("renewing the lease", error, failures);
        self.hooks.read(error);
    }

    /// Reports that the progress could not be written, to the log and to the service's hook.
    pub(crate) fn committing_failed(&self, error: &sqlx::Error, failures: u32) {
        self.log_failure("writing the progress", error, failures);
        self.hooks.commit(error);
    }

    /// Tells the service's hook of a message that goes to the dead letters.
    pub(crate) fn handling_failed(&self, message: &Message, why: &Cause) {
        self.hooks.handler(message, why);
    }

    /// Logs the first failure in a row, and then every hundredth.
    pub(crate) fn log_failure(&self, doing: &'static str, error: &sqlx::Error, failures: u32) {
        if failures % 100 == 1 {
            tracing::warn!(
                target: "final::log",
                service = &*self.group, doing, %error, failures,
                "the database failed; trying again"
            );
        }
    }
}

impl<DB: OutboxDatabase> fmt::Debug for Member<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("group", &self.group)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
