//! What is on its way to a broker.
//!
//! Input: messages in order; answers. State: each message until everything before it is done. Output: which message may
//! be sent now, and up to where everything is done.
//!
//! Of each key one message is in flight at a time. A broker may lose or refuse one message and store the next, so that
//! only this keeps the order of a key. A message without a key waits for none.
//!
//! ```text
//!   waiting ─ first of its key ─▶ in flight ─┬─ stored, parked ─▶ done ─ everything before it is done ─▶ gone
//!                                    ▲       │
//!                                    └─ again┘
//! ```

use std::collections::{HashMap, VecDeque};

use crate::target::{Content, Item, Mark, TopicKey};

/// After so many messages nothing more is taken.
const MESSAGES: usize = 8_192;
/// After so many bytes of payload nothing more is taken.
const BYTES: usize = 16 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Window {
    entries: VecDeque<Entry>,
    /// The number of the first entry.
    first: u64,
    bytes: usize,
    /// The numbers of each key's messages in order. The first one may be in flight.
    keys: HashMap<TopicKey, VecDeque<u64>>,
    /// Up to here everything is done.
    done: Option<Mark>,
}

#[derive(Debug)]
struct Entry {
    /// None for a point without a message.
    content: Option<Content>,
    mark: Mark,
    ends_change: bool,
    key: Option<TopicKey>,
    is_done: bool,
    /// How often the broker has said that this message is at fault.
    faults: u32,
}

impl Window {
    /// Whether another lot may come.
    pub(super) fn has_room(&self) -> bool {
        self.entries.len() < MESSAGES && self.bytes < BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes a message. Returns its number, and whether it may be sent now.
    pub(super) fn push(&mut self, item: Item) -> (u64, bool) {
        let Item {
            content,
            mark,
            ends_change,
        } = item;
        let number = self.first + self.entries.len() as u64;
        let key = content.topic_key();
        let is_free = match &key {
            None => true,
            Some(key) => {
                let waiting = self.keys.entry(key.clone()).or_default();
                waiting.push_back(number);
                waiting.len() == 1
            }
        };
        self.bytes += content.bytes();
        self.entries.push_back(Entry {
            content: Some(content),
            mark,
            ends_change,
            key,
            is_done: false,
            faults: 0,
        });
        (number, is_free)
    }

    /// Takes a point that has no message. Of several in a row the last one counts: while a message before them waits,
    /// there is one each second.
    pub(super) fn push_point(&mut self, mark: Mark) {
        if let Some(last) = self.entries.back_mut()
            && last.content.is_none()
        {
            last.mark = mark;
            return;
        }
        self.entries.push_back(Entry {
            content: None,
            mark,
            ends_change: true,
            key: None,
            is_done: true,
            faults: 0,
        });
    }

    fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(place)
    }

    /// The message of that number, unless it is done.
    pub(super) fn content(&mut self, number: u64) -> Option<(&Content, &Mark)> {
        let entry = self.entry(number)?;
        let content = entry.content.as_ref().filter(|_| !entry.is_done)?;
        Some((content, &entry.mark))
    }

    /// Counts another fault of the message. Returns how many there were.
    pub(super) fn fault(&mut self, number: u64) -> u32 {
        self.entry(number).map_or(0, |entry| {
            entry.faults += 1;
            entry.faults
        })
    }

    /// The message is stored, or parked. Returns the number of the next one of its key.
    pub(super) fn finish(&mut self, number: u64) -> Option<u64> {
        let entry = self.entry(number)?;
        entry.is_done = true;
        let key = entry.key.take()?;
        let waiting = self.keys.get_mut(&key)?;
        // It is the first one, unless all of the key are parked at once.
        if waiting.front() == Some(&number) {
            waiting.pop_front();
        } else {
            waiting.retain(|other| *other != number);
        }
        match waiting.front() {
            Some(next) => Some(*next),
            None => {
                self.keys.remove(&key);
                None
            }
        }
    }

    /// All messages with the key of this one that are not done, in order, itself first.
    pub(super) fn with_key_of(&mut self, number: u64) -> Vec<u64> {
        let key = self.entry(number).and_then(|entry| entry.key.clone());
        match key {
            None => vec![number],
            Some(key) => self.keys.get(&key).into_iter().flatten().copied().collect(),
        }
    }

