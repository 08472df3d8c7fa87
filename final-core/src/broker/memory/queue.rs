//! The queue of one service.
//!
//! Input: messages that were published, and settlements. State: messages that are ready, messages in
//! flight to a consumer, the consumers, and the dead letters. Output: deliveries into the streams of the
//! consumers.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use tokio::{sync::mpsc, time::Instant};

use crate::{
    Message,
    broker::{Cause, DeadLetter, DeadLetterFilter, Delivery, LetterCursor, Settlement, Settler},
};

/// The messages of one service, and the consumers that take them.
///
/// ```text
///   push ─▶ ready ─ deliver ─▶ in flight ─ Ack ────────▶ (gone)
///            │ ▲ ▲                │   └─ DeadLetter ──▶ dead
///            │ │ └─ Requeue, void ┘                      ▲ │
///            │ └─ replay ────────────────────────────────┼─┘
///            └─ expired ─────────────────────────────────┘
/// ```
pub(super) struct Queue {
    service: Arc<str>,
    capacity: usize,
    /// By position in the order of publishing. A requeued message gets its old position again.
    ready: BTreeMap<u64, Queued>,
    /// When the messages of `ready` that have a time to live expire.
    expiry: BTreeSet<(Instant, u64)>,
    /// By tag. A tag that is not here was settled before, or its delivery is void.
    in_flight: HashMap<u64, HandedOut>,
    consumers: Vec<Consumer>,
    /// The consumer that is asked first for the next message.
    turn: usize,
    dead: VecDeque<Dead>,
    /// The next position, and the next tag. Neither is used twice.
    next: u64,
}

struct Queued {
    message: Message,
    expires: Option<Instant>,
    /// How often it was given back.
    returned: u64,
}

impl Queued {
    /// The message as a handler gets it.
    fn delivered(&self) -> Message {
        let message = self.message.clone();
        if self.returned == 0 {
            return message;
        }
        let mut received = message.received();
        received.redelivered = true;
        received.delivery_count = Some(self.returned);
        message.with_origin(Arc::new(received))
    }
}

struct HandedOut {
    position: u64,
    consumer: u64,
    queued: Queued,
}

struct Dead {
    /// Its place among the dead letters. Later ones have higher numbers.
    number: u64,
    message: Message,
    cause: Cause,
    since: Instant,
}

/// Where deliveries go: the stream of one link.
pub(super) struct Consumer {
    pub(super) id: u64,
    pub(super) sender: mpsc::Sender<Delivery>,
    pub(super) settler: Arc<dyn Settler>,
    /// How many it may have in flight.
    pub(super) prefetch: usize,
    /// How many it has.
    pub(super) in_flight: usize,
}

impl Consumer {
    /// Void deliveries that still lie in its stream take room as well.
    fn has_room(&self) -> bool {
        self.in_flight < self.prefetch && self.sender.capacity() > 0
    }
}

impl Queue {
    pub(super) fn new(service: Arc<str>, capacity: usize) -> Self {
        Self {
            service,
            capacity,
            ready: BTreeMap::new(),
            expiry: BTreeSet::new(),
            in_flight: HashMap::new(),
            consumers: Vec::new(),
            turn: 0,
            dead: VecDeque::new(),
            next: 0,
        }
    }

