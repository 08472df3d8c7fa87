//! Where settlements of the handlers wait for the engine.
//!
//! Input: settlements by their tag, from any task. State: settlements that the engine has not taken. Output: all of
//! them at once, and a wakeup of the engine once there are enough.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use crate::{
    Message,
    broker::{Postponing, Settlement, Settler},
};

/// Settlements that the engine has not taken. There are never more than messages in flight.
#[derive(Debug)]
pub(crate) struct Settlements {
    /// Settlements by tag, in the order in which they came.
    waiting: Mutex<Vec<(u64, Settlement)>>,
    /// The engine is woken once this many wait. Most settlements can wait for its next round.
    wake_at: AtomicUsize,
    notify: Notify,
    /// How many engines have worked with it.
    engines: AtomicU64,
    /// Whether messages of one key are handled one after the other.
    key_order: bool,
}

impl Settlements {
    pub(crate) fn new(key_order: bool) -> Self {
        Self {
            waiting: Mutex::default(),
            wake_at: AtomicUsize::new(1),
            notify: Notify::new(),
            engines: AtomicU64::new(0),
            key_order,
        }
    }

    /// The first tag of an engine's deliveries. After a panic the next engine takes the same messages again,
    /// while handlers still settle deliveries of the engine before: those tags must not mean other messages.
    pub(crate) fn first_tag(&self) -> u64 {
        self.engines.fetch_add(1, Ordering::Relaxed) << 40
    }

    /// Takes all settlements.
    pub(crate) fn take(&self) -> Vec<(u64, Settlement)> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets how many waiting settlements wake the engine. The engine says so before it sleeps: few if it needs
    /// room or key order, many if it only waits for its next commit.
    pub(crate) fn set_wake_at(&self, settlements: usize) {
        self.wake_at.store(settlements.max(1), Ordering::Relaxed);
    }

    /// Waits until there are enough.
    pub(crate) async fn filled(&self) {
        loop {
            let notified = self.notify.notified();
            let waiting = self
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .len();
            if waiting >= self.wake_at.load(Ordering::Relaxed) {
                return;
            }
            notified.await;
        }
    }
}

impl Settler for Settlements {
    fn settle(&self, tag: u64, settlement: Settlement) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push((tag, settlement));
        let settlements = waiting.len();
        drop(waiting);
        if settlements >= self.wake_at.load(Ordering::Relaxed) {
            self.notify.notify_one();
        }
    }

    /// In key order a message stays the first of its key until it is done, so it cannot leave.
    fn postponing(&self, message: &Message) -> Postponing {
        match self.key_order && message.key().is_some() {
            true => Postponing::Never,
            false => Postponing::Settlement,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_of_an_engine_that_panicked_have_no_tags_of_the_next() {
        let settlements = Settlements::new(false);
        let (first, second) = (settlements.first_tag(), settlements.first_tag());

        assert!(second - first > u64::from(u32::MAX));
    }
}
