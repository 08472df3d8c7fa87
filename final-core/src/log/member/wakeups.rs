//! What the brokers of one process on one database share: the bell that rings for new messages.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, LazyLock, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;
use uuid::Uuid;

use crate::runtime::bell::Alarm;

/// All hubs of the process, by the place of their database.
static HUBS: LazyLock<Mutex<HashMap<String, Weak<Hub>>>> = LazyLock::new(Mutex::default);

/// What has rung, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rung {
    /// There are new messages.
    pub(crate) messages: u64,
    /// Members came or went, or something was subscribed.
    pub(crate) members: u64,
}

/// One per process and database.
pub(crate) struct Hub {
    /// What the process is called among the others.
    pub(crate) process: Uuid,
    bell: watch::Sender<Rung>,
    /// Commits of this process: others have to be told of them.
    committed: watch::Sender<u64>,
    told: AtomicU64,
    /// Whether other processes listen, as far as is known.
    others: AtomicBool,
    /// When the earliest message is due that this process has scheduled.
    alarm: Alarm,
}

impl Hub {
    /// The hub of a place. Those who name the same one share it.
    pub(crate) fn at(place: &str) -> Arc<Self> {
        let mut hubs = HUBS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hub) = hubs.get(place).and_then(Weak::upgrade) {
            return hub;
        }
        hubs.retain(|_, hub| hub.strong_count() > 0);
        let hub = Arc::new(Self {
            process: Uuid::now_v7(),
            bell: watch::Sender::default(),
            committed: watch::Sender::default(),
            told: AtomicU64::new(0),
            others: AtomicBool::new(true),
            alarm: Alarm::default(),
        });
        hubs.insert(place.to_owned(), Arc::downgrade(&hub));
        hub
    }

    pub(crate) fn bell(&self) -> watch::Receiver<Rung> {
        self.bell.subscribe()
    }

    /// A transaction of this process with messages has committed.
    pub(crate) fn committed(&self) {
        self.ring();
        self.committed.send_modify(|commits| *commits += 1);
    }

    /// There may be new messages.
    pub(crate) fn ring(&self) {
        self.bell.send_modify(|rung| rung.messages += 1);
    }

    /// Members came or went.
    pub(crate) fn ring_members(&self) {
        self.bell.send_modify(|rung| rung.members += 1);
    }

    pub(crate) fn commits(&self) -> watch::Receiver<u64> {
        self.committed.subscribe()
    }

    /// Whether others are to be told of the commits up to now, and by the caller.
    pub(crate) fn must_tell(&self) -> bool {
        let commits = *self.committed.borrow();
        self.told.fetch_max(commits, Ordering::AcqRel) < commits
            && self.others.load(Ordering::Relaxed)
    }

    pub(crate) fn set_others(&self, others: bool) {
        self.others.store(others, Ordering::Relaxed);
    }

    /// Something is due after so long, if its transaction commits.
    pub(crate) fn due_in(&self, wait: Duration) {
        self.alarm.due_in(wait);
    }

    /// When something is due.
    pub(crate) fn alarm(&self) -> Option<Instant> {
        self.alarm.at()
    }

    /// Ends the alarm if its time has come.
    pub(crate) fn take_alarm(&self, now: Instant) -> bool {
        self.alarm.take(now)
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("process", &self.process)
            .finish_non_exhaustive()
    }
}
