//! Counts of settled deliveries and of retries, for `Bus::stats`.
//!
//! Input: an addition for each settlement and each retry. State: a counter of each kind. Output: the counts at
//! one moment.

use crate::runtime::counter::Counter;

/// The counters, from the start of the bus on.
#[derive(Debug, Default)]
pub(crate) struct ConsumeStats {
    pub(super) handled: Counter,
    pub(super) retried: Counter,
    pub(super) dead_lettered: Counter,
    pub(super) requeued: Counter,
    pub(super) postponed: Counter,
}

/// The counts at one moment. Each is exact; together they may be a few messages apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Consumed {
    /// Deliveries that were handled and acked.
    pub(crate) handled: u64,
    /// Attempts that failed and were to be tried again.
    pub(crate) retried: u64,
    /// Deliveries that were dead-lettered: rejected, out of retries, malformed, or without a route for too
    /// long.
    pub(crate) dead_lettered: u64,
    /// Deliveries that were requeued: without a route yet, or in flight when the bus stopped.
    pub(crate) requeued: u64,
    /// Messages that have left the queue for a while.
    pub(crate) postponed: u64,
}

impl ConsumeStats {
    pub(crate) fn read(&self) -> Consumed {
        Consumed {
            handled: self.handled.get(),
            retried: self.retried.get(),
            dead_lettered: self.dead_lettered.get(),
            requeued: self.requeued.get(),
            postponed: self.postponed.get(),
        }
    }
}
