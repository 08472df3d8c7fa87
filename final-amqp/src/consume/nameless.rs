//! Ids for messages that came without one.
//!
//! Input: what a delivery looks like, and whether it is redelivered. State: the ids that were made for messages
//! that will come again. Output: an id.
//!
//! RabbitMQ does not tell whether a redelivery is that of one message or of another message with the same
//! bytes. So a first delivery always gets a new id: a handler that drops repeats must not drop a message
//! because another message looks the same. A redelivery gets an id that was made here for a message that
//! looked the same and was not settled. If several messages look the same, any of their ids will do.
//!
//! Another process does not know these ids and makes a new one.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
};

use final_core::MessageId;
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use crate::lock::lock;

/// How many ids are remembered.
const LIMIT: usize = 10_000;
/// How long an ack can be on its way: as long as a dead connection can go unnoticed.
const ON_ITS_WAY: Duration = Duration::from_secs(30);

/// The ids of messages that will be delivered again, by what the message looks like.
#[derive(Debug, Default)]
pub(super) struct Nameless(Mutex<MadeIds>);

#[derive(Debug, Default)]
struct MadeIds {
    /// The newest last.
    ids: HashMap<Uuid, Vec<MessageId>>,
    /// The oldest first. Ids that were taken again are still listed.
    order: VecDeque<(Uuid, MessageId)>,
}

impl Nameless {
    /// The id of a delivery.
    pub(super) fn id(&self, looks: Uuid, redelivered: bool) -> MessageId {
        if !redelivered {
            return MessageId::new();
        }
        let mut given = lock(&self.0);
        given.take(looks).unwrap_or_else(MessageId::new)
    }

    fn requeue(&self, looks: Uuid, id: MessageId) {
        let mut given = lock(&self.0);
        given.ids.entry(looks).or_default().push(id);
        given.order.push_back((looks, id));
        while given.order.len() > LIMIT
            && let Some((looks, id)) = given.order.pop_front()
        {
            given.forget(looks, id);
        }
    }
}

impl MadeIds {
    fn take(&mut self, looks: Uuid) -> Option<MessageId> {
        let ids = self.ids.get_mut(&looks)?;
        let id = ids.pop();
        if ids.is_empty() {
            self.ids.remove(&looks);
        }
        id
    }

    fn forget(&mut self, looks: Uuid, id: MessageId) {
        if let Some(ids) = self.ids.get_mut(&looks) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.ids.remove(&looks);
            }
        }
    }
}

/// The ids of one channel's deliveries in flight, and of those that it acked a moment ago.
#[derive(Debug, Default)]
pub(super) struct IdsInFlight {
    ids: HashMap<u64, (Uuid, MessageId)>,
    acked: VecDeque<(Instant, Uuid, MessageId)>,
}

impl IdsInFlight {
    pub(super) fn take(&mut self, tag: u64, looks: Uuid, id: MessageId) {
        self.ids.insert(tag, (looks, id));
    }

    /// The delivery is acked now.
    pub(super) fn finish(&mut self, tag: u64) {
        // Most producers give ids.
        if self.ids.is_empty() {
            return;
        }
        let Some((looks, id)) = self.ids.remove(&tag) else {
            return;
        };
        let now = Instant::now();
        self.acked.push_back((now, looks, id));
        while self.acked.len() > LIMIT
            || self
                .acked
                .front()
                .is_some_and(|(at, ..)| now.duration_since(*at) > ON_ITS_WAY)
        {
            self.acked.pop_front();
        }
    }

    /// The delivery is requeued now.
    pub(super) fn requeue(&mut self, nameless: &Nameless, tag: u64) {
        if let Some((looks, id)) = self.ids.remove(&tag) {
            nameless.requeue(looks, id);
        }
    }

    /// The channel ends. If the channel was lost, what was acked last may come again as well. The deliveries in
    /// flight surely come again, so their ids are noted last and taken first.
    pub(super) fn end(&mut self, nameless: &Nameless, was_lost: bool) {
        let now = Instant::now();
        for (at, looks, id) in self.acked.drain(..) {
            if was_lost && now.duration_since(at) <= ON_ITS_WAY {
                nameless.requeue(looks, id);
            }
        }
        for (_, (looks, id)) in self.ids.drain() {
            nameless.requeue(looks, id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const LOOKS: Uuid = Uuid::from_u128(1);

    #[test]
    fn equal_messages_have_ids_of_their_own_and_keep_them_when_they_come_again() {
        let nameless = Nameless::default();
        let mut held = IdsInFlight::default();
        let first: BTreeSet<_> = (0..3).map(|_| nameless.id(LOOKS, false)).collect();
        for (tag, id) in (0..).zip(&first) {
            held.take(tag, LOOKS, *id);
        }
        assert_eq!(first.len(), 3);

        held.requeue(&nameless, 1);
        held.end(&nameless, true);
        // A redelivery of a message that this process has not seen comes in between.
        let other = nameless.id(LOOKS, false);
        let again: BTreeSet<_> = (0..3).map(|_| nameless.id(LOOKS, true)).collect();

        assert_eq!(again, first);
        assert!(!first.contains(&other));
        assert!(!first.contains(&nameless.id(LOOKS, true)));
    }

    #[test]
    fn what_is_in_flight_has_its_id_again_before_what_was_acked() {
        let nameless = Nameless::default();
        let mut held = IdsInFlight::default();
        let (acked, in_flight) = (nameless.id(LOOKS, false), nameless.id(LOOKS, false));
        held.take(1, LOOKS, acked);
        held.take(2, LOOKS, in_flight);
        held.finish(1);

        held.end(&nameless, true);

        assert_eq!(nameless.id(LOOKS, true), in_flight);
        assert_eq!(nameless.id(LOOKS, true), acked);
    }

    #[test]
    fn what_was_acked_on_a_channel_that_ended_in_order_is_forgotten() {
        let nameless = Nameless::default();
        let mut held = IdsInFlight::default();
        let acked = nameless.id(LOOKS, false);
        held.take(1, LOOKS, acked);
        held.finish(1);

        held.end(&nameless, false);

        assert_ne!(nameless.id(LOOKS, true), acked);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let nameless = Nameless::default();
        for n in 0..2 * LIMIT as u128 {
            nameless.requeue(Uuid::from_u128(n), MessageId::new());
        }
        let given = nameless.0.lock().unwrap();
        assert_eq!((given.ids.len(), given.order.len()), (LIMIT, LIMIT));
    }
}
