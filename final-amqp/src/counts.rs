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

    pub(crate) fn dead_lettered(&self) {
        self.dead_lettered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Why the deliveries of a channel are finished, until their acks are written.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    handled: usize,
    dead_lettered: usize,
    moved: usize,
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
    /// A delivery is finished.
    pub(crate) fn add(&mut self, why: Why) {
        match why {
            Why::Handled => self.handled += 1,
            Why::DeadLettered => self.dead_lettered += 1,
            Why::Moved => self.moved += 1,
        }
    }

    /// Acks were written, and `left` finished deliveries have none yet. Which these are is not known, so the counts of
    /// the kinds can be wrong until all are acked; they are never too high together.
    pub(crate) fn acked(&mut self, left: usize, counts: &Counts) {
        let all = self.handled + self.dead_lettered + self.moved;
        let mut acked = all.saturating_sub(left);
        let mut take = |of: &mut usize| {
            let taken = acked.min(*of);
            (*of, acked) = (*of - taken, acked - taken);
            taken as u64
        };
        let (handled, dead) = (take(&mut self.handled), take(&mut self.dead_lettered));
        take(&mut self.moved);
        if handled > 0 {
            counts.handled.fetch_add(handled, Ordering::Relaxed);
        }
        if dead > 0 {
            counts.dead_lettered.fetch_add(dead, Ordering::Relaxed);
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

        finished.acked(2, &counts);
        assert_eq!(counts.settled(), Settled::new(2, 0));
        finished.acked(0, &counts);
        assert_eq!(counts.settled(), Settled::new(2, 1));
    }
}
