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

/// All hubs of the process, by the place of their database.
static ALL: LazyLock<Mutex<HashMap<String, Weak<Wakeups>>>> = LazyLock::new(Mutex::default);

/// What has rung, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signals {
    /// There are new messages.
    pub(crate) messages: u64,
    /// Members came or went, or something was subscribed.
    pub(crate) members: u64,
}

/// One per process and database.
pub(crate) struct Wakeups {
    /// What the process is called among the others.
    pub(crate) process: Uuid,
    wakeups: watch::Sender<Signals>,
    /// Commits of this process: others have to be told of them.
    committed: watch::Sender<u64>,
    told: AtomicU64,
    /// Whether other processes listen, as far as is known.
    others: AtomicBool,
    /// When the earliest message is due that this process has scheduled.
    alarm: Mutex<Option<Instant>>,
}

impl Wakeups {
    /// The hub of a place. Those who name the same one share it.
    pub(crate) fn at(place: &str) -> Arc<Self> {
        let mut hubs = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wakeups) = hubs.get(place).and_then(Weak::upgrade) {
            return wakeups;
        }
        hubs.retain(|_, wakeups| wakeups.strong_count() > 0);
        let wakeups = Arc::new(Self {
            process: Uuid::now_v7(),
            wakeups: watch::Sender::default(),
            committed: watch::Sender::default(),
            told: AtomicU64::new(0),
            others: AtomicBool::new(true),
            alarm: Mutex::default(),
        });
        hubs.insert(place.to_owned(), Arc::downgrade(&wakeups));
        wakeups
    }

    pub(crate) fn wakeups(&self) -> watch::Receiver<Signals> {
        self.wakeups.subscribe()
    }

    /// A transaction of this process with messages has committed.
    pub(crate) fn committed(&self) {
        self.ring();
        self.committed.send_modify(|commits| *commits += 1);
    }

    /// There may be new messages.
    pub(crate) fn ring(&self) {
        self.wakeups.send_modify(|signals| signals.messages += 1);
    }

    /// Members came or went.
    pub(crate) fn wake_members(&self) {
        self.wakeups.send_modify(|signals| signals.members += 1);
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
        let at = Instant::now() + wait + Duration::from_millis(2);
        let mut alarm = self.alarm.lock().unwrap_or_else(PoisonError::into_inner);
        if alarm.is_none_or(|earlier| at < earlier) {
            *alarm = Some(at);
        }
    }

    /// When something is due.
    pub(crate) fn alarm(&self) -> Option<Instant> {
        *self.alarm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the alarm if its time has come.
    pub(crate) fn take_alarm(&self, now: Instant) -> bool {
        let mut alarm = self.alarm.lock().unwrap_or_else(PoisonError::into_inner);
        alarm.take_if(|at| *at <= now).is_some()
    }
}

impl fmt::Debug for Wakeups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wakeups")
            .field("process", &self.process)
            .finish_non_exhaustive()
    }
}
