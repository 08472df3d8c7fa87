//! One after the other, for messages of one key.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// Who of each key is at work, and who waits behind.
#[derive(Debug, Default)]
pub(crate) struct KeyOrder(HashMap<Arc<str>, VecDeque<u64>>);

impl KeyOrder {
    /// Adds a message. Whether it may go now.
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

    /// Ends the turn of the one at work, and says whose it is now.
    pub(crate) fn leave(&mut self, key: &Arc<str>) -> Option<u64> {
        let behind = self.0.get_mut(key)?;
        let next = behind.pop_front();
        if next.is_none() {
            self.0.remove(key);
        }
        next
    }

    /// Takes out of those who wait behind others whom the function names.
    pub(crate) fn dismiss(&mut self, is_meant: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut dismissed = Vec::new();
        for behind in self.0.values_mut() {
            behind.retain(|tag| {
                let stays = !is_meant(*tag);
                if !stays {
                    dismissed.push(*tag);
                }
                stays
            });
        }
        dismissed
    }
}
