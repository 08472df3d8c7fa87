//! Messages in flight: taken by a lane and not settled, at a handler or waiting for one.
//!
//! Input: rows that lanes have taken, and the tags of settled deliveries. State: each message by its tag, their
//! weight, and with [`key_order`](super::key_order) which of them wait behind others. Output: the tag to deliver
//! next, and how much room there is to read on.
//!
//! ```text
//!   take ─┬─ first of its key, or without one ─▶ delivered ────────────────── settle ─▶ out
//!         ├─ waits ─ the one before is settled ─▲       ▲   └ fails ─ hold ─▶ held, light ─ due ─▶ read, delivered
//!         └─ its topic is held ─ no longer ─────┘       │
//!              └ light: without its content ─ read ─ fill┘
//! ```
//!
//! Three things bound the memory: the number of messages with content, their weight, and the number of light ones. A delivery of a lost
//! lane counts as a message until its handler has settled it. Light messages that may go now are read as far as there is
//! room; the others stay noted. Messages that wait have at most half of the room for their content, so there is always
//! room for the one that they wait for.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    gates::Gates,
    key_order::KeyOrder,
    rows::{LaneId, LogRow},
};
use crate::Message;

/// With this many messages whose content was left out, nothing further is read.
const MOST_LIGHT: usize = 10_000;
/// With this many bytes in flight, nothing further is read.
const MOST_WEIGHT: usize = 32 * 1024 * 1024;

/// A message that was taken and is not settled.
///
/// ```text
///   light ── its turn has come: read again ──▶ with content ── delivered ──▶ settled
///                                                  ▲
///   taken, first of its key or without a key ──────┘
/// ```
#[derive(Debug)]
pub(crate) struct TakenMessage {
    /// The lane that has taken it, and that it is settled in.
    pub(crate) lane: LaneId,
    /// Its sequence number.
    pub(crate) seq: i64,
    /// The message, or why the row cannot be read as one. Empty while the message is light.
    pub(crate) content: Result<Message, String>,
    /// When its time to live is over, by this process's clock.
    pub(crate) expires: Option<Instant>,
    /// The bytes that it counts with.
    weight: usize,
    /// Its key, if keys are kept in order.
    key: Option<Arc<str>>,
    /// Its topic, if that can be held as a whole.
    topic: Option<Arc<str>>,
    /// Its content was left out while it waits, and is read again before it goes.
    is_light: bool,
    /// How often its handler was tried before it was held.
    attempts: u32,
    /// Whether the owner of its lane before may have ended while its handler ran.
    is_doubted: bool,
}

impl TakenMessage {
    /// Whether the owner of its lane before may have ended while its handler ran.
    pub(crate) fn is_doubted(&self) -> bool {
        self.is_doubted
    }

    /// Whether it stands in the order of a key.
    pub(crate) fn has_key(&self) -> bool {
        self.key.is_some()
    }
}

/// Everything in flight, with the order of the keys if there is one.
#[derive(Debug)]
pub(crate) struct InFlight {
    /// All messages in flight, by their tags.
    messages: HashMap<u64, TakenMessage>,
    /// Which messages wait behind others of their key. `None` without key order.
    order: Option<KeyOrder>,
    /// Which messages wait for their whole topic.
    gates: Gates,
    /// How many messages may be kept with their content.
    prefetch: usize,
    /// The tag of the next message. No tag is used twice.
    next_tag: u64,
    /// The bytes of all messages with content.
    weight: usize,
    /// How many messages are kept without their content.
    light: usize,
    /// Light messages that may go now: they are read again, then delivered, once there is room for their content.
    to_read: Vec<u64>,
    /// Deliveries of lost lanes that are not settled. They take places in the channel to the handlers, and nothing else.
    lost: HashSet<u64>,
}

impl InFlight {
    /// Nothing in flight. At most `prefetch` messages are kept with their content. `first_tag` is the tag of
    /// the first message.
    pub(crate) fn new(key_order: bool, prefetch: usize, first_tag: u64) -> Self {
        Self {
            messages: HashMap::new(),
            order: key_order.then(KeyOrder::default),
            gates: Gates::default(),
            prefetch,
            next_tag: first_tag,
            weight: 0,
            light: 0,
            to_read: Vec::new(),
            lost: HashSet::new(),
        }
    }

    /// With topics that can be held as a whole.
    pub(crate) fn holding(mut self, topics: impl IntoIterator<Item = Arc<str>>) -> Self {
        self.gates = Gates::new(topics);
        self
    }

    /// The topics that are held.
    pub(crate) fn gates(&mut self) -> &mut Gates {
        &mut self.gates
    }

    /// Whether so many messages wait without their content that nothing further is read.
    pub(crate) fn is_full_of_waiting(&self) -> bool {
        self.light >= MOST_LIGHT
    }

