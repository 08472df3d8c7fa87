//! What the in-process broker promises, by theme.

mod dead_letters;
mod invariants;
mod redelivery;
mod routing;
mod weather;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::MemoryBroker;
use crate::{
    Message,
    broker::{
        BrokerError, Confirm, Delivery, Isolation, Link, LinkState, Opened, Outgoing, Settlement,
        Setup, Ticket,
    },
    outbox::RecordId,
};

const LIMIT: Duration = Duration::from_secs(60);

/// A record that only wants to know its confirm.
struct Answer {
    lease_end: Instant,
    confirm: oneshot::Sender<Confirm>,
}

impl Ticket for Answer {
    fn lease_end(&self) -> Option<Instant> {
        Some(self.lease_end)
    }

    fn settle(self: Box<Self>, confirm: Confirm) {
        let _ = self.confirm.send(confirm);
    }
}

fn setup(service: &str, topics: &[&str]) -> Setup {
    Setup {
        service: service.into(),
        topics: topics.iter().map(|topic| Arc::from(*topic)).collect(),
        concurrency: 4,
        num_subscribers: 1,
        confirm_window: 8,
        purge: false,
        collect_dead_letters: false,
        holds: Default::default(),
    }
}

fn open(broker: &MemoryBroker, service: &str, topics: &[&str]) -> Opened {
    broker.connect(&setup(service, topics)).unwrap()
}

/// A link that only publishes.
fn publisher(broker: &MemoryBroker) -> Arc<dyn Link> {
    open(broker, "publisher", &[]).link
}

fn send_for(
    link: &Arc<dyn Link>,
    message: Message,
    ttl: impl Into<Option<Duration>>,
) -> oneshot::Receiver<Confirm> {
    let (confirm, answer) = oneshot::channel();
    let now = Instant::now();
    let ticket = Answer {
        lease_end: now + LIMIT,
        confirm,
    };
    let expires = ttl.into().map(|ttl| now + ttl);
    link.send(Outgoing::new(
        RecordId::of(message.id()),
        message,
        expires,
        Isolation::Shared,
        Some(Box::new(ticket)),
    ));
    answer
}

fn send(link: &Arc<dyn Link>, topic: &str, payload: &'static str) -> oneshot::Receiver<Confirm> {
    send_for(link, Message::new(topic, payload), None)
}

#[track_caller]
fn stored(mut answer: oneshot::Receiver<Confirm>) {
    assert_eq!(answer.try_recv(), Ok(Confirm::Stored));
}

/// What is in the stream now, without waiting.
fn taken(opened: &mut Opened) -> Vec<Delivery> {
    std::iter::from_fn(|| opened.deliveries.try_recv().ok()).collect()
}

fn payload(delivery: &Delivery) -> &str {
    std::str::from_utf8(delivery.message().unwrap().payload()).unwrap()
}

fn payloads(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(payload).collect()
}

fn state(link: &Arc<dyn Link>) -> LinkState {
    *link.state().borrow()
}

fn error(result: Result<Opened, BrokerError>) -> BrokerError {
    result.unwrap_err()
}

fn ack_all(deliveries: Vec<Delivery>) {
    for delivery in deliveries {
        delivery.settle(Settlement::Ack);
    }
}
