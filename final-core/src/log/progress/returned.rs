//! How often messages were given back by this member.
//!
//! Input: messages that were given back, delivered again, or settled. State: a count for each message that was given
//! back and is not settled, bounded; the oldest is forgotten first. Output: the number of the next delivery of a
//! message. Nothing is stored: a message that another member gets begins anew there.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::in_flight::TakenMessage;

/// So many messages are remembered at most.
const MOST: usize = 10_000;

/// Counts by the ids of messages. Two messages of one id share a count.
#[derive(Debug, Default)]
pub(crate) struct Returned {
    /// How often each was given back, and its place in `order`.
    counts: HashMap<Uuid, (u32, u64)>,
    /// The ids in the order in which they came.
    order: BTreeMap<u64, Uuid>,
}

impl Returned {
    /// Whether no message is counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// A message was given back.
    pub(crate) fn add(&mut self, taken: &TakenMessage) {
        let Some(id) = id(taken) else { return };
        if let Some((count, _)) = self.counts.get_mut(&id) {
            *count = count.saturating_add(1);
            return;
        }
        if self.order.len() >= MOST
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.counts.remove(&oldest);
        }
        let at = self.order.last_key_value().map_or(0, |(last, _)| last + 1);
        self.counts.insert(id, (1, at));
        self.order.insert(at, id);
    }

    /// A message is settled.
    pub(crate) fn forget(&mut self, taken: &TakenMessage) {
        if let Some(id) = id(taken)
            && let Some((_, at)) = self.counts.remove(&id)
        {
            self.order.remove(&at);
        }
    }

    /// The number of the next delivery of a message, as far as this member knows.
    pub(crate) fn times(&self, taken: &TakenMessage) -> u32 {
        let least = if taken.is_doubted() { 2 } else { 1 };
        if self.counts.is_empty() {
            return least;
        }
        let count = id(taken).and_then(|id| self.counts.get(&id));
        count.map_or(least, |(count, _)| count.saturating_add(1).max(least))
    }
}

fn id(taken: &TakenMessage) -> Option<Uuid> {
    taken.content.as_ref().ok().map(|message| message.id().0)
}