    /// How many more messages may be taken.
    pub(crate) fn room(&self) -> usize {
        if self.weight >= MOST_WEIGHT || self.light >= MOST_LIGHT {
            return 0;
        }
        self.free_places()
    }

    /// How many more messages may be taken of those that predecessors left open. Messages that wait do not count: one
    /// of these may be what they wait for. How many these can be is bounded by what the predecessors had in flight.
    pub(crate) fn room_for_inherited(&self) -> usize {
        match self.weight >= MOST_WEIGHT {
            true => 0,
            false => self.free_places(),
        }
    }

    /// How many more messages may be kept with their content, whatever they weigh.
    fn free_places(&self) -> usize {
        self.prefetch
            .saturating_sub(self.messages.len() - self.light)
            .saturating_sub(self.lost.len())
    }

    /// A message in flight.
    pub(crate) fn get(&self, tag: u64) -> Option<&TakenMessage> {
        self.messages.get(&tag)
    }

    /// Takes a row. Returns its tag, and whether it may be delivered now.
    ///
    /// A message that has to wait is kept light once less room is left than messages are in flight. So about
    /// half of the room stays for messages that may go now.
    pub(crate) fn take(&mut self, lane: LaneId, row: LogRow) -> (u64, bool) {
        let room = self.room();
        let tag = self.next_tag;
        self.next_tag += 1;
        let key: Option<Arc<str>> = row.key().filter(|_| self.order.is_some()).map(Into::into);
        let is_first = match (&mut self.order, &key) {
            (Some(order), Some(key)) => order.enter(key, tag),
            _ => true,
        };
        let topic = self.gates.topic(&row.topic);
        let goes = is_first
            && topic
                .as_ref()
                .is_none_or(|topic| self.gates.pass(topic, row.seq, tag));
        let weight = usize::try_from(row.weight).unwrap_or(0);
        // Half of the room is kept for messages that may go now.
        let is_light = !goes
            && (room <= self.messages.len() + 1
                || self.weight.saturating_add(weight) > MOST_WEIGHT / 2);
        let expires = row.expires_in.map(expiry);
        let seq = row.seq;
        let content = if is_light {
            self.light += 1;
            Err(String::new())
        } else {
            self.weight += weight;
            row.into_message()
        };
        let message = TakenMessage {
            lane,
            seq,
            content,
            expires,
            weight,
            key,
            topic,
            is_light,
            attempts: 0,
            is_doubted: false,
        };
        self.messages.insert(tag, message);
        (tag, goes)
    }

    /// Notes that the owner of its lane before may have ended while the handler of a message ran.
    pub(crate) fn doubt(&mut self, tag: u64) {
        if let Some(taken) = self.messages.get_mut(&tag) {
            taken.is_doubted = true;
        }
    }

    /// Whether a message whose turn has come may go. Otherwise it waits for its topic, without its content: the message
    /// that holds the topic needs the room.
    pub(crate) fn passes(&mut self, tag: u64) -> bool {
        let Some(taken) = self.messages.get(&tag) else {
            return false;
        };
        let topic = taken.topic.as_ref();
        let passes = topic.is_none_or(|topic| self.gates.pass(topic, taken.seq, tag));
        if !passes {
            self.leave_content(tag);
        }
        passes
    }

    /// Keeps a message at its place, after so many attempts. Its content is read again before it goes.
    pub(crate) fn hold(&mut self, tag: u64, attempts: u32) {
        let Some(taken) = self.messages.get_mut(&tag) else {
            return;
        };
        taken.attempts = attempts;
        self.leave_content(tag);
    }

    /// Keeps a message without its content.
    fn leave_content(&mut self, tag: u64) {
        let taken = self.messages.get_mut(&tag);
        if let Some(taken) = taken.filter(|taken| !taken.is_light) {
            taken.is_light = true;
            taken.content = Err(String::new());
            self.light += 1;
            self.weight -= taken.weight;
        }
    }

    /// Whether a message has to be read again before it can be delivered. It is then noted for
    /// [`take_to_read`](Self::take_to_read).
    pub(crate) fn must_read(&mut self, tag: u64) -> bool {
        let is_light = self.messages.get(&tag).is_some_and(|taken| taken.is_light);
        if is_light {
            self.to_read.push(tag);
        }
        is_light
    }

    /// Takes the messages to be read now, as far as there is room for their content: their tags, streams and sequence
    /// numbers. The others stay noted.
    pub(crate) fn take_to_read(&mut self) -> Vec<(u64, i64, i64)> {
        let (places, mut weight) = (self.free_places(), self.weight);
        let (mut positions, mut taken_out) = (Vec::new(), 0);
        for tag in &self.to_read {
            if let Some(taken) = self.messages.get(tag) {
                if positions.len() >= places || weight >= MOST_WEIGHT {
                    break;
                }
                weight = weight.saturating_add(taken.weight);
                positions.push((*tag, taken.lane.stream, taken.seq));
            }
            taken_out += 1;
        }
        self.to_read.drain(..taken_out);
        positions
    }

