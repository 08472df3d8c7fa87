//! Where settlements wait for the engine.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use crate::broker::{Settlement, Settler};

/// Settlements that nobody has looked at. There are never more than deliveries in hand.
#[derive(Debug)]
pub(crate) struct Settlements {
    queue: Mutex<Vec<(u64, Settlement)>>,
    /// From how many on the engine is woken: most of them can wait for its next round.
    wake_at: AtomicUsize,
    notify: Notify,
    /// How many engines have had it.
    engines: AtomicU64,
}

impl Settlements {
    pub(crate) fn new() -> Self {
        Self {
            queue: Mutex::default(),
            wake_at: AtomicUsize::new(1),
            notify: Notify::new(),
            engines: AtomicU64::new(0),
        }
    }

    /// The first tag of an engine's deliveries. After a panic the next engine takes the same messages in
    /// hand again, while handlers of the one before still settle theirs: their tags are nobody's then.
    pub(crate) fn first_tag(&self) -> u64 {
        self.engines.fetch_add(1, Ordering::Relaxed) << 40
    }

    pub(crate) fn take(&self) -> Vec<(u64, Settlement)> {
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_wake_at(&self, settlements: usize) {
        self.wake_at.store(settlements.max(1), Ordering::Relaxed);
    }

    /// Waits until there are enough.
    pub(crate) async fn filled(&self) {
        loop {
            let notified = self.notify.notified();
            let waiting = self
                .queue
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
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push((tag, settlement));
        let waiting = queue.len();
        drop(queue);
        if waiting >= self.wake_at.load(Ordering::Relaxed) {
            self.notify.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_of_an_engine_that_panicked_have_no_tags_of_the_next() {
        let settlements = Settlements::new();
        let (first, second) = (settlements.first_tag(), settlements.first_tag());

        assert!(second - first > u64::from(u32::MAX));
    }
}
