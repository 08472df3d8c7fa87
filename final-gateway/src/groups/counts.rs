//! What was done with messages, counted over all groups of a node.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The numbers of a node's groups, for its metrics. All but the first two count from the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStats {
    /// Groups and topics that are open.
    pub open: usize,
    /// Messages that clients have in hand, or that wait for the end of a delay.
    pub in_hand: usize,
    /// How often messages were given out.
    pub given_out: u64,
    /// Messages that clients have settled.
    pub settled: u64,
    /// Messages that came back: their connection ended, their deadline passed, or their client gave them back.
    pub came_back: u64,
    /// Messages that went to the dead letters.
    pub dead_lettered: u64,
}

/// The counters, shared by all pairs.
#[derive(Debug, Default)]
pub(super) struct GroupCounts {
    pub(super) given_out: RisingCount,
    pub(super) settled: RisingCount,
    pub(super) came_back: RisingCount,
    pub(super) dead_lettered: RisingCount,
}

/// A number that only rises.
#[derive(Debug, Default)]
pub(super) struct RisingCount(AtomicU64);

impl RisingCount {
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