    /// Lets go of what is done at the front. Returns how many messages these were.
    pub(super) fn advance(&mut self) -> u64 {
        let mut messages = 0;
        while let Some(entry) = self.entries.front() {
            if !entry.is_done {
                break;
            }
            if let Some(content) = &entry.content {
                messages += 1;
                self.bytes = self.bytes.saturating_sub(content.bytes());
            }
            if let Some(entry) = self.entries.pop_front() {
                self.first += 1;
                if entry.ends_change {
                    self.done = Some(entry.mark);
                }
            }
        }
        messages
    }

    /// Up to where everything is done, if that has moved since the last call.
    pub(super) fn take_done(&mut self) -> Option<Mark> {
        self.done.take()
    }
}

#[cfg(test)]
mod tests {
    use final_core::Message;
    use proptest::prelude::*;

    use super::*;
    use crate::position::SourcePoint;

    fn item(key: Option<u8>, place: u64) -> Item {
        let mut message = Message::new("cdc.shop.holes", vec![0; 3]);
        if let Some(key) = key {
            message = message.with_key(key.to_string());
        }
        Item {
            content: Content::Message(message),
            mark: mark(place),
            ends_change: true,
        }
    }

    fn mark(place: u64) -> Mark {
        Mark {
            point: SourcePoint::Lsn(place),
            partial: None,
            at: None,
        }
    }

    proptest! {
        /// Whatever is confirmed in whatever order: of a key one message is in flight, in order, and the mark never
        /// passes a message that is not done.
        #[test]
        fn keys_keep_their_order_and_the_mark_waits_for_all_before_it(
            keys in prop::collection::vec(prop::option::of(0..4_u8), 1..60),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 200),
        ) {
            let mut window = Window::default();
            let mut in_flight = Vec::new();
            let mut done = vec![false; keys.len()];
            for (place, key) in keys.iter().enumerate() {
                let (number, is_free) = window.push(item(*key, place as u64));
                prop_assert_eq!(number, place as u64);
                if is_free {
                    in_flight.push(number);
                }
            }
            for pick in picks {
                if in_flight.is_empty() {
                    break;
                }
                let number = in_flight.remove(pick.index(in_flight.len()));
                let key = keys[number as usize];
                if key.is_some() {
                    let earlier = keys[..number as usize].iter().zip(&done);
                    let mut same = earlier.filter(|(other, _)| **other == key);
                    prop_assert!(same.all(|(_, done)| *done), "an earlier one of the key is not done");
                }
                done[number as usize] = true;
                in_flight.extend(window.finish(number));
                window.advance();
                let upto = done.iter().take_while(|done| **done).count() as u64;
                let expected = upto.checked_sub(1).map(mark);
                match window.take_done() {
                    Some(now) => prop_assert_eq!(Some(now), expected),
                    None => prop_assert!(upto == 0 || !done[0] || window.first == upto),
                }
            }
            prop_assert!(in_flight.is_empty());
            prop_assert!(window.is_empty() && window.keys.is_empty());
            prop_assert_eq!(window.bytes, 0);
        }
    }

    #[test]
    fn a_point_waits_for_the_messages_before_it() {
        let mut window = Window::default();
        let (number, _) = window.push(item(None, 1));
        window.push_point(mark(2));
        window.advance();
        assert_eq!(window.take_done(), None);
        window.finish(number);
        assert_eq!(window.advance(), 1);
        assert_eq!(window.take_done(), Some(mark(2)));
    }

    #[test]
    fn points_without_messages_take_no_room() {
        let mut window = Window::default();
        let (number, _) = window.push(item(None, 1));
        for place in 2..20_000 {
            window.push_point(mark(place));
        }
        assert!(window.has_room());
        window.finish(number);
        window.advance();
        assert_eq!(window.take_done(), Some(mark(19_999)));
    }

    #[test]
    fn the_mark_never_stands_within_a_change() {
        let mut window = Window::default();
        let (first, _) = window.push(item(None, 1));
        let (second, _) = window.push(Item {
            ends_change: false,
            ..item(None, 2)
        });
        window.finish(first);
        window.finish(second);
        window.advance();
        assert_eq!(window.take_done(), Some(mark(1)));
    }
}
