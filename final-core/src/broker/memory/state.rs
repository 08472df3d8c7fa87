//! What the clones of an in-process broker share.
//!
//! Input: one step at a time: a message, a settlement, or a change of a link. State: queues, bindings, links,
//! and whether the broker is available or blocked. Output: changed queues, and things that are laid aside to be
//! dropped outside the lock.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use super::queue::{Consumer, Queue};
use crate::{
    Message,
    broker::{Confirm, DeadLetter, DeadLetterFilter, LinkState, Outgoing, Settlement},
};

/// Everything the broker knows. Each method is one step, taken under the [hub](super::hub::Hub)'s
/// lock.
pub(super) struct BrokerState {
    capacity: usize,
    available: bool,
    blocked: bool,
    /// One per service that ever had topics. They stay, like durable queues.
    queues: Vec<Queue>,
    by_service: HashMap<Arc<str>, usize>,
    bindings: HashMap<Arc<str>, Vec<usize>>,
    links: HashMap<u64, LinkEntry>,
    next_link: u64,
    aside: Aside,
}

struct LinkEntry {
    state: watch::Sender<LinkState>,
    /// What was sent while blocked, at most `window`.
    parked: Vec<Outgoing>,
    window: usize,
}

/// Deliveries and messages that may only be dropped outside the lock.
#[derive(Default)]
pub(super) struct Aside {
    consumers: Vec<Consumer>,
    outgoing: Vec<Outgoing>,
}

