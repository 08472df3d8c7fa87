//! Which keys wait behind a message that the target has refused.
//!
//! Input: keys of messages, entries of the store. State: the keys, with how many messages each has parked. Output:
//! whether a message has to wait. A message without a key waits behind none.

use std::{collections::HashMap, sync::Arc};

use super::{Content, TopicKey};
use crate::position::{PER_SAVE, ParkedChange, ParkedHead, PositionError, PositionStore};

/// How many entries are read at a time.
const PAGE: u32 = 1_000;

/// Keys that are parked.
#[derive(Debug, Default)]
pub(crate) struct ParkedKeys {
    keys: HashMap<TopicKey, u64>,
    /// All parked messages, those without a key included.
    count: u64,
}

impl ParkedKeys {
    /// Reads them from the store.
    pub(crate) async fn load(store: &dyn PositionStore, name: &str) -> Result<Self, PositionError> {
        let mut all = Self::default();
        let mut after = -1;
        loop {
            let page = store.parked(name, false, after, PAGE).await?;
            for head in &page {
                all.add(&head.topic, head.key.as_ref());
                after = head.id;
            }
            if page.len() < PAGE as usize {
                return Ok(all);
            }
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Whether the message has to wait.
    pub(crate) fn holds(&self, content: &Content) -> bool {
        !self.keys.is_empty()
            && content
                .topic_key()
                .is_some_and(|key| self.keys.contains_key(&key))
    }

    pub(crate) fn add(&mut self, topic: &Arc<str>, key: Option<&Arc<str>>) {
        self.count += 1;
        if let Some(key) = key {
            let key = (Arc::clone(topic), Arc::clone(key));
            *self.keys.entry(key).or_default() += 1;
        }
    }

    pub(crate) fn remove(&mut self, head: &ParkedHead) {
        self.count = self.count.saturating_sub(1);
        if let Some(key) = &head.key {
            let key = (Arc::clone(&head.topic), Arc::clone(key));
            if let Some(left) = self.keys.get_mut(&key) {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    self.keys.remove(&key);
                }
            }
        }
    }
}

/// What is stored of a message that cannot be delivered now. The numbers of a save are higher than those of all saves
/// before, so entries keep their order.
pub(crate) fn entry(
    content: &Content,
    reason: Option<String>,
    position: String,
    number: i64,
    place: usize,
) -> ParkedChange {
    let place = i64::try_from(place)
        .unwrap_or(PER_SAVE - 1)
        .min(PER_SAVE - 1);
    let (message, reason) = match content {
        Content::Message(message) => (Some(message.clone()), reason),
        Content::Unwritable { why, .. } => (None, Some(why.clone())),
    };
    ParkedChange {
        id: number.saturating_mul(PER_SAVE) + place,
        topic: content.topic().into(),
        key: content.key().map(Into::into),
        message,
        reason,
        position,
    }
}
