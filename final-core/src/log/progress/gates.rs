//! Topics that wait as a whole behind a message that is held.
//!
//! Input: held messages of topics whose routes say so, here and at other members; messages that could go to a handler.
//! State: for each such topic what holds it, and the messages that wait. Output: whether a message may go, and the
//! messages that may go once nothing holds their topic.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

/// The topics that can be held as a whole.
///
/// ```text
///   open ── a message is held, here or elsewhere ──▶ closed: messages wait ── the last one is done ──▶ open
/// ```
#[derive(Debug, Default)]
pub(crate) struct Gates(HashMap<Arc<str>, Gate>);

#[derive(Debug, Default)]
struct Gate {
    /// The held messages of this member.
    holders: BTreeSet<i64>,
    /// The held messages of other members, as the table has told last.
    elsewhere: BTreeSet<i64>,
    /// The tags of the messages that wait.
    waiting: VecDeque<u64>,
}

impl Gates {
    pub(crate) fn new(topics: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self(
            topics
                .into_iter()
                .map(|topic| (topic, Gate::default()))
                .collect(),
        )
    }

    /// The topic as it is kept here, if it can be held as a whole.
    pub(crate) fn topic(&self, topic: &str) -> Option<Arc<str>> {
        match self.0.is_empty() {
            true => None,
            false => self
                .0
                .get_key_value(topic)
                .map(|(topic, _)| Arc::clone(topic)),
        }
    }

    /// Whether a message may go to a handler. Otherwise it waits. A message that holds the topic itself may.
    pub(crate) fn pass(&mut self, topic: &str, seq: i64, tag: u64) -> bool {
        let Some(gate) = self.0.get_mut(topic) else {
            return true;
        };
        if gate.is_open() || gate.holders.contains(&seq) {
            return true;
        }
        gate.waiting.push_back(tag);
        false
    }

    /// A message of this member holds a topic.
    pub(crate) fn close(&mut self, topic: &str, seq: i64) {
        if let Some(gate) = self.0.get_mut(topic) {
            gate.holders.insert(seq);
        }
    }

    /// A message of this member is held no longer. Returns the messages that may go now.
    pub(crate) fn open(&mut self, seq: i64) -> Vec<u64> {
        let mut free = Vec::new();
        for gate in self.0.values_mut() {
            if gate.holders.remove(&seq) {
                gate.elsewhere.remove(&seq);
                free.extend(gate.freed());
            }
        }
        free
    }

    /// A message of this member that holds a topic is left to another member. The topic stays closed until the table
    /// tells otherwise.
    pub(crate) fn leave(&mut self, seq: i64) {
        for gate in self.0.values_mut() {
            if gate.holders.remove(&seq) {
                gate.elsewhere.insert(seq);
            }
        }
    }

    /// What other members hold now, by topic. Returns the messages that may go now.
    pub(crate) fn elsewhere(&mut self, held: &[(String, i64)]) -> Vec<u64> {
        let mut free = Vec::new();
        for (topic, gate) in &mut self.0 {
            let of_topic = held.iter().filter(|(of, _)| **of == **topic);
            gate.elsewhere = of_topic.map(|(_, seq)| *seq).collect();
            free.extend(gate.freed());
        }
        free
    }

    /// Whether any topic is held by another member, as far as is known.
    pub(crate) fn is_closed_elsewhere(&self) -> bool {
        self.0.values().any(|gate| !gate.elsewhere.is_empty())
    }

    /// Takes waiting messages out that meet a condition.
    pub(crate) fn take_waiting(&mut self, meets: impl Fn(u64) -> bool) -> HashSet<u64> {
        let mut taken = HashSet::new();
        for gate in self.0.values_mut() {
            gate.waiting.retain(|tag| {
                let stays = !meets(*tag);
                if !stays {
                    taken.insert(*tag);
                }
                stays
            });
        }
        taken
    }
}

impl Gate {
    fn is_open(&self) -> bool {
        self.holders.is_empty() && self.elsewhere.is_empty()
    }

    fn freed(&mut self) -> VecDeque<u64> {
        match self.is_open() {
            true => std::mem::take(&mut self.waiting),
            false => VecDeque::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gates() -> Gates {
        Gates::new([Arc::from("stock")])
    }

    #[test]
    fn a_topic_waits_until_the_last_that_holds_it_is_done() {
        let mut gates = gates();
        gates.close("stock", 3);
        gates.close("stock", 5);

        assert!(!gates.pass("stock", 7, 70) && !gates.pass("stock", 8, 80));
        assert!(gates.pass("stock", 5, 50), "it is tried again");
        assert!(gates.pass("orders", 9, 90), "another topic");
        assert!(gates.open(3).is_empty());
        assert_eq!(gates.open(5), [70, 80]);
        assert!(gates.pass("stock", 10, 100));
    }

    #[test]
    fn a_topic_that_another_member_holds_waits_until_the_table_says_otherwise() {
        let mut gates = gates();
        gates.close("stock", 3);
        gates.leave(3);
        assert!(!gates.pass("stock", 7, 70));
        assert!(gates.is_closed_elsewhere());

        assert!(gates.elsewhere(&[("stock".to_owned(), 3)]).is_empty());
        assert_eq!(gates.elsewhere(&[]), [70]);
        assert!(!gates.is_closed_elsewhere());
    }
}
