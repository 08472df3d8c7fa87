//! The window: how many messages may be in flight at once, and how many bytes they may have together.
//!
//! Input: requests for a [`Slot`], each with a topic, a size and a [`Side`]; the answers of the broker; and
//! whether the table holds a backlog. State: counts of slots and bytes, by side and by topic. Output: a slot
//! or none, at once. It decides fairness as well as the limit: no topic and no side can use up the window.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::Notify;

use crate::lock::lock;

/// Payload bytes in flight at once, whatever the number of messages.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// The side that asks for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// A transaction of this process, just before its INSERT.
    HandOver,
    /// The scanner, for a record it has claimed.
    Scanner,
}

/// Hands out [`Slot`]s.
///
/// A slot is taken before the INSERT or after the claim, and travels with the record until the record is
/// settled. Nothing is sent without a slot, so the window alone bounds how many messages can be repeated
/// after a crash. Memory holds two more batches at most: claimed records that wait for a slot, and the batch
/// claimed ahead of them.
///
/// ```text
///   try_take ──▶ with the broker ── answered ──▶ settling ── dropped ──▶ free
///                     ▲  └─ dropped ▶ free           │
///                     └────────── sent_again ────────┘
/// ```
///
/// A slot that is *with the broker* counts against the shares below. One that is *settling* counts against the
/// limit only: the statement that settles it can take as long as the broker's confirm, and holds up no
/// other message.
///
/// The shares:
///
/// - Hand-over leaves a quarter of the window to the scanner while there is a backlog. The scanner always
///   leaves a quarter to hand-over, so that fresh messages stay quick while a backlog is sent.
/// - One topic holds at most a quarter of the slots and of the bytes while others are in flight, and half of
///   them when it is alone. So a topic whose queue never confirms cannot use up the share of either side.
#[derive(Debug)]
pub(crate) struct Window {
    limit: usize,
    used: Mutex<Used>,
    /// Notified at each slot that no longer counts against a share.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Used {
    /// Messages with the broker.
    slots: usize,
    /// Messages that are answered and not yet settled in the table.
    settling: usize,
    /// Bytes of both.
    bytes: usize,
    /// Slots with the broker that hand-over has taken.
    hand_over: usize,
    /// Slots with the broker that the scanner has taken.
    scanner: usize,
    /// What each topic has with the broker. A topic that has nothing is not in here.
    topics: HashMap<Arc<str>, TopicShare>,
    /// Whether the table holds due records that are not in flight.
    backlog: bool,
}

/// What one topic has with the broker.
#[derive(Clone, Copy, Debug, Default)]
struct TopicShare {
    slots: usize,
    bytes: usize,
}

/// The right to have one message in flight. Dropping it frees its place in the window.
#[derive(Debug)]
pub(crate) struct Slot {
    window: Arc<Window>,
    topic: Arc<str>,
    bytes: usize,
    side: Side,
    is_answered: bool,
}

impl Used {
    /// Counts a slot as with the broker.
    fn send(&mut self, slot: &Slot) {
        self.slots += 1;
        *self.of(slot.side) += 1;
        let share = self.topics.entry(Arc::clone(&slot.topic)).or_default();
        share.slots += 1;
        share.bytes += slot.bytes;
    }

    /// Counts a slot as no longer with the broker.
    fn answer(&mut self, slot: &Slot) {
        self.slots -= 1;
        *self.of(slot.side) -= 1;
        if let Some(share) = self.topics.get_mut(&slot.topic) {
            share.slots -= 1;
            share.bytes -= slot.bytes;
            if share.slots == 0 {
                self.topics.remove(&slot.topic);
            }
        }
    }

    fn of(&mut self, side: Side) -> &mut usize {
        match side {
            Side::HandOver => &mut self.hand_over,
            Side::Scanner => &mut self.scanner,
        }
    }
}

