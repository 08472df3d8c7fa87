//! From RabbitMQ to the bus.
//!
//! Input: what the consumer has read. Output: a [`Delivery`] for each message, noted as in flight; one that came again
//! is tied to the earlier delivery of its message, if this process still has that.

use std::sync::Arc;

use bytes::Bytes;
use final_core::{MessageId, broker::Delivery};
use tokio::{sync::mpsc, time::Instant};
use uuid::Uuid;

use super::{ConsumingChannel, MANY, flight::InFlight};
use crate::{
    consume::{order::ChannelSettler, orphans::Likeness},
    properties::{Original, decode, fingerprint},
};

impl ConsumingChannel {
    /// Takes a delivery, and the others that have arrived with it. The bus is woken once for all of them: under load
    /// they arrive together, and each wakeup of another thread costs.
    pub(super) fn take<'a>(
        &mut self,
        delivery: lapin::message::Delivery,
        permit: mpsc::Permit<'a, Delivery>,
        taking: Option<&'a mpsc::Sender<Delivery>>,
    ) -> Result<(), String> {
        let mut came = vec![(permit, self.arrive(delivery))];
        let mut outcome = Ok(());
        while came.len() < MANY
            && let Some(Ok(permit)) = taking.map(mpsc::Sender::try_reserve)
            && let Some(next) = self.feed.ready()
        {
            match next {
                Ok(delivery) => came.push((permit, self.arrive(delivery))),
                Err(why) => {
                    outcome = Err(why);
                    break;
                }
            }
        }
        for (permit, delivery) in came {
            permit.send(delivery);
        }
        outcome
    }

    /// Makes a delivery for the bus, and notes it as in flight.
    pub(super) fn arrive(&mut self, delivery: lapin::message::Delivery) -> Delivery {
        let intake = &self.intake;
        let tag = delivery.delivery_tag;
        let topics = &intake.topology.topics;
        let original = Arc::new(Original::new(
            delivery.properties,
            delivery.exchange,
            delivery.routing_key,
            delivery.redelivered,
            Bytes::from(delivery.data),
            topics,
        ));
        let mut name = None;
        let content = decode(&original, topics).map(|message| {
            if message.is_identified() {
                name = Some(message.id().0);
                return message;
            }
            let looks = fingerprint(&original);
            name = Some(looks);
            let id = intake.nameless.id(looks, original.redelivered);
            self.nameless.take(tag, looks, id);
            message.with_id_of_ours(id)
        });
        let id = content.as_ref().ok();
        let id = id.map(|message| (message.id(), message.is_identified()));
        let is_suspect =
            original.redelivered && name.is_some_and(|name| !intake.given_back.take(name));
        self.acks.delivered(tag);
        let settler = Arc::<ChannelSettler>::clone(&self.settler);
        let mut delivery = Delivery::new(content, tag, settler)
            .suspected(is_suspect)
            .delivered(original.times());
        if original.redelivered
            && let Some(id) = id
        {
            delivery = self.find_earlier(delivery, tag, &original, id, name);
        }
        self.intake.siblings.delivered(name);
        let now = Instant::now();
        self.flight.add(tag, InFlight::new(original, id, name, now));
        self.window.delivered(is_suspect, now);
        delivery
    }

    /// Looks for an earlier delivery of a message that comes again.
    fn find_earlier(
        &mut self,
        delivery: Delivery,
        tag: u64,
        original: &Original,
        id: (MessageId, bool),
        name: Option<Uuid>,
    ) -> Delivery {
        let orphans = &self.intake.orphans;
        if !orphans.is_empty()
            && let Some((awaits, settlement)) = orphans.find(likeness(original, id))
        {
            self.flight.follows(tag, awaits);
            return delivery.after(settlement);
        }
        // The channel of the earlier one may have ended, and this process does not know it yet.
        if self.intake.siblings.have(name) {
            let (awaits, settlement) = orphans.expect(likeness(original, id));
            self.flight.follows(tag, awaits);
            return delivery.after(settlement);
        }
        delivery
    }
}

/// What tells a delivery's message from others.
pub(super) fn likeness(original: &Original, (id, identified): (MessageId, bool)) -> Likeness {
    Likeness {
        looks: fingerprint(original),
        // An id that was made here can be another one when its message comes again before its channel is known to have
        // ended. Messages without an id that look the same are the same to everybody.
        id: if identified {
            id
        } else {
            MessageId(Uuid::nil())
        },
        identified,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original(payload: &str) -> Original {
        Original::for_test(
            Default::default(),
            "order.placed",
            payload.to_owned().into(),
        )
    }

    /// Each process, and each arrival, may give such a message another id.
    #[test]
    fn nameless_messages_are_alike_if_they_look_the_same_whatever_ids_they_got_here() {
        let nameless = |payload: &str| likeness(&original(payload), (MessageId::new(), false));

        assert_eq!(nameless("7"), nameless("7"));
        assert_ne!(nameless("7"), nameless("8"));
    }

    #[test]
    fn messages_with_ids_are_alike_only_if_their_ids_are_the_same() {
        let (id, other) = (MessageId::new(), MessageId::new());
        let named = |id| likeness(&original("7"), (id, true));

        assert_eq!(named(id), named(id));
        assert_ne!(named(id), named(other));
        assert_ne!(named(id), likeness(&original("7"), (id, false)));
    }
}
