//! One after the other, for messages of one key.
//!
//! Input: the tag of each message with a key, in the order of the log. State: for each key in flight the
//! messages that wait behind its first one. Output: the message that may go to a handler next.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// For each key with a message at a handler: the messages that wait behind it.
///
/// ```text
///   enter(a, 1) ─▶ goes       enter(a, 2) ─▶ waits     enter(b, 3) ─▶ goes
///   leave(a)    ─▶ 2 goes     leave(a)    ─▶ no message of the key is left
/// ```
#[derive(Debug, Default)]
pub(crate) struct KeyOrder(HashMap<Arc<str>, VecDeque<u64>>);

impl KeyOrder {
    /// Adds a message. True if it is the first of its key, and may go to a handler now.
    pub(crate) fn enter(&mut self, key: &Arc<str>, tag: u64) -> bool {
        match self.0.get_mut(key) {
            Some(behind) => {
                behind.push_back(tag);
                false
            }
            None => {
                self.0.insert(Arc::clone(key), VecDeque::new());
                true
            }
        }
    }

    /// The first message of a key is done. Returns the next one, which may go now.
    pub(crate) fn leave(&mut self, key: &Arc<str>) -> Option<u64> {
        let behind = self.0.get_mut(key)?;
        let next = behind.pop_front();
        if next.is_none() {
            self.0.remove(key);
        }
        next
    }

    /// Takes the waiting messages out that meet a condition. The first message of each key stays: it is at a
    /// handler.
    pub(crate) fn take_waiting(&mut self, meets: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut taken = Vec::new();
        for behind in self.0.values_mut() {
            behind.retain(|tag| {
                let stays = !meets(*tag);
                if !stays {
                    taken.push(*tag);
                }
                stays
            });
        }
        taken
    }
}