impl BrokerState {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            available: true,
            blocked: false,
            queues: Vec::new(),
            by_service: HashMap::new(),
            bindings: HashMap::new(),
            links: HashMap::new(),
            next_link: 0,
            aside: Aside::default(),
        }
    }

    /// Takes the things that were laid aside, to be dropped outside the lock.
    #[must_use = "dropped at once it would be dropped inside the lock"]
    pub(super) fn aside(&mut self) -> Aside {
        std::mem::take(&mut self.aside)
    }

    pub(super) fn is_available(&self) -> bool {
        self.available
    }

    /// The queue of a service, if it ever subscribed to anything.
    pub(super) fn queue(&mut self, service: &str) -> Option<&mut Queue> {
        let at = *self.by_service.get(service)?;
        self.queues.get_mut(at)
    }

    pub(super) fn len(&mut self, service: &str) -> usize {
        let now = Instant::now();
        self.queue(service).map_or(0, |queue| {
            queue.expire(now);
            queue.len()
        })
    }

    pub(super) fn dead(&mut self, service: &str, filter: &DeadLetterFilter) -> Vec<DeadLetter> {
        let now = Instant::now();
        self.queue(service).map_or_else(Vec::new, |queue| {
            queue.expire(now);
            queue.dead(filter, now)
        })
    }

    /// Gives dead letters back to their service. Returns how many.
    pub(super) fn replay(&mut self, service: &str, filter: &DeadLetterFilter) -> usize {
        let Some(&at) = self.by_service.get(service) else {
            return 0;
        };
        let now = Instant::now();
        self.queues[at].expire(now);
        let replayed = self.queues[at].replay(filter, now);
        self.deliver(at);
        replayed
    }

    /// Deletes dead letters. Returns how many.
    pub(super) fn discard(&mut self, service: &str, filter: &DeadLetterFilter) -> usize {
        let now = Instant::now();
        self.queue(service).map_or(0, |queue| {
            queue.expire(now);
            queue.discard(filter, now)
        })
    }

    /// Adds a link, and says its number.
    pub(super) fn connect(&mut self, window: usize) -> (u64, watch::Sender<LinkState>) {
        let number = self.next_link;
        self.next_link += 1;
        let state = watch::Sender::new(self.weather());
        let entry = LinkEntry {
            state: state.clone(),
            parked: Vec::new(),
            window,
        };
        self.links.insert(number, entry);
        (number, state)
    }

    /// Removes a link, with its consumer. Once is enough; more does no harm.
    pub(super) fn disconnect(&mut self, link: u64, queue: Option<usize>) {
        if let Some(entry) = self.links.remove(&link) {
            entry.state.send_replace(LinkState::Closed);
            self.aside.outgoing.extend(entry.parked);
        }
        self.stop_consuming(link, queue);
        self.take_back(link, queue);
    }

    /// Adds a consumer to a queue, and gives it what is ready.
    pub(super) fn attach(&mut self, queue: usize, consumer: Consumer) {
        self.queues[queue].attach(consumer);
        self.deliver(queue);
    }

    /// Ends a link's stream. Deliveries in flight can still be settled.
    pub(super) fn stop_consuming(&mut self, link: u64, queue: Option<usize>) {
        if let Some(queue) = queue {
            self.aside.consumers.extend(self.queues[queue].detach(link));
        }
    }

    /// Takes back what a link has in flight, and delivers it to others.
    pub(super) fn take_back(&mut self, link: u64, queue: Option<usize>) {
        if let Some(queue) = queue {
            self.queues[queue].take_back(link);
            self.deliver(queue);
        }
    }

    /// Returns a message that can be published now; keeps one that must wait for the alarm to end.
    pub(super) fn admit(&mut self, link: u64, outgoing: Outgoing) -> Option<Outgoing> {
        if self.weather() != LinkState::Blocked {
            return Some(outgoing);
        }
        match self.links.get_mut(&link) {
            Some(entry) if entry.parked.len() < entry.window => {
                entry.parked.push(outgoing);
                None
            }
            _ => Some(outgoing),
        }
    }

    /// Puts a message into every queue bound to its topic, or into none.
    ///
    /// One full queue refuses the message for all. RabbitMQ gives it to the other queues, and again each
    /// time the publisher sends it anew after the nack.
    pub(super) fn publish(
        &mut self,
        link: u64,
        message: &Message,
        expires_in: Option<Duration>,
    ) -> Confirm {
        if self.weather() != LinkState::Ready || !self.links.contains_key(&link) {
            return Confirm::Lost;
        }
        let Some(bound) = self.bindings.get(message.topic()) else {
            return Confirm::Unroutable;
        };
        let now = Instant::now();
        let expires = expires_in.and_then(|left| now.checked_add(left));
        for &queue in bound {
            let queue = &mut self.queues[queue];
            queue.expire(now);
            if queue.is_full() {
                return Confirm::Refused;
            }
        }
        for &queue in bound {
            let queue = &mut self.queues[queue];
            queue.push(message.clone(), expires);
            self.aside.consumers.extend(queue.deliver(now));
        }
        Confirm::Stored
    }

    /// Makes the broker reachable or unreachable. An unreachable one takes back everything in flight.
    pub(super) fn set_available(&mut self, available: bool) {
        self.available = available;
        if available {
            for queue in 0..self.queues.len() {
                self.deliver(queue);
            }
        } else {
            self.queues.iter_mut().for_each(Queue::take_back_all);
            for entry in self.links.values_mut() {
                self.aside.outgoing.append(&mut entry.parked);
            }
        }
        self.announce();
    }

    /// Raises or ends the alarm. Returns what was sent meanwhile, each with the link it came by.
    pub(super) fn set_blocked(&mut self, blocked: bool) -> Vec<(u64, Outgoing)> {
        self.blocked = blocked;
        self.announce();
        if blocked {
            return Vec::new();
        }
        self.links
            .iter_mut()
            .flat_map(|(link, entry)| entry.parked.drain(..).map(|outgoing| (*link, outgoing)))
            .collect()
    }

    /// The service's queue, made on first use and bound to those topics from now on.
    pub(super) fn declare(&mut self, service: &Arc<str>, topics: &[Arc<str>]) -> usize {
        let queue = *self
            .by_service
            .entry(Arc::clone(service))
            .or_insert_with(|| {
                self.queues
                    .push(Queue::new(Arc::clone(service), self.capacity));
                self.queues.len() - 1
            });
        for topic in topics {
            let bound = self.bindings.entry(Arc::clone(topic)).or_default();
            if !bound.contains(&queue) {
                bound.push(queue);
            }
        }
        queue
    }

    pub(super) fn settle(&mut self, queue: usize, tag: u64, settlement: Settlement) {
        self.queues[queue].settle(tag, settlement);
        self.deliver(queue);
    }

    fn deliver(&mut self, queue: usize) {
        if self.available {
            let gone = self.queues[queue].deliver(Instant::now());
            self.aside.consumers.extend(gone);
        }
    }

    /// How every open link stands.
    fn weather(&self) -> LinkState {
        match (self.available, self.blocked) {
            (false, _) => LinkState::Away,
            (true, true) => LinkState::Blocked,
            (true, false) => LinkState::Ready,
        }
    }

    fn announce(&self) {
        let weather = self.weather();
        for entry in self.links.values() {
            entry.state.send_if_modified(|state| {
                let changed = *state != weather;
                *state = weather;
                changed
            });
        }
    }
}
