//! Messages that were pulled, each with its deadline.
//!
//! Input: messages, and tags that receipts name. State: each message by its tag; the deadlines in their order. Output:
//! messages that are settled, or whose time is over. It holds no more than may be in hand.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use tokio::time::Instant;

use super::{entry::StockEntry, quota::PairUse};

/// Until when a message is in hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct HandTimes {
    /// Then it comes back.
    pub(super) deadline: Instant,
    /// No extension goes beyond.
    pub(super) latest: Instant,
}

/// A message in the hand of a client that has pulled it.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) times: HandTimes,
    pub(super) entry: StockEntry,
    /// Counts the pair as used by the client's app.
    pub(super) _used: Arc<PairUse>,
}

/// The messages with deadlines of a group and topic.
#[derive(Debug, Default)]
pub(super) struct PulledMessages {
    by_tag: HashMap<u64, Lent>,
    by_deadline: BTreeSet<(Instant, u64)>,
}

impl PulledMessages {
    pub(super) fn is_empty(&self) -> bool {
        self.by_tag.is_empty()
    }

    /// Takes a message until its deadline. No tag is used twice.
    pub(super) fn put(&mut self, tag: u64, lent: Lent) {
        self.by_deadline.insert((lent.times.deadline, tag));
        self.by_tag.insert(tag, lent);
    }

    /// Takes out a message.
    pub(super) fn take(&mut self, tag: u64) -> Option<StockEntry> {
        let Lent { times, entry, .. } = self.by_tag.remove(&tag)?;
        self.by_deadline.remove(&(times.deadline, tag));
        Some(entry)
    }

    /// Sets a new deadline, the latest one at most. False if there is no such message.
    pub(super) fn extend(&mut self, tag: u64, deadline: Instant) -> bool {
        let Some(Lent { times, .. }) = self.by_tag.get_mut(&tag) else {
            return false;
        };
        self.by_deadline.remove(&(times.deadline, tag));
        times.deadline = deadline.min(times.latest);
        self.by_deadline.insert((times.deadline, tag));
        true
    }

    /// Takes out a message whose time is over.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Option<StockEntry> {
        let (deadline, tag) = *self.by_deadline.first()?;
        (deadline <= now).then(|| self.take(tag)).flatten()
    }

    /// The next deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// Takes out everything.
    pub(super) fn take_all(&mut self) -> Vec<StockEntry> {
        self.by_deadline.clear();
        let all = std::mem::take(&mut self.by_tag);
        all.into_values().map(|lent| lent.entry).collect()
    }
}
