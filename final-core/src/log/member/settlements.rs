//! Where settlements of the handlers wait for the engine.
//!
//! Input: settlements by their tag, from any task. State: settlements that the engine has not taken; deliveries whose
//! lanes are lost. Output: all settlements at once, and a wakeup of the engine once there are enough.

use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
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
    /// Deliveries of lanes that another member has now, until they are settled.
    lost: Mutex<HashSet<u64>>,
    /// Whether there are any, to be asked without the lock.
    has_lost: AtomicBool,
    /// Whether messages of one key are handled one after the other.
    key_order: bool,
}

/// The engine of a tag is above these bits.
const ENGINE: u32 = 40;

impl Settlements {
    pub(crate) fn new(key_order: bool) -> Self {
        Self {
            waiting: Mutex::default(),
            wake_at: AtomicUsize::new(1),
            notify: Notify::new(),
            engines: AtomicU64::new(0),
            lost: Mutex::default(),
            has_lost: AtomicBool::new(false),
            key_order,
        }
    }

    /// The first tag of an engine's deliveries. After a panic the next engine takes the same messages again,
    /// while handlers still settle deliveries of the engine before: those tags must not mean other messages.
    pub(crate) fn first_tag(&self) -> u64 {
        let mut lost = self.lost();
        lost.clear();
        self.has_lost.store(false, Ordering::Release);
        self.engines.fetch_add(1, Ordering::AcqRel) << ENGINE
    }

    /// Another member has the lanes of these deliveries now.
    pub(crate) fn lose(&self, tags: &[u64]) {
        let mut lost = self.lost();
        lost.extend(tags);
        self.has_lost.store(!lost.is_empty(), Ordering::Release);
    }

    /// The delivery was settled, and that means nothing any longer.
    pub(crate) fn forget(&self, tag: u64) {
        let mut lost = self.lost();
        lost.remove(&tag);
        self.has_lost.store(!lost.is_empty(), Ordering::Release);
    }

    fn lost(&self) -> std::sync::MutexGuard<'_, HashSet<u64>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// A delivery of an engine that panicked, or of a lane that another member has.
    fn is_void(&self, tag: u64) -> bool {
        let engines = self.engines.load(Ordering::Acquire);
        (tag >> ENGINE) + 1 != engines
            || (self.has_lost.load(Ordering::Acquire) && self.lost().contains(&tag))
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
        assert!(settlements.is_void(first) && !settlements.is_void(second));
    }

    #[test]
    fn a_delivery_of_a_lost_lane_is_void_until_it_is_settled() {
        let settlements = Settlements::new(false);
        let tag = settlements.first_tag();
        settlements.lose(&[tag, tag + 1]);
        assert!(settlements.is_void(tag) && !settlements.is_void(tag + 2));

        settlements.forget(tag);
        settlements.forget(tag + 1);
        assert!(settlements.lost().is_empty() && !settlements.is_void(tag));
    }
}