    /// Whether any message is to be read before it can be delivered.
    pub(crate) fn has_to_read(&self) -> bool {
        !self.to_read.is_empty()
    }

    /// Fills in the content that was left out. `None` if the row is gone.
    pub(crate) fn fill(&mut self, tag: u64, row: Option<LogRow>) {
        let Some(taken) = self.messages.get_mut(&tag).filter(|taken| taken.is_light) else {
            return;
        };
        taken.is_light = false;
        taken.content = row.map_or_else(
            || Err("it was removed from the log before it was its turn".to_owned()),
            LogRow::into_message,
        );
        if taken.attempts > 0 {
            let next = taken.attempts.saturating_add(1);
            let message = std::mem::replace(&mut taken.content, Err(String::new()));
            taken.content = message.map(|message| message.with_attempt(next));
        }
        self.light -= 1;
        self.weight += taken.weight;
    }

    /// Takes one out for good. Returns it, and the next message of its key, which may go now.
    pub(crate) fn settle(&mut self, tag: u64) -> Option<(TakenMessage, Option<u64>)> {
        let taken = self.messages.remove(&tag)?;
        self.lighten(&taken);
        let next = match (&mut self.order, &taken.key) {
            (Some(order), Some(key)) => order.leave(key),
            _ => None,
        };
        Some((taken, next))
    }

    /// Takes out the messages of a lane that wait behind others of their key, for their topic, or for room: no handler has
    /// begun them. Returns their sequence numbers, and messages of other lanes that may go now.
    pub(crate) fn take_waiting(&mut self, lane: LaneId) -> (Vec<i64>, Vec<u64>) {
        let is_of_lane = |tag: u64| {
            self.messages
                .get(&tag)
                .is_some_and(|taken| taken.lane == lane)
        };
        let behind = match &mut self.order {
            Some(order) => order.take_waiting(is_of_lane),
            None => Vec::new(),
        };
        let mut for_topic = self.gates.take_waiting(is_of_lane);
        let messages = &self.messages;
        // A message that is held stays: its owner knows that it is to be tried.
        let waits_for_room = |tag: &u64| {
            let taken = messages.get(tag);
            taken.is_some_and(|taken| taken.lane == lane && taken.attempts == 0)
        };
        for_topic.extend(self.to_read.extract_if(.., |tag| waits_for_room(tag)));
        let (mut seqs, mut next) = (Vec::new(), Vec::new());
        for tag in behind {
            if let Some(taken) = self.messages.remove(&tag) {
                seqs.push(taken.seq);
                self.lighten(&taken);
            }
        }
        for tag in for_topic {
            if let Some((taken, freed)) = self.settle(tag) {
                seqs.push(taken.seq);
                next.extend(freed);
            }
        }
        (seqs, next)
    }

    /// A message is no longer in flight, and takes no room.
    fn lighten(&mut self, taken: &TakenMessage) {
        if taken.is_light {
            self.light -= 1;
        } else {
            self.weight -= taken.weight;
        }
    }

    /// A delivery of a lost lane was settled, which means nothing. Its place is free.
    pub(crate) fn forget(&mut self, tag: u64) {
        self.lost.remove(&tag);
    }

    /// Forgets a lane that another member has now. Its deliveries keep their places until they are settled: the channel to
    /// the handlers has as many as there may be messages in flight, and a delivery for which it has none would come back
    /// at once, again and again. Returns its messages that were delivered, and messages of other
    /// lanes that may go now: they waited behind one of this lane, because one key can be in the same lane of another
    /// stream. A light message was never delivered, so no settlement of it will come.
    pub(crate) fn lose(&mut self, lane: LaneId) -> (Vec<u64>, Vec<u64>) {
        let (_, mut next) = self.take_waiting(lane);
        let of_lane = |(tag, taken): (&u64, &TakenMessage)| {
            (taken.lane == lane).then_some((*tag, taken.is_light))
        };
        let lost: Vec<(u64, bool)> = self.messages.iter().filter_map(of_lane).collect();
        let mut delivered = Vec::new();
        for (tag, is_light) in lost {
            next.extend(self.settle(tag).and_then(|(_, next)| next));
            if !is_light {
                delivered.push(tag);
            }
        }
        self.lost.extend(&delivered);
        (delivered, next)
    }
}

/// When a message expires by this process's clock. The row says how long it has from now.
fn expiry(expires_in: i64) -> Instant {
    let left = Duration::from_micros(u64::try_from(expires_in).unwrap_or(0));
    let now = Instant::now();
    now.checked_add(left).unwrap_or(now)
}
