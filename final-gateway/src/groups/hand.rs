//! What one connection has in hand.
//!
//! Input: messages with their offsets; commits. State: for each partition its messages in the order of their offsets.
//! Output: the messages that a commit settles, or that go back.

use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;

use super::{budget::Amount, entry::StockEntry};

/// A message in the hand of a connection.
#[derive(Debug)]
struct HandEntry {
    offset: i64,
    since: Instant,
    entry: StockEntry,
}

/// The messages of one connection.
#[derive(Debug, Default)]
pub(super) struct ConnectionHand {
    partitions: BTreeMap<i32, VecDeque<HandEntry>>,
    /// How much it is, with what is on its way into the hand.
    pub(super) amount: Amount,
    /// When the connection has last taken or committed.
    pub(super) seen: Option<Instant>,
}

impl ConnectionHand {
    /// Takes a message, whose offset is higher than all before.
    pub(super) fn put(&mut self, entry: StockEntry, offset: i64, now: Instant) {
        let held = HandEntry {
            offset,
            since: now,
            entry,
        };
        self.partitions
            .entry(held.entry.partition())
            .or_default()
            .push_back(held);
    }

    /// Takes out everything of a partition up to an offset.
    pub(super) fn commit(&mut self, partition: i32, offset: i64) -> Vec<StockEntry> {
        self.take_while(partition, |held| held.offset <= offset)
    }

    /// Takes out one message.
    pub(super) fn take(&mut self, partition: i32, offset: i64) -> Option<StockEntry> {
        let held = self.partitions.get_mut(&partition)?;
        let at = held
            .binary_search_by_key(&offset, |held| held.offset)
            .ok()?;
        held.remove(at).map(|held| held.entry)
    }

    /// Takes out what has been in hand since before then.
    pub(super) fn take_older(&mut self, than: Instant) -> Vec<StockEntry> {
        let partitions: Vec<i32> = self.partitions.keys().copied().collect();
        let older = |partition| self.take_while(partition, |held| held.since <= than);
        partitions.into_iter().flat_map(older).collect()
    }

    /// Takes out everything.
    pub(super) fn take_all(&mut self) -> Vec<StockEntry> {
        let all = std::mem::take(&mut self.partitions);
        all.into_values().flatten().map(|held| held.entry).collect()
    }

    fn take_while(&mut self, partition: i32, goes: impl Fn(&HandEntry) -> bool) -> Vec<StockEntry> {
        let mut taken = Vec::new();
        if let Some(held) = self.partitions.get_mut(&partition) {
            let end = held.partition_point(goes);
            taken.extend(held.drain(..end).map(|held| held.entry));
        }
        taken
    }
}