    /// How many are ready or in flight.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.in_flight.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    pub(super) fn has_consumers(&self) -> bool {
        !self.consumers.is_empty()
    }

    /// The dead letters that the filter means, oldest first.
    pub(super) fn dead(&self, filter: &DeadLetterFilter, now: Instant) -> Vec<DeadLetter> {
        self.dead
            .iter()
            .map(|dead| self.letter(dead, now))
            .filter(|letter| filter.matches(letter))
            .take(at_most(filter))
            .collect()
    }

    /// Makes dead letters ready again, as long as there is room. Returns how many.
    pub(super) fn replay(&mut self, filter: &DeadLetterFilter, now: Instant) -> usize {
        let room = self.capacity.saturating_sub(self.len());
        let replayed = self.take_dead(filter, now, room);
        let count = replayed.len();
        for dead in replayed {
            self.push(dead.message, None);
        }
        count
    }

    /// Deletes dead letters. Returns how many.
    pub(super) fn discard(&mut self, filter: &DeadLetterFilter, now: Instant) -> usize {
        self.take_dead(filter, now, usize::MAX).len()
    }

    /// Takes a message in. The caller has checked that there is room.
    pub(super) fn push(&mut self, message: Message, expires: Option<Instant>) {
        let position = self.number();
        let queued = Queued {
            message,
            expires,
            returned: 0,
        };
        self.put(position, queued);
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

    /// Makes no more deliveries to that consumer. It can still settle what it has in flight.
    #[must_use = "dropping a consumer can settle deliveries, so not here"]
    pub(super) fn detach(&mut self, id: u64) -> Option<Consumer> {
        let at = self.consumers.iter().position(|one| one.id == id)?;
        Some(self.consumers.remove(at))
    }

    /// Takes back what that consumer has in flight; its settlements are void from now on.
    pub(super) fn take_back(&mut self, id: u64) {
        self.take_back_if(|in_flight| in_flight.consumer == id);
    }

    /// Takes back what all consumers have in flight.
    pub(super) fn take_back_all(&mut self) {
        self.take_back_if(|_| true);
    }

    /// Carries out a settlement. Ignored if the delivery is void.
    pub(super) fn settle(&mut self, tag: u64, settlement: Settlement) {
        let Some(HandedOut {
            position,
            consumer,
            queued,
        }) = self.in_flight.remove(&tag)
        else {
            return;
        };
        self.release(consumer);
        match settlement {
            Settlement::Ack | Settlement::Moved => {}
            // It never allows to postpone.
            Settlement::Requeue | Settlement::Postpone(_) | Settlement::Hold(_) => {
                self.put_back(position, queued)
            }
            Settlement::DeadLetter(cause) => self.dead_letter(queued.message, cause),
        }
    }

    /// Delivers what is ready to the consumers that have room, in turns. Never waits for one of them.
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

    /// Puts ready messages whose time to live is over to the dead letters.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(&(expires, position)) = self.expiry.first()
            && expires <= now
        {
            self.expiry.pop_first();
            if let Some(queued) = self.ready.remove(&position) {
                self.dead_letter(queued.message, Cause::new("expired", 0));
            }
        }
    }

    /// The next consumer in turn that has room.
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
        // Only this queue sends here, so there is still room. If the stream was closed meanwhile, the next
        // round removes the consumer.
        let Ok(room) = consumer.sender.try_reserve() else {
            return;
        };
        let Some((position, queued)) = self.ready.pop_first() else {
            return;
        };
        if let Some(expires) = queued.expires {
            self.expiry.remove(&(expires, position));
        }
        let settler = Arc::clone(&consumer.settler);
        let times = u32::try_from(queued.returned + 1).unwrap_or(u32::MAX);
        let delivery = Delivery::new(Ok(queued.delivered()), tag, settler);
        room.send(delivery.delivered(times));
        consumer.in_flight += 1;
        let in_flight = HandedOut {
            position,
            consumer: consumer.id,
            queued,
        };
        self.in_flight.insert(tag, in_flight);
    }

    fn take_back_if(&mut self, chosen: impl Fn(&HandedOut) -> bool) {
        let taken: Vec<_> = self
            .in_flight
            .extract_if(|_, in_flight| chosen(in_flight))
            .collect();
        for (_, in_flight) in taken {
            self.release(in_flight.consumer);
            self.put_back(in_flight.position, in_flight.queued);
        }
    }

    /// That consumer has one less in flight.
    fn release(&mut self, id: u64) {
        if let Some(consumer) = self.consumers.iter_mut().find(|one| one.id == id) {
            consumer.in_flight -= 1;
        }
    }

    fn put_back(&mut self, position: u64, mut queued: Queued) {
        queued.returned += 1;
        self.put(position, queued);
    }

    fn put(&mut self, position: u64, queued: Queued) {
        if let Some(expires) = queued.expires {
            self.expiry.insert((expires, position));
        }
        self.ready.insert(position, queued);
    }

    fn dead_letter(&mut self, message: Message, cause: Cause) {
        if self.dead.len() >= self.capacity.max(1) {
            tracing::warn!(
                target: "final::consume",
                service = &*self.service,
                "the dead letters are full; the oldest was deleted"
            );
            self.dead.pop_front();
        }
        let number = self.number();
        self.dead.push_back(Dead {
            number,
            message,
            cause,
            since: Instant::now(),
        });
    }

    fn letter(&self, dead: &Dead, now: Instant) -> DeadLetter {
        let age = now.saturating_duration_since(dead.since);
        let (message, cause) = (dead.message.clone(), dead.cause.clone());
        let number = i64::try_from(dead.number).unwrap_or(i64::MAX);
        DeadLetter::new(&*self.service, message, cause, age).with_cursor(LetterCursor::own(number))
    }

    /// Takes the oldest dead letters that the filter means out of the queue, `room` at most.
    fn take_dead(&mut self, filter: &DeadLetterFilter, now: Instant, room: usize) -> Vec<Dead> {
        let most = at_most(filter).min(room);
        let mut taken = Vec::new();
        for dead in std::mem::take(&mut self.dead) {
            if taken.len() < most && filter.matches(&self.letter(&dead, now)) {
                taken.push(dead);
            } else {
                self.dead.push_back(dead);
            }
        }
        taken
    }

    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }
}

fn at_most(filter: &DeadLetterFilter) -> usize {
    usize::try_from(filter.at_most()).unwrap_or(usize::MAX)
}
