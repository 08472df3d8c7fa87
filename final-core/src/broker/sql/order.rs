//! One after the other, for messages of one key.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// Who of each key is at work, and who waits behind.
#[derive(Debug, Default)]
pub(super) struct Order(HashMap<Arc<str>, VecDeque<u64>>);

impl Order {
    /// Adds a message. Whether it may go now.
    pub(super) fn enter(&mut self, key: &Arc<str>, tag: u64) -> bool {
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
    pub(super) fn leave(&mut self, key: &Arc<str>) -> Option<u64> {
        let behind = self.0.get_mut(key)?;
        let next = behind.pop_front();
        if next.is_none() {
            self.0.remove(key);
        }
        next
    }

    /// Forgets a key, with all who wait.
    pub(super) fn forget(&mut self, key: &str) {
        self.0.remove(key);
    }
}
