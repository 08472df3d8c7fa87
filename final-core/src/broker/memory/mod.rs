//! The in-process broker: real routing, no network.
//!
//! Input: links of buses, and the switches of a test. State: queues, bindings and links, shared by all clones.
//! Output: confirms, deliveries and dead letters.
//!
//! [`MemoryBroker`] is the face; `hub` is the lock around the state; `state` has the queues, bindings and
//! links; `queue` is the queue of one service; `link` is what a bus holds.

mod hub;
mod link;
mod queue;
mod state;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use tokio::sync::mpsc;

use self::{hub::Hub, link::MemoryLink};
use super::{
    Broker, BrokerError, BrokerErrorKind, DeadLetter, DeadLetterFilter, DeadLetters, Opened, Setup,
};
use crate::Error;

/// How many messages a queue holds unless told otherwise.
///
/// A gigabyte of messages of 1 KiB: enough for any test, and an end all the same.
const CAPACITY: usize = 1_000_000;

/// How many deliveries one subscriber buffers, as for RabbitMQ.
const PREFETCH: usize = 300;

/// The most a link has in flight, and RabbitMQ's own limit.
const MAX_PREFETCH: usize = 65_535;

/// A broker inside this process, for tests and first steps.
///
/// It keeps RabbitMQ's promises for as long as the process lives, and none beyond. Each service has a
/// queue, which stays when its subscribers leave. Every subscribed service gets each message once, on
/// one of its instances. A message that is not settled is delivered again. A message that no service
/// subscribes is unroutable, and waits in the outbox. Dead letters are kept, expired messages among
/// them; they are listed, replayed and discarded by [`DeadLetters`].
///
/// Clones are the same broker. Give one to each [`Bus`](crate::Bus) that is to talk to the others.
///
/// ```
/// use final_core::MemoryBroker;
///
/// let broker = MemoryBroker::new();
/// // … let orders = Bus::new("orders", pool, broker.clone());
/// // … let mails = Bus::new("mails", pool, broker.clone());
///
/// // In a test, when the handlers have done their work:
/// assert_eq!(broker.queue_len("mails"), 0);
/// assert!(broker.dead_letters("mails").is_empty());
/// ```
///
/// [`set_available`](Self::set_available) and [`set_blocked`](Self::set_blocked) play the trouble a
/// real broker can make.
#[derive(Clone)]
pub struct MemoryBroker {
    hub: Arc<Hub>,
}

impl MemoryBroker {
    /// A broker without any queues, each of which will hold up to 1,000,000 messages.
    pub fn new() -> Self {
        Self::with_capacity(CAPACITY)
    }

    /// A broker whose queues each hold up to that many messages, in flight or not.
    ///
    /// A message for a full queue is refused, for all services that subscribed it: it stays in the
    /// outbox and is tried again. Dead letters are kept up to the same number, the latest ones. With
    /// a capacity of 0 every message is refused.
    ///
    /// ```
    /// # use final_core::MemoryBroker;
    /// let small = MemoryBroker::with_capacity(10);
    /// # assert_eq!(small.queue_len("shop"), 0);
    /// ```
    pub fn with_capacity(messages: usize) -> Self {
        Self {
            hub: Arc::new(Hub::new(messages)),
        }
    }

    /// Makes the broker unreachable, or reachable again.
    ///
    /// While it is away nothing is confirmed or delivered. Settlements of messages in flight are void: the
    /// messages are delivered again when the broker is back, with the same ids.
    ///
    /// ```
    /// # use final_core::MemoryBroker;
    /// let broker = MemoryBroker::new();
    ///
    /// broker.set_available(false);
    /// // … publish: the message waits in the outbox
    /// broker.set_available(true);
    /// ```
    pub fn set_available(&self, available: bool) {
        self.hub.enter(|state| state.set_available(available));
    }

