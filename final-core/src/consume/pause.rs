//! How long a message waits, and whether it leaves its queue for that.
//!
//! Input: a pause, and how many wait in memory. State: how many deliveries wait in memory, and the failures of each
//! topic. Output: whether the message leaves the queue; and what came of its wait.
//!
//! A delivery that waits holds a place of the prefetch. So at most about `concurrency` of them wait, and messages
//! of other topics go on, whatever the backlog of the topic that is in trouble.

use std::{
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use crate::broker::Delivery;

/// A message that waits for at least as long leaves the queue in any case.
const LONG: Duration = Duration::from_secs(5);

/// A message that has been held for so long leaves the queue at its next pause.
const HELD: Duration = Duration::from_secs(60);

/// If too many wait, a message leaves the queue for a pause of this length, or for any pause once its topic is in
/// trouble.
const SHORT: Duration = Duration::from_millis(100);

/// A message that leaves the queue stays away for at least so long. It costs two statements and a publish.
pub(super) const SHORTEST: Duration = Duration::from_secs(1);

/// What came of a wait.
#[derive(Debug)]
pub(super) enum Waited {
    /// The pause is over.
    Over(Delivery),
    /// The message has left the queue.
    Left,
    /// The message cannot leave the queue, and was held for too long.
    TooLong(Delivery),
    /// The bus stops.
    Stopped(Delivery),
}

/// How long a message is to wait, and what for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    /// The pause.
    pub(super) pause: Duration,
    /// The pause in memory, which may be shorter. `None` if the message was held for too long.
    pub(super) in_memory: Option<Duration>,
    /// How often the handler was tried.
    pub(super) attempts: u32,
    /// How long the message has waited so far for an instance with a handler.
    pub(super) waited: Duration,
    /// Since when this process has held it.
    pub(super) since: Instant,
    /// Whether it leaves for a pause of any length, if too many wait.
    pub(super) is_in_trouble: bool,
    /// Whether no handler is there for it.
    pub(super) is_unrouted: bool,
    /// Whether its route holds what fails: the message never leaves the queue, because what comes after it may wait for
    /// it.
    pub(super) stays: bool,
}

impl Wait {
    /// Whether the message leaves the queue, while so many wait in memory, this one included.
    pub(super) fn leaves(&self, waiting: usize, concurrency: usize) -> bool {
        let is_long = self.pause >= LONG || self.since.elapsed() + self.pause >= HELD;
        let is_short = self.pause < SHORT && !self.is_in_trouble;
        !self.stays && (is_long || (waiting > concurrency && !is_short))
    }
}

/// The deliveries that wait in memory.
#[derive(Debug, Default)]
pub(super) struct WaitingPlaces(AtomicUsize);

impl WaitingPlaces {
    /// Takes a place. Returns it with how many are taken.
    pub(super) fn take(&self) -> (WaitingPlace<'_>, usize) {
        let taken = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        (WaitingPlace(self), taken)
    }
}

pub(super) struct WaitingPlace<'a>(&'a WaitingPlaces);

impl Drop for WaitingPlace<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The failures of one topic since its last success.
#[derive(Debug, Default)]
pub(super) struct Failures(AtomicU32);

impl Failures {
    /// A message of the topic was handled.
    pub(super) fn end(&self) {
        // Nearly always there was none, and reading is cheaper than writing.
        if self.0.load(Ordering::Relaxed) > 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    /// An attempt has failed. Whether the topic is in trouble: it has failed twice as often in a row as handlers
    /// may run at once.
    pub(super) fn add(&self, concurrency: usize) -> bool {
        let failures = self.0.load(Ordering::Relaxed).saturating_add(1);
        self.0.store(failures, Ordering::Relaxed);
        usize::try_from(failures).unwrap_or(usize::MAX) > concurrency.saturating_mul(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_may_be_held_never_leaves_the_queue() {
        let wait = Wait {
            pause: LONG,
            in_memory: Some(LONG),
            attempts: 2,
            waited: Duration::ZERO,
            since: Instant::now(),
            is_in_trouble: true,
            is_unrouted: false,
            stays: false,
        };
        assert!(wait.leaves(1, 1) && wait.leaves(9, 1));

        let stays = Wait {
            stays: true,
            ..wait
        };
        assert!(!stays.leaves(1, 1) && !stays.leaves(9, 1));
    }
}
