//! The queue of one service: what is ready, what is in hand, who takes, and what was put away.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use tokio::{sync::mpsc, time::Instant};

use super::DeadMessage;
use crate::{
    Message,
    broker::{DeadLetter, Delivery, Settlement, Settler},
};

/// What waits for one service, and who takes it.
///
/// ```text
///   push ─▶ ready ─ deliver ─▶ in hand ─ Ack ────────▶ (gone)
///            │  ▲                 │  └─ DeadLetter ──▶ dead
///            │  └─ Requeue, void ─┘                     ▲
///            └─ expired ────────────────────────────────┘
/// ```
pub(super) struct Queue {
    service: Arc<str>,
    capacity: usize,
    /// By their place in the order of publishing. What is handed back gets its old place again.
    ready: BTreeMap<u64, Held>,
    /// When those of `ready` that have a time to live are over it.
    expiry: BTreeSet<(Instant, u64)>,
    /// By tag. A tag that is not here was settled before, or its delivery is void.
    in_hand: HashMap<u64, InHand>,
    consumers: Vec<Consumer>,
    /// Who is asked first for the next message.
    turn: usize,
    dead: VecDeque<DeadMessage>,
    /// The next place, and the next tag. Neither is used twice.
    next: u64,
}

struct Held {
    message: Message,
    expires: Option<Instant>,
}

struct InHand {
    place: u64,
    consumer: u64,
    held: Held,
}

/// Where deliveries go: the stream of one link.
pub(super) struct Consumer {
    pub(super) id: u64,
    pub(super) sender: mpsc::Sender<Delivery>,
    pub(super) settler: Arc<dyn Settler>,
    /// How many it may have in hand.
    pub(super) prefetch: usize,
    /// How many it has.
    pub(super) in_hand: usize,
}

impl Consumer {
    /// Void deliveries that still lie in its stream take room as well.
    fn has_room(&self) -> bool {
        self.in_hand < self.prefetch && self.sender.capacity() > 0
    }
}

impl Queue {
    pub(super) fn new(service: Arc<str>, capacity: usize) -> Self {
        Self {
            service,
            capacity,
            ready: BTreeMap::new(),
            expiry: BTreeSet::new(),
            in_hand: HashMap::new(),
            consumers: Vec::new(),
            turn: 0,
            dead: VecDeque::new(),
            next: 0,
        }
    }

    /// How many are ready or in hand.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.in_hand.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    pub(super) fn has_consumers(&self) -> bool {
        !self.consumers.is_empty()
    }

    pub(super) fn dead(&self) -> impl Iterator<Item = &DeadMessage> {
        self.dead.iter()
    }

    /// Takes a message in. Whether there is room is asked before.
    pub(super) fn push(&mut self, message: Message, expires: Option<Instant>) {
        let place = self.number();
        self.put(place, Held { message, expires });
    }

    /// Empties it, dead letters included.
    pub(super) fn purge(&mut self) {
        self.ready.clear();
        self.expiry.clear();
        self.dead.clear();
    }

    pub(super) fn attach(&mut self, consumer: Consumer) {
        self.consumers.push(consumer);
    }

    /// Delivers no more to that consumer. What it has in hand it can still settle.
    #[must_use = "dropping a consumer can settle deliveries, so not here"]
    pub(super) fn detach(&mut self, id: u64) -> Option<Consumer> {
        let at = self.consumers.iter().position(|one| one.id == id)?;
        Some(self.consumers.remove(at))
    }

    /// Takes back what that consumer has in hand; its settlements are void from now on.
    pub(super) fn take_back(&mut self, id: u64) {
        self.take_back_if(|in_hand| in_hand.consumer == id);
    }

    /// Takes back what anybody has in hand.
    pub(super) fn take_back_all(&mut self) {
        self.take_back_if(|_| true);
    }

    /// Does with a delivery what its settlement says. A void one is ignored.
    pub(super) fn settle(&mut self, tag: u64, settlement: Settlement) {
        let Some(InHand {
            place,
            consumer,
            held,
        }) = self.in_hand.remove(&tag)
        else {
            return;
        };
        self.release(consumer);
        match settlement {
            Settlement::Ack => {}
            Settlement::Requeue => self.put(place, held),
            Settlement::DeadLetter(why) => self.bury(held.message, why),
        }
    }

    /// Hands out what is ready to those that have room, in turns. Never waits for any of them.
    ///
    /// Returns the consumers whose stream is gone.
    #[must_use = "dropping a consumer can settle deliveries, so not here"]
    pub(super) fn deliver(&mut self, now: Instant) -> Vec<Consumer> {
        self.expire(now);
        let mut gone = Vec::new();
        while !self.ready.is_empty()
            && let Some(at) = self.next_with_room(&mut gone)
        {
            self.deliver_to(at);
        }
        gone
    }

    /// Puts away what is over its time to live.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(&(expires, place)) = self.expiry.first()
            && expires <= now
        {
            self.expiry.pop_first();
            if let Some(held) = self.ready.remove(&place) {
                self.bury(held.message, DeadLetter::new("expired", 0));
            }
        }
    }

    /// Whose turn it is among those with room.
    fn next_with_room(&mut self, gone: &mut Vec<Consumer>) -> Option<usize> {
        let mut asked = 0;
        while asked < self.consumers.len() {
            let at = self.turn % self.consumers.len();
            let consumer = &self.consumers[at];
            if consumer.sender.is_closed() {
                gone.push(self.consumers.remove(at));
                continue;
            }
            self.turn = at + 1;
            if consumer.has_room() {
                return Some(at);
            }
            asked += 1;
        }
        None
    }

    fn deliver_to(&mut self, at: usize) {
        let tag = self.number();
        let consumer = &mut self.consumers[at];
        // Nobody else sends, so there is room still. Closed since: the next round removes it.
        let Ok(room) = consumer.sender.try_reserve() else {
            return;
        };
        let Some((place, held)) = self.ready.pop_first() else {
            return;
        };
        if let Some(expires) = held.expires {
            self.expiry.remove(&(expires, place));
        }
        let settler = Arc::clone(&consumer.settler);
        room.send(Delivery::new(Ok(held.message.clone()), tag, settler));
        consumer.in_hand += 1;
        let in_hand = InHand {
            place,
            consumer: consumer.id,
            held,
        };
        self.in_hand.insert(tag, in_hand);
    }

    fn take_back_if(&mut self, chosen: impl Fn(&InHand) -> bool) {
        let taken: Vec<_> = self
            .in_hand
            .extract_if(|_, in_hand| chosen(in_hand))
            .collect();
        for (_, in_hand) in taken {
            self.release(in_hand.consumer);
            self.put(in_hand.place, in_hand.held);
        }
    }

    /// One less in that consumer's hands.
    fn release(&mut self, id: u64) {
        if let Some(consumer) = self.consumers.iter_mut().find(|one| one.id == id) {
            consumer.in_hand -= 1;
        }
    }

    fn put(&mut self, place: u64, held: Held) {
        if let Some(expires) = held.expires {
            self.expiry.insert((expires, place));
        }
        self.ready.insert(place, held);
    }

    fn bury(&mut self, message: Message, why: DeadLetter) {
        if self.dead.len() >= self.capacity.max(1) {
            tracing::warn!(
                target: "final::consume",
                service = &*self.service,
                "the dead letters are full; the oldest is forgotten"
            );
            self.dead.pop_front();
        }
        self.dead.push_back(DeadMessage {
            message,
            reason: why.reason,
            attempts: why.attempts,
            service: Arc::clone(&self.service),
        });
    }

    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }
}
