//! Messages that wait to be written into the outbox, because they have to leave the service's queue.
//!
//! Input: messages of deliveries that wait for long, and dead letters that the broker cannot store. State: the
//! messages that are not written. Output: lots of them for the task that writes (`relay/detour.rs`), and an answer
//! for each.
//!
//! ```text
//!   put ─▶ waits ─ take ─▶ being written ─ stored, or refused ─▶ answer
//!            │  ▲               │ the database is away
//!            │  └── put_back ───┘
//!            └─ withdraw: its pause is over, or the bus stops
//! ```
//!
//! Each message here is that of a delivery in flight, so the prefetch bounds them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::{
    Message,
    broker::{Detour, Detoured},
    lock::lock,
};

/// How long a dead letter waits for the database. Then its link tries to store it in another way.
const PATIENCE: Duration = Duration::from_secs(15);

/// How many messages are written by one statement, and how many bytes of them.
const MANY: usize = 500;
const BYTES: usize = 4 * 1024 * 1024;

/// See the [module](self).
pub(crate) struct DetourQueue {
    waiting: Mutex<Waiting>,
    filled: Notify,
    is_closed: AtomicBool,
    /// Whether messages could not come back now.
    is_blocked: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
}

#[derive(Default)]
struct Waiting {
    entries: BTreeMap<u64, DetourEntry>,
    next: u64,
}

/// One message that is to be written.
pub(crate) struct DetourEntry {
    /// The message of its record.
    pub(crate) message: Message,
    /// When it goes on.
    due: Instant,
    /// Until when it waits for the database.
    until: Option<Instant>,
    answer: Box<dyn FnOnce(bool) + Send + Sync>,
}

impl DetourEntry {
    /// How long until it is due.
    pub(crate) fn delay(&self) -> Duration {
        self.due.saturating_duration_since(Instant::now())
    }

    /// Says whether it is stored.
    pub(crate) fn answer(self, stored: bool) {
        (self.answer)(stored);
    }
}

impl DetourQueue {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            filled: Notify::new(),
            is_closed: AtomicBool::new(false),
            is_blocked: OnceLock::new(),
        }
    }

    /// Sets how to find out whether messages could not come back now.
    pub(crate) fn block_if(&self, is_blocked: impl Fn() -> bool + Send + Sync + 'static) {
        let _ = self.is_blocked.set(Box::new(is_blocked));
    }

    /// Whether messages may leave the queue.
    pub(crate) fn is_open(&self) -> bool {
        !self.is_closed.load(Ordering::Relaxed) && !self.is_blocked.get().is_some_and(|is| is())
    }

    /// Adds a message that is due after `delay`. Returns the ticket to withdraw it.
    pub(crate) fn add(
        &self,
        detoured: Detoured,
        delay: Duration,
        answer: Box<dyn FnOnce(bool) + Send + Sync>,
    ) -> u64 {
        self.enter(DetourEntry {
            message: detoured.into_message(),
            due: Instant::now() + delay,
            until: None,
            answer,
        })
    }

    fn enter(&self, entry: DetourEntry) -> u64 {
        let mut waiting = lock(&self.waiting);
        let ticket = waiting.next;
        waiting.next += 1;
        // Dropped outside the lock: that can settle a delivery.
        let late = if self.is_closed.load(Ordering::Relaxed) {
            Some(entry)
        } else {
            waiting.entries.insert(ticket, entry)
        };
        drop(waiting);
        drop(late);
        self.filled.notify_one();
        ticket
    }

    /// Takes a message back. False if it is being written, or was answered: the answer counts then.
    pub(crate) fn withdraw(&self, ticket: u64) -> bool {
        let entry = lock(&self.waiting).entries.remove(&ticket);
        entry.is_some()
    }

    /// Waits until a message is here.
    pub(crate) async fn filled(&self) {
        while lock(&self.waiting).entries.is_empty() {
            self.filled.notified().await;
        }
    }

    /// Takes the next lot, the longest waiting first.
    pub(crate) fn take(&self) -> Vec<(u64, DetourEntry)> {
        let mut waiting = lock(&self.waiting);
        let (mut lot, mut bytes) = (Vec::new(), 0);
        while lot.len() < MANY && bytes < BYTES {
            let Some(entry) = waiting.entries.pop_first() else {
                break;
            };
            bytes += entry.1.message.weight();
            lot.push(entry);
        }
        lot
    }

    /// Puts messages back that the database did not take now. A dead letter that has waited for long is answered.
    pub(crate) fn put_back(&self, lot: Vec<(u64, DetourEntry)>) {
        let now = Instant::now();
        let is_late = |entry: &DetourEntry| entry.until.is_some_and(|until| until <= now);
        let (late, rest): (Vec<_>, Vec<_>) = lot.into_iter().partition(|(_, entry)| is_late(entry));
        lock(&self.waiting).entries.extend(rest);
        late.into_iter().for_each(|(_, entry)| entry.answer(false));
    }

    /// Takes no more messages, and drops what is here.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        let entries = std::mem::take(&mut lock(&self.waiting).entries);
        drop(entries);
    }
}

/// For the link's dead letters.
impl Detour for DetourQueue {
    fn put(&self, detoured: Detoured, answer: Box<dyn FnOnce(bool) + Send + Sync>) {
        let now = Instant::now();
        self.enter(DetourEntry {
            message: detoured.into_message(),
            due: now,
            until: Some(now + PATIENCE),
            answer,
        });
    }
}

impl fmt::Debug for DetourQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = lock(&self.waiting).entries.len();
        f.debug_struct("DetourQueue")
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}
