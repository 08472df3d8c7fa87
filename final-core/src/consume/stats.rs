//! What became of deliveries, in numbers.

use crate::runtime::counter::Counter;

/// Counts what became of deliveries since the start of the process.
#[derive(Debug, Default)]
pub(crate) struct ConsumeStats {
    pub(super) handled: Counter,
    pub(super) retried: Counter,
    pub(super) dead_lettered: Counter,
    pub(super) requeued: Counter,
}

/// The counts at one moment. Each is right, together they may be a few apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Consumed {
    /// Done, and acked.
    pub(crate) handled: u64,
    /// Attempts that failed and were to be tried again.
    pub(crate) retried: u64,
    /// Put away: given up, rejected, malformed, or without a route for too long.
    pub(crate) dead_lettered: u64,
    /// Handed back: without a route yet, or in hand when the bus stopped.
    pub(crate) requeued: u64,
}

impl ConsumeStats {
    pub(crate) fn read(&self) -> Consumed {
        Consumed {
            handled: self.handled.get(),
            retried: self.retried.get(),
            dead_lettered: self.dead_lettered.get(),
            requeued: self.requeued.get(),
        }
    }
}
