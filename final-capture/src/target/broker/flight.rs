//! How many messages the link has, and which of them wait for a place.
//!
//! Input: messages that may be sent, and those that were answered. State: for each topic how many are in flight, and the
//! numbers of those that wait. Output: which message may be sent next, the oldest first.
//!
//! A topic has three quarters of the places at most. A queue that confirms nothing for a while, as one that has lost its majority,
//! so leaves room for the other topics.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// How many messages are in flight at most. For each confirm of several messages lapin looks at all that are
/// unconfirmed on the channel, so that more of them cost more than they gain.
pub(super) const IN_FLIGHT: usize = 1_000;

/// How many of them may be of one topic.
pub(super) const OF_A_TOPIC: usize = IN_FLIGHT / 4 * 3;

#[derive(Debug, Default)]
pub(super) struct Flight {
    in_flight: usize,
    topics: HashMap<Arc<str>, Places>,
}

/// What is known of a topic. It is forgotten once it has none.
#[derive(Debug, Default)]
struct Places {
    in_flight: usize,
    waiting: BTreeSet<u64>,
}

impl Flight {
    /// Takes a place for a message. If there is none, the message waits, and [`next`](Self::next) gives it out.
    pub(super) fn enter(&mut self, topic: &Arc<str>, number: u64) -> bool {
        let is_full = self.in_flight >= IN_FLIGHT;
        let places = self.topics.entry(Arc::clone(topic)).or_default();
        if is_full || places.in_flight >= OF_A_TOPIC {
            places.waiting.insert(number);
            return false;
        }
        places.in_flight += 1;
        self.in_flight += 1;
        true
    }

    /// A message was answered.
    pub(super) fn leave(&mut self, topic: &Arc<str>) {
        let Some(places) = self.topics.get_mut(topic) else {
            return;
        };
        places.in_flight = places.in_flight.saturating_sub(1);
        self.in_flight = self.in_flight.saturating_sub(1);
        if places.in_flight == 0 && places.waiting.is_empty() {
            self.topics.remove(topic);
        }
    }

    /// The oldest message that waits and would have a place now. It does not wait any more.
    pub(super) fn next(&mut self) -> Option<u64> {
        if self.in_flight >= IN_FLIGHT {
            return None;
        }
        let with_room = self.topics.values_mut();
        let with_room = with_room.filter(|places| places.in_flight < OF_A_TOPIC);
        let oldest =
            with_room.min_by_key(|places| places.waiting.first().copied().unwrap_or(u64::MAX));
        oldest?.waiting.pop_first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> Arc<str> {
        name.into()
    }

    #[test]
    fn a_topic_has_its_share_of_the_places_and_the_others_have_the_rest() {
        let (stuck, well) = (topic("stuck"), topic("well"));
        let mut flight = Flight::default();
        let sent = (0..2_000).filter(|number| flight.enter(&stuck, *number));
        assert_eq!(sent.count(), OF_A_TOPIC);
        assert!(flight.enter(&well, 2_000));
        flight.leave(&well);
        assert_eq!(flight.next(), None, "the topic has its places");
    }

    #[test]
    fn the_oldest_of_all_that_have_a_place_is_next() {
        let topics = [topic("a"), topic("b"), topic("c")];
        let mut flight = Flight::default();
        for number in 0..IN_FLIGHT as u64 {
            let topic = usize::from(number % 4 > 0);
            assert!(flight.enter(&topics[topic], number));
        }
        assert!(!flight.enter(&topics[2], 3_000));
        assert!(!flight.enter(&topics[1], 2_000));
        assert!(!flight.enter(&topics[1], 1_000));
        assert_eq!(flight.next(), None);

        flight.leave(&topics[1]);
        assert_eq!(flight.next(), Some(1_000));
        assert!(flight.enter(&topics[1], 1_000));
        flight.leave(&topics[0]);
        assert_eq!(flight.next(), Some(3_000), "b has its places");
    }

    #[test]
    fn a_topic_without_messages_is_forgotten() {
        let mut flight = Flight::default();
        assert!(flight.enter(&topic("a"), 1));
        flight.leave(&topic("a"));
        assert!(flight.topics.is_empty());
        assert_eq!(flight.in_flight, 0);
    }
}
