//! Claimed records that wait for a slot, in the order of their claim within each topic.
//!
//! Input: records of a batch that found no slot. Output: each record once, when the caller can send it, or at
//! the end when the caller releases the rest.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::outbox::Record;

/// One queue of records per topic.
///
/// Slots are refused by topic. So if the first record of a topic finds no slot, the records behind it need not
/// ask, and none of them overtakes it.
#[derive(Debug)]
pub(super) struct WaitingRecords<R = Record>(HashMap<Arc<str>, VecDeque<R>>);

impl<R> WaitingRecords<R> {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// Adds a record behind the others of its topic.
    pub(super) fn push(&mut self, topic: Arc<str>, record: R) {
        self.0.entry(topic).or_default().push_back(record);
    }

    /// Offers each topic's records from the front, until `send` returns one because it found no slot.
    pub(super) fn offer(&mut self, mut send: impl FnMut(R) -> Option<R>) {
        self.0.retain(|_, queue| {
            while let Some(record) = queue.pop_front() {
                if let Some(refused) = send(record) {
                    queue.push_front(refused);
                    return true;
                }
            }
            false
        });
    }

    /// Whether records of this topic wait.
    pub(super) fn holds(&self, topic: &str) -> bool {
        self.0.contains_key(topic)
    }

    /// How many records wait.
    pub(super) fn len(&self) -> usize {
        self.0.values().map(VecDeque::len).sum()
    }

    /// Whether no record waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The records that still wait, in order within each topic.
    pub(super) fn into_records(self) -> impl Iterator<Item = R> {
        self.0.into_values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However slots come free, and for which topics.
        #[test]
        fn each_record_leaves_once_and_in_its_topics_order(
            topics in prop::collection::vec(0..4_usize, 0..40),
            slots in prop::collection::vec([0..4_usize, 0..4, 0..4, 0..4], 0..10),
        ) {
            let mut waiting = WaitingRecords::new();
            for (number, topic) in topics.iter().enumerate() {
                waiting.push(topic.to_string().into(), (*topic, number));
            }
            let mut sent = Vec::new();
            for mut free in slots {
                waiting.offer(|(topic, number)| {
                    if free[topic] == 0 {
                        return Some((topic, number));
                    }
                    free[topic] -= 1;
                    sent.push((topic, number));
                    None
                });
                prop_assert_eq!(waiting.len() + sent.len(), topics.len());
                // A topic with free slots has no record left, and a topic with none may have some.
                for (topic, left) in free.iter().enumerate() {
                    prop_assert!(*left == 0 || !waiting.holds(&topic.to_string()));
                }
            }
            sent.extend(waiting.into_records());
            for topic in 0..4 {
                let of_topic = |records: &[(usize, usize)]| -> Vec<usize> {
                    let of_topic = records.iter().filter(|(of, _)| *of == topic);
                    of_topic.map(|(_, number)| *number).collect()
                };
                let all: Vec<_> = topics.iter().copied().zip(0..).collect();
                prop_assert_eq!(of_topic(&sent), of_topic(&all));
            }
        }
    }
}