impl Window {
    /// A window of `limit` slots.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Takes a slot, if there is one for this topic and side.
    pub(crate) fn try_take(
        self: &Arc<Self>,
        topic: &Arc<str>,
        bytes: usize,
        side: Side,
    ) -> Option<Slot> {
        let mut used = self.used();
        let of_side = *used.of(side);
        let of_topic = used.topics.get(topic).copied().unwrap_or_default();
        let alone = used.topics.len() == usize::from(of_topic.slots > 0);
        let (topic_limit, topic_bytes) = match alone {
            true => (self.half(), MAX_BYTES / 2),
            false => (self.quarter(), MAX_BYTES / 4),
        };
        let side_limit = match side {
            Side::HandOver if !used.backlog => self.limit,
            Side::HandOver | Side::Scanner => self.three_quarters(),
        };
        // A message larger than its topic's share of the bytes is sent as the only one of its topic, and one
        // larger than all bytes as the only one in flight. Otherwise it could never be sent.
        let fits = (used.bytes == 0 || used.bytes + bytes <= MAX_BYTES)
            && (of_topic.slots == 0 || of_topic.bytes + bytes <= topic_bytes);
        let is_full = used.slots + used.settling >= self.limit;
        if is_full || of_side >= side_limit || of_topic.slots >= topic_limit || !fits {
            return None;
        }
        let slot = Slot {
            window: Arc::clone(self),
            topic: Arc::clone(topic),
            bytes,
            side,
            is_answered: false,
        };
        used.send(&slot);
        used.bytes += bytes;
        drop(used);
        Some(slot)
    }

    /// How many slots the scanner could take now, if no topic had reached its share.
    pub(crate) fn free_for_scanner(&self) -> usize {
        let used = self.used();
        if used.bytes >= MAX_BYTES {
            return 0;
        }
        (self.limit - used.slots - used.settling)
            .min(self.most_for_scanner().saturating_sub(used.scanner))
    }

    /// How many slots the scanner may ever hold.
    pub(crate) fn most_for_scanner(&self) -> usize {
        self.three_quarters()
    }

    /// How many free slots make a claim worth its statement.
    pub(crate) fn worth_a_claim(&self, batch: usize) -> usize {
        self.quarter().min(batch).max(1)
    }

    /// Waits until a slot is freed or answered.
    ///
    /// Make the future before looking for a free slot. Then a slot freed in between ends the wait.
    pub(crate) fn freed(&self) -> tokio::sync::futures::Notified<'_> {
        self.freed.notified()
    }

    /// Notes whether the table holds due records that are not in flight.
    pub(crate) fn set_backlog(&self, backlog: bool) {
        self.used().backlog = backlog;
    }

    /// How many messages are in flight, including messages that are being settled.
    pub(crate) fn in_flight(&self) -> usize {
        let used = self.used();
        used.slots + used.settling
    }

    fn quarter(&self) -> usize {
        (self.limit / 4).max(1)
    }

    fn half(&self) -> usize {
        (self.limit / 2).max(1)
    }

    fn three_quarters(&self) -> usize {
        (self.limit - self.limit / 4).max(1)
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        lock(&self.used)
    }
}

impl Slot {
    /// Notes that the broker has answered. Another message of its topic and side may be sent now.
    pub(super) fn answered(&mut self) {
        if self.is_answered {
            return;
        }
        self.is_answered = true;
        let mut used = self.window.used();
        used.answer(self);
        used.settling += 1;
        drop(used);
        self.window.freed.notify_waiters();
    }

    /// Notes that the message goes to the broker again, even beyond its topic's share.
    pub(super) fn sent_again(&mut self) {
        if !self.is_answered {
            return;
        }
        self.is_answered = false;
        let mut used = self.window.used();
        used.settling -= 1;
        used.send(self);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut used = self.window.used();
        used.bytes -= self.bytes;
        if self.is_answered {
            used.settling -= 1;
        } else {
            used.answer(self);
        }
        drop(used);
        self.window.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
