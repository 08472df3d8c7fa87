//! What is in hand: delivered, or waiting for its turn.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    key_order::KeyOrder,
    rows::{LaneId, LogRow},
};
use crate::Message;

/// A message that was taken and is not settled.
#[derive(Debug)]
pub(crate) struct TakenMessage {
    pub(crate) lane: LaneId,
    pub(crate) seq: i64,
    pub(crate) content: Result<Message, String>,
    pub(crate) expires: Option<Instant>,
    weight: usize,
    key: Option<Arc<str>>,
    /// Left out while it waits behind others of its key, and read again when it is its turn.
    is_light: bool,
}

impl TakenMessage {
    /// Whether it stands in an order.
    pub(crate) fn has_key(&self) -> bool {
        self.key.is_some()
    }
}

/// Everything in hand, with the order of keys if there is one.
#[derive(Debug)]
pub(crate) struct InFlight {
    held: HashMap<u64, TakenMessage>,
    order: Option<KeyOrder>,
    next: u64,
    weight: usize,
    light: usize,
    /// Whose turn it is and who has to be read first.
    wanted: Vec<u64>,
    /// Messages that are set aside, because they could not be put away.
    pub(crate) aside: usize,
}

/// Messages that wait behind others of their key with nothing but their number.
const MOST_LIGHT: usize = 10_000;
/// Messages set aside from which on no more is read: each is a number that the progress lists.
pub(crate) const MOST_ASIDE: usize = 1_000;
/// Bytes in hand from which on no more is read.
const MOST_WEIGHT: usize = 32 * 1024 * 1024;

impl InFlight {
    /// Nothing yet. `first_tag` is that of the first message.
    pub(crate) fn new(key_order: bool, first_tag: u64) -> Self {
        Self {
            held: HashMap::new(),
            order: key_order.then(KeyOrder::default),
            next: first_tag,
            weight: 0,
            light: 0,
            wanted: Vec::new(),
            aside: 0,
        }
    }

    /// How many more may be taken.
    pub(crate) fn room(&self, prefetch: usize) -> usize {
        let is_full = self.weight >= MOST_WEIGHT || self.light >= MOST_LIGHT;
        if is_full || self.aside >= MOST_ASIDE {
            return 0;
        }
        prefetch.saturating_sub(self.held.len() - self.light)
    }

    pub(crate) fn get(&self, tag: u64) -> Option<&TakenMessage> {
        self.held.get(&tag)
    }

    /// Takes a row. Its tag, and whether it may be delivered now.
    pub(crate) fn take(&mut self, lane: LaneId, row: LogRow, room: usize) -> (u64, bool) {
        let tag = self.next;
        self.next += 1;
        let key: Option<Arc<str>> = row.key().filter(|_| self.order.is_some()).map(Into::into);
        let goes = match (&mut self.order, &key) {
            (Some(order), Some(key)) => order.enter(key, tag),
            _ => true,
        };
        // Half of the room is for those whose turn it is.
        let is_light = !goes && room < self.held.len();
        let expires = row.expires_in.map(expiry);
        let weight = usize::try_from(row.weight).unwrap_or(0);
        let seq = row.seq;
        let content = if is_light {
            self.light += 1;
            Err(String::new())
        } else {
            self.weight += weight;
            row.into_message()
        };
        let held = TakenMessage {
            lane,
            seq,
            content,
            expires,
            weight,
            key,
            is_light,
        };
        self.held.insert(tag, held);
        (tag, goes)
    }

    /// Whether it has to be read again before it can be delivered. It is then noted as wanted.
    pub(crate) fn must_read(&mut self, tag: u64) -> bool {
        let is_light = self.held.get(&tag).is_some_and(|held| held.is_light);
        if is_light {
            self.wanted.push(tag);
        }
        is_light
    }

    /// Those to be read now, each with its stream and number.
    pub(crate) fn take_wanted(&mut self) -> Vec<(u64, i64, i64)> {
        let wanted = std::mem::take(&mut self.wanted);
        let place = |tag: u64| {
            let held = self.held.get(&tag)?;
            Some((tag, held.lane.stream, held.seq))
        };
        wanted.into_iter().filter_map(place).collect()
    }

    pub(crate) fn has_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Fills in what was left out. `None` if the row is gone.
    pub(crate) fn fill(&mut self, tag: u64, row: Option<LogRow>) {
        let Some(held) = self.held.get_mut(&tag).filter(|held| held.is_light) else {
            return;
        };
        held.is_light = false;
        held.content = row.map_or_else(
            || Err("it was removed from the log before it was its turn".to_owned()),
            LogRow::into_message,
        );
        self.light -= 1;
        self.weight += held.weight;
    }

    /// Takes one out for good, and says who of the same key may go now.
    pub(crate) fn settle(&mut self, tag: u64) -> Option<(TakenMessage, Option<u64>)> {
        let held = self.held.remove(&tag)?;
        self.lighten(&held);
        let next = match (&mut self.order, &held.key) {
            (Some(order), Some(key)) => order.leave(key),
            _ => None,
        };
        Some((held, next))
    }

    /// Lets go of a lane's messages that wait for their turn. Their numbers.
    pub(crate) fn dismiss(&mut self, lane: LaneId) -> Vec<i64> {
        let Some(order) = &mut self.order else {
            return Vec::new();
        };
        let is_meant = |tag: u64| self.held.get(&tag).is_some_and(|held| held.lane == lane);
        let mut numbers = Vec::new();
        for tag in order.dismiss(is_meant) {
            if let Some(held) = self.held.remove(&tag) {
                numbers.push(held.seq);
                self.lighten(&held);
            }
        }
        numbers
    }

    /// One is not in hand any more.
    fn lighten(&mut self, held: &TakenMessage) {
        if held.is_light {
            self.light -= 1;
        } else {
            self.weight -= held.weight;
        }
    }

    /// Forgets a lane that others have now. Says whose turn it is of messages of other lanes: one of a
    /// key can be in the same lane of another stream.
    pub(crate) fn lose(&mut self, lane: LaneId) -> Vec<u64> {
        self.dismiss(lane);
        let is_lost = |(tag, held): (&u64, &TakenMessage)| (held.lane == lane).then_some(*tag);
        let lost: Vec<u64> = self.held.iter().filter_map(is_lost).collect();
        lost.into_iter()
            .filter_map(|tag| self.settle(tag)?.1)
            .collect()
    }
}

/// By our clock: the row says how long from now.
fn expiry(expires_in: i64) -> Instant {
    let left = Duration::from_micros(u64::try_from(expires_in).unwrap_or(0));
    let now = Instant::now();
    now.checked_add(left).unwrap_or(now)
}
