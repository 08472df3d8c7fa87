//! The copy of the tables is kept current.
//!
//! Input: the tables, read every ten seconds, and at once after a change in this process or, on PostgreSQL, in any. State:
//! the last good copy.
//!
//! ```text
//!   nothing read ─ read ─▶ known ─ no answer for the grace ─▶ unknown: no logins
//!                            ▲ └── no answer: the last good copy stays ──┐
//!                            └────────────── the tables answer ──────────┘
//! ```
//!
//! Connections that are open stay open while the rights are unknown: they were let in by rights that were good.

use std::{
    fmt,
    sync::{
        Arc, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use final_core::database::DbResult;
use tokio::{
    sync::{Mutex, Notify},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    AuthError, Grants, checking::Checking, clock::Clock, registry::Registry, slowing::Slowing,
    tables::Store,
};

/// How often the version of the tables is asked for, unless something else is said.
const EVERY: Duration = Duration::from_secs(10);

/// How often the tables are read although their version is the same: somebody may have changed a row by hand.
const WHOLE: Duration = Duration::from_secs(60);

/// How long it takes until a failed reading is tried again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// How long the last good copy is good enough for logins.
const GRACE: Duration = Duration::from_secs(15 * 60);

pub(super) type Decide = dyn Fn(&str, &[u8]) -> Result<Grants, AuthError> + Send + Sync;

/// Where rights come from.
pub(super) enum RightsFrom {
    Tables(Arc<dyn Store>),
    Caller(Arc<Decide>),
}

/// Times that the caller chooses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) grace: Duration,
    pub(super) every: Duration,
}

/// What clones of the rights share.
pub(super) struct Shared {
    pub(super) from: RightsFrom,
    pub(super) registry: Registry,
    pub(super) checking: Checking,
    pub(super) slowing: Slowing,
    times: std::sync::Mutex<Times>,
    pub(super) clock: Clock,
    /// One reading at a time.
    reading: Mutex<()>,
    /// Rung when there is something to read.
    bell: Notify,
    /// Whether the last reading failed, so that this is told once.
    is_failing: AtomicBool,
}

impl Shared {
    pub(super) fn new(from: RightsFrom) -> Self {
        let clock = Clock::new();
        Self {
            from,
            registry: Registry::default(),
            checking: Checking::new(clock.clone()),
            slowing: Slowing::default(),
            times: std::sync::Mutex::new(Times {
                grace: GRACE,
                every: EVERY,
            }),
            clock,
            reading: Mutex::default(),
            bell: Notify::new(),
            is_failing: AtomicBool::new(false),
        }
    }

    pub(super) fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether apps can log in: the tables were read, and have answered within the grace.
    pub(super) fn is_known(&self) -> bool {
        match &self.from {
            RightsFrom::Tables(_) => {
                let grace = self.times().grace;
                self.registry.is_known(grace, self.clock.now())
            }
            RightsFrom::Caller(_) => true,
        }
    }

    /// Keeps the copy current, until it is to stop.
    pub(super) async fn keep_current(&self, stop: CancellationToken) {
        let RightsFrom::Tables(store) = &self.from else {
            return stop.cancelled().await;
        };
        let keeping = async {
            tokio::join!(self.keep_reading(), self.keep_listening(&**store));
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = keeping => {}
        }
        store.close().await;
    }

    async fn keep_reading(&self) {
        let mut again = AGAIN.0;
        loop {
            let mut wait = match self.read().await {
                Ok(()) => {
                    again = AGAIN.0;
                    self.times().every
                }
                Err(_) => {
                    again = (again * 2).min(AGAIN.1);
                    again
                }
            };
            if let Some(expires) = self.registry.expires() {
                wait = wait.min(expires.saturating_sub(self.clock.now()));
            }
            // Until the bell rings.
            let _ = timeout(wait, self.bell.notified()).await;
        }
    }

    async fn keep_listening(&self, store: &dyn Store) {
        let mut again = AGAIN.0;
        loop {
            let heard = AtomicBool::new(false);
            // Whatever the reason of the end: the reading tells whether the database is away.
            let _ = store
                .listen(&|| {
                    heard.store(true, Ordering::Relaxed);
                    self.bell.notify_one();
                })
                .await;
            again = match heard.into_inner() {
                true => AGAIN.0,
                false => (again * 2).min(AGAIN.1),
            };
            sleep(again).await;
        }
    }

    /// Reads the tables if they have changed.
    pub(super) async fn read(&self) -> DbResult<()> {
        let RightsFrom::Tables(store) = &self.from else {
            return Ok(());
        };
        let _one = self.reading.lock().await;
        let read = self.read_from(&**store).await;
        self.registry.expire(self.clock.now());
        match read {
            Ok(()) => {
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(target: "final::gateway", "the rights can be read again");
                }
                Ok(())
            }
            Err(error) => {
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    let cure = match store.is_missing(&error) {
                        true => "; the gateway makes the tables by `migrate`",
                        false => "",
                    };
                    let error = format!("{error}{cure}");
                    tracing::warn!(
                        target: "final::gateway",
                        error,
                        "the rights cannot be read; the last good copy stays until its grace is over"
                    );
                }
                Err(error)
            }
        }
    }

    async fn read_from(&self, store: &dyn Store) -> DbResult<()> {
        let version = store.version().await?;
        let now = self.clock.now();
        if self.registry.has(version, WHOLE, now) {
            self.registry.answered(now);
            return Ok(());
        }
        let loaded = store.load().await?;
        let is_slow = self.registry.take(loaded, &self.clock);
        self.checking.is_ever_slow(is_slow);
        Ok(())
    }

    /// Takes a change of this process at once, or rings for it.
    pub(super) async fn has_changed(&self) {
        if self.read().await.is_err() {
            self.bell.notify_one();
        }
    }
}

#[cfg(test)]
impl Shared {
    pub(super) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}
