//! What the brokers of one process on one database share: how they wake each other.
//!
//! Input: commits of this process, notices of other processes, and times at which scheduled messages are due.
//! State: counters of what has happened, and the earliest time. Output: [`News`] for each engine, and commits to
//! tell other processes of.

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

/// The wakeups of this process, one for each database.
static ALL: LazyLock<Mutex<HashMap<String, Weak<Wakeups>>>> = LazyLock::new(Mutex::default);

/// How often each thing has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Signals {
    /// There are new messages.
    messages: u64,
    /// Members came or went, or something was subscribed.
    members: u64,
}

/// What has happened since a listener looked last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct News {
    /// There may be new messages.
    pub(crate) messages: bool,
    /// Members came or went, or something was subscribed.
    pub(crate) members: bool,
}

/// The wakeups of one database, shared by all brokers of the process.
///
/// ```text
///   a commit here ─ committed ─┬─▶ signals ─▶ the engines of this process: News
///                              └─▶ tell ─ NOTIFY ─▶ listen, in other processes ─ wake ─▶ their engines
///   a message with a delay ─ due_in ─▶ alarm ─▶ an engine promotes what is due
/// ```
pub(crate) struct Wakeups {
    /// The name of this process among the others.
    pub(crate) process: Uuid,
    /// Counts of what has happened. Each engine compares them with what it saw last.
    signals: watch::Sender<Signals>,
    /// How many transactions of this process have committed.
    committed: watch::Sender<u64>,
    /// Up to which of these commits other processes were told.
    told: AtomicU64,
    /// Whether there are buses in other processes, as far as is known.
    others: AtomicBool,
    /// When the earliest message is due that this process has scheduled.
    alarm: Alarm,
}

impl Wakeups {
    /// The wakeups of the database at a location. Brokers that name the same one share them.
    pub(crate) fn at(location: &str) -> Arc<Self> {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wakeups) = all.get(location).and_then(Weak::upgrade) {
            return wakeups;
        }
        all.retain(|_, wakeups| wakeups.strong_count() > 0);
        let wakeups = Arc::new(Self {
            process: Uuid::now_v7(),
            signals: watch::Sender::default(),
            committed: watch::Sender::default(),
            told: AtomicU64::new(0),
            others: AtomicBool::new(true),
            alarm: Alarm::default(),
        });
        all.insert(location.to_owned(), Arc::downgrade(&wakeups));
        wakeups
    }

    /// Listens from now on.
    pub(crate) fn listen(&self) -> Listener {
        let mut signals = self.signals.subscribe();
        let seen = *signals.borrow_and_update();
        Listener { signals, seen }
    }

    /// A transaction of this process with messages has committed.
    pub(crate) fn committed(&self) {
        self.wake();
        self.committed.send_modify(|commits| *commits += 1);
    }

    /// There may be new messages.
    pub(crate) fn wake(&self) {
        self.signals.send_modify(|signals| signals.messages += 1);
    }

    /// Members came or went.
    pub(crate) fn wake_members(&self) {
        self.signals.send_modify(|signals| signals.members += 1);
    }

    /// How many transactions of this process have committed.
    pub(crate) fn commits(&self) -> watch::Receiver<u64> {
        self.committed.subscribe()
    }

    /// Whether the caller has to tell other processes of the commits up to now. True for one caller only, and
    /// only if there are buses in other processes.
    pub(crate) fn must_tell(&self) -> bool {
        let commits = *self.committed.borrow();
        self.told.fetch_max(commits, Ordering::AcqRel) < commits
            && self.others.load(Ordering::Relaxed)
    }

    /// Whether there are buses in other processes.
    pub(crate) fn set_others(&self, others: bool) {
        self.others.store(others, Ordering::Relaxed);
    }

    /// A message is due after so long, if its transaction commits.
    pub(crate) fn due_in(&self, wait: Duration) {
        self.alarm.due_in(wait);
    }

    /// When the earliest message is due.
    pub(crate) fn alarm(&self) -> Option<Instant> {
        self.alarm.at()
    }

    /// Ends the alarm if its time has come.
    pub(crate) fn take_alarm(&self, now: Instant) -> bool {
        self.alarm.take(now)
    }
}

impl fmt::Debug for Wakeups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wakeups")
            .field("process", &self.process)
            .finish_non_exhaustive()
    }
}

/// One engine's view of the wakeups.
#[derive(Debug)]
pub(crate) struct Listener {
    signals: watch::Receiver<Signals>,
    seen: Signals,
}

impl Listener {
    /// What has happened since the last call.
    pub(crate) fn news(&mut self) -> News {
        let signals = *self.signals.borrow_and_update();
        let seen = std::mem::replace(&mut self.seen, signals);
        News {
            messages: signals.messages != seen.messages,
            members: signals.members != seen.members,
        }
    }

    /// Waits until something has happened.
    pub(crate) async fn changed(&mut self) {
        if self.signals.changed().await.is_err() {
            // The member of this listener holds the wakeups, so this cannot be.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_told_once_to_each_listener() {
        let wakeups = Wakeups::at("a database of this test");
        let (mut one, mut another) = (wakeups.listen(), wakeups.listen());
        wakeups.wake();
        wakeups.wake_members();

        let told = News {
            messages: true,
            members: true,
        };
        let nothing = News {
            messages: false,
            members: false,
        };
        assert_eq!((one.news(), one.news()), (told, nothing));
        assert_eq!(another.news(), told);
    }
}
