//! How many settlements were carried out, and how many connections made anew.
//!
//! Input: what a channel or the publisher has done. Output: the counts, for `Link::settled` and `Link::counts`. A settlement whose channel
//! is gone is not among them: its message comes again.

use std::sync::atomic::{AtomicU64, Ordering};

use final_core::broker::{LinkCounts, Settled};

/// The counts of one link.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    handled: AtomicU64,
    dead_lettered: AtomicU64,
    reconnects: AtomicU64,
}

impl Counts {
    pub(crate) fn link(&self) -> LinkCounts {
        let mut counts = LinkCounts::default();
        counts.reconnects = self.reconnects.load(Ordering::Relaxed);
        counts
    }

    /// A connection was made in the place of one that was lost, or could not be made before.
    pub(crate) fn reconnected(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn settled(&self) -> Settled {
        Settled::new(
            self.handled.load(Ordering::Relaxed),
            self.dead_lettered.load(Ordering::Relaxed),
        )
    }

    /// The acks of these were written.
    pub(crate) fn acked(&self, finished: Finished) {
        let add = |count: &AtomicU64, more: u64| {
            if more > 0 {
                count.fetch_add(more, Ordering::Relaxed);
            }
        };
        add(&self.handled, finished.handled);
        add(&self.dead_lettered, finished.dead_lettered);
    }

    pub(crate) fn dead_lettered(&self) {
        self.dead_lettered.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many deliveries were acked together, by their kinds.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    handled: u64,
    dead_lettered: u64,
}

/// Why a delivery is finished.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Why {
    Handled,
    DeadLettered,
    /// The bus has stored the message elsewhere.
    Moved,
}

impl Finished {
    /// The ack of a delivery was written.
    pub(crate) fn add(&mut self, why: Why) {
        match why {
            Why::Handled => self.handled += 1,
            Why::DeadLettered => self.dead_lettered += 1,
            Why::Moved => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_acked_counts() {
        let (mut finished, counts) = (Finished::default(), Counts::default());
        for why in [Why::Handled, Why::Moved, Why::DeadLettered, Why::Handled] {
            finished.add(why);
        }
        assert_eq!(counts.settled(), Settled::new(0, 0));

        counts.acked(finished);
        assert_eq!(counts.settled(), Settled::new(2, 1));
    }
}