    /// Makes the broker ask publishers for a pause, or ends it, as RabbitMQ does when memory or disk
    /// run short.
    ///
    /// Meanwhile nothing is confirmed; deliveries go on.
    ///
    /// ```
    /// # use final_core::MemoryBroker;
    /// let broker = MemoryBroker::new();
    ///
    /// broker.set_blocked(true);
    /// // … publish: the message waits
    /// broker.set_blocked(false);
    /// ```
    pub fn set_blocked(&self, blocked: bool) {
        for (link, outgoing) in self.hub.enter(|state| state.set_blocked(blocked)) {
            link::send(&self.hub, link, outgoing);
        }
    }

    /// How many messages a service has still to handle, waiting or in flight. 0 if it never subscribed.
    pub fn queue_len(&self, service: &str) -> usize {
        self.hub.enter(|state| state.len(service))
    }

    /// All dead letters of a service, oldest first.
    ///
    /// [`DeadLetters::list`] lists some of them.
    ///
    /// ```
    /// # use final_core::MemoryBroker;
    /// # let broker = MemoryBroker::new();
    /// for dead in broker.dead_letters("shop") {
    ///     println!("{} {}: {}", dead.topic, dead.id, dead.reason);
    /// }
    /// ```
    pub fn dead_letters(&self, service: &str) -> Vec<DeadLetter> {
        let all = DeadLetterFilter::all();
        self.hub.enter(|state| state.dead(service, &all))
    }

    pub(crate) fn connect(&self, setup: &Setup) -> Result<Opened, BrokerError> {
        if setup.purge {
            self.purge(&setup.service)?;
        }
        let (number, state) = self.hub.enter(|hub| hub.connect(setup.confirm_window));
        let (queue, deliveries) = if setup.topics.is_empty() {
            // A stream that has ended: its sender is gone.
            (None, mpsc::channel(1).1)
        } else {
            let (queue, deliveries) = self.hub.consume(number, setup, prefetch(setup));
            (Some(queue), deliveries)
        };
        let link = Arc::new(MemoryLink {
            hub: Arc::clone(&self.hub),
            number,
            queue,
            state,
        });
        Ok(Opened::new(link, deliveries))
    }

    fn purge(&self, service: &str) -> Result<(), BrokerError> {
        self.hub.enter(|state| {
            if !state.is_available() {
                let text =
                    "the in-process broker is away; its queues can be purged when it is back";
                return Err(BrokerError::new(BrokerErrorKind::Unreachable, text));
            }
            let Some(queue) = state.queue(service) else {
                return Ok(());
            };
            if queue.has_consumers() {
                let text = format!(
                    "the queue of service {service:?} has consumers; stop them before it is purged"
                );
                return Err(BrokerError::new(BrokerErrorKind::InUse, text));
            }
            queue.purge();
            Ok(())
        })
    }
}

/// Enough to keep all handlers at work while more is fetched, however many run at once.
fn prefetch(setup: &Setup) -> usize {
    setup
        .num_subscribers
        .saturating_mul(PREFETCH)
        .max(setup.concurrency.saturating_mul(2))
        .clamp(1, MAX_PREFETCH)
}

impl Broker for MemoryBroker {
    fn open(&self, setup: Setup) -> BoxFuture<'_, Result<Opened, BrokerError>> {
        Box::pin(async move { self.connect(&setup) })
    }
}

/// Never an error. A dead letter that is replayed has no time to live any longer; those that a full
/// queue has no room for stay dead.
impl DeadLetters for MemoryBroker {
    fn list<'a>(
        &'a self,
        service: &'a str,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<Vec<DeadLetter>, Error>> {
        Box::pin(async move { Ok(self.hub.enter(|state| state.dead(service, filter))) })
    }

    fn replay<'a>(
        &'a self,
        service: &'a str,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<u64, Error>> {
        Box::pin(async move { Ok(self.hub.enter(|state| state.replay(service, filter)) as u64) })
    }

    fn discard<'a>(
        &'a self,
        service: &'a str,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<u64, Error>> {
        Box::pin(async move { Ok(self.hub.enter(|state| state.discard(service, filter)) as u64) })
    }
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBroker").finish_non_exhaustive()
    }
}
