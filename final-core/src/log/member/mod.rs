//! One running bus among those that share a log.

pub(crate) mod link;
mod send;
pub(crate) mod settlements;
mod tasks;
pub(crate) mod wakeups;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::sync::{Notify, OnceCell, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{settlements::Inbox, wakeups::Hub};
use super::{
    hooks::Hooks,
    options::Tuning,
    progress::watermark::Watermarks,
    tables::{
        Log,
        members::Notice,
        renumber::{Known, Mended},
    },
};
use crate::{
    Message, OutboxDatabase,
    broker::{BrokerError, BrokerErrorKind, DeadLetter, LinkState},
    database::DbResult,
};

/// What the tasks of one link share.
pub(crate) struct Member<DB: OutboxDatabase> {
    pub(crate) log: Arc<Log<DB>>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) tuning: Tuning,
    pub(crate) hooks: Hooks,
    /// The service.
    pub(crate) group: Arc<str>,
    topics: Vec<Arc<str>>,
    pub(crate) id: Uuid,
    pub(crate) inbox: Arc<Inbox>,
    /// Told when messages may have become removable.
    pub(crate) progress: Notify,
    /// Nothing is delivered from then on.
    pub(crate) stop: CancellationToken,
    /// What is settled by then is written, and the rest given back.
    pub(crate) finish: CancellationToken,
    /// Everything ends.
    pub(crate) close: CancellationToken,
    state: watch::Sender<LinkState>,
    prepared: OnceCell<()>,
    /// What the engine has read, and whether somebody has found numbers that have gone back.
    watermarks: Mutex<Watermarks>,
    suspects: AtomicBool,
    /// How many messages could not be given new numbers, when that was told.
    refused_numbers: AtomicUsize,
    lease_end: Mutex<Instant>,
    listening: AtomicBool,
}

impl<DB: OutboxDatabase> Member<DB> {
    pub(crate) fn new(
        log: Arc<Log<DB>>,
        hub: Arc<Hub>,
        tuning: Tuning,
        hooks: Hooks,
        group: Arc<str>,
        topics: Vec<Arc<str>>,
    ) -> Self {
        Self {
            log,
            hub,
            tuning,
            hooks,
            group,
            topics,
            id: Uuid::now_v7(),
            inbox: Arc::new(Inbox::new()),
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

    /// Whether there is anything to receive.
    pub(crate) fn consumes(&self) -> bool {
        !self.topics.is_empty()
    }

    /// Makes the tables, subscribes and joins, once.
    pub(crate) async fn prepare(&self) -> DbResult<()> {
        self.prepared
            .get_or_try_init(|| async {
                self.log.migrate().await?;
                // Before anything begins at the end of the log.
                self.mended(self.log.mend(&Known::default()).await?);
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

    pub(crate) fn is_prepared(&self) -> bool {
        self.prepared.initialized()
    }

    pub(crate) async fn subscribe(&self) -> DbResult<()> {
        let start = self.tuning.start;
        self.log.subscribe(&self.group, &self.topics, start).await
    }

    /// Throws away what the group has not read, and its dead letters.
    pub(crate) async fn purge(&self) -> Result<(), BrokerError> {
        let failed = |error: sqlx::Error| {
            let text = "the log could not be purged";
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

    async fn join(&self) -> DbResult<()> {
        let asked = Instant::now();
        // Who only publishes is no member of the group: it takes no share of the lanes.
        let group = if self.consumes() { &*self.group } else { "" };
        let lease = self.tuning.lease;
        self.log
            .join(group, self.id, self.hub.process, lease)
            .await?;
        self.leased_since(asked);
        Ok(())
    }

    /// Extends the lease, or joins again if somebody has forgotten us.
    pub(crate) async fn renew(&self) -> DbResult<()> {
        let asked = Instant::now();
        if self.log.renew(self.id, self.tuning.lease).await? {
            self.leased_since(asked);
            return Ok(());
        }
        self.join().await
    }

    /// By our clock the lease runs from before it was asked for.
    fn leased_since(&self, asked: Instant) {
        *self
            .lease_end
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = asked + self.tuning.lease;
    }

    /// Whether the lease is surely not over.
    pub(crate) fn is_alive(&self) -> bool {
        Instant::now()
            < *self
                .lease_end
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn watermarks(&self) -> MutexGuard<'_, Watermarks> {
        self.watermarks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody has found a number that was given out twice: the engine is to look.
    pub(crate) fn suspect_numbers(&self) {
        self.suspects.store(true, Ordering::Release);
        self.hub.ring_members();
    }

    /// Whether that is so; once.
    pub(crate) fn take_suspicion(&self) -> bool {
        self.suspects.swap(false, Ordering::AcqRel)
    }

    /// Tells that numbers have gone back.
    pub(crate) fn mended(&self, mended: Mended) {
        if let Some((seq, error)) = mended.refused.first() {
            // Each look tries them again.
            let messages = mended.refused.len();
            if self.refused_numbers.swap(messages, Ordering::Relaxed) != messages {
                tracing::error!(
                    service = &*self.group, seq, messages, %error,
                    "the numbers of the log had gone back, and it does not take messages a second time that \
                     need new numbers; they wait and are tried again. Look at the triggers, constraints and \
                     columns of final_log"
                );
            }
            self.hooks.read(error);
        }
        if mended.raised.is_none() && mended.moved == 0 {
            return;
        }
        let (from, to) = mended.raised.unzip();
        tracing::error!(
            service = &*self.group,
            from,
            to,
            messages = mended.moved,
            "the numbers of the log had gone back: its sequence was restarted, its table truncated, or \
             another server counts on its own; they were raised, and messages that would have been \
             passed over have new numbers"
        );
        self.hub.committed();
    }

    /// Tells everybody that members came or went.
    pub(crate) async fn announce_members(&self) {
        self.hub.ring_members();
        if let Err(error) = self.log.notify(self.hub.process, Notice::Members).await {
            tracing::debug!(%error, "others were not told that members came or went");
        }
    }

    pub(crate) fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Closed stays closed.
    pub(crate) fn set_state(&self, new: LinkState) {
        self.state.send_if_modified(|state| {
            let changes = *state != new && *state != LinkState::Closed;
            if changes {
                *state = new;
            }
            changes
        });
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Relaxed)
    }

    pub(crate) fn set_listening(&self, listening: bool) {
        self.listening.store(listening, Ordering::Relaxed);
    }

    pub(crate) fn reading_failed(&self, error: &sqlx::Error, failures: u32) {
        self.log_failure("reading the log", error, failures);
        self.hooks.read(error);
    }

    pub(crate) fn committing_failed(&self, error: &sqlx::Error, failures: u32) {
        self.log_failure("writing down the progress", error, failures);
        self.hooks.commit(error);
    }

    pub(crate) fn handling_failed(&self, message: &Message, why: &DeadLetter) {
        self.hooks.handler(message, why);
    }

    /// At once, and then every hundredth time in a row.
    pub(crate) fn log_failure(&self, doing: &'static str, error: &sqlx::Error, failures: u32) {
        if failures % 100 == 1 {
            tracing::warn!(
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
