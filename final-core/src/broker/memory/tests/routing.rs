//! Who gets which message.

use super::*;
use crate::broker::BrokerErrorKind;

#[tokio::test]
async fn each_subscribed_service_gets_the_message_once() {
    let broker = MemoryBroker::new();
    let mut mails = open(&broker, "mails", &["order.placed"]);
    let mut stock = open(&broker, "stock", &["order.placed", "order.cancelled"]);
    let publisher = publisher(&broker);

    stored(send(&publisher, "order.placed", "one"));
    stored(send(&publisher, "order.cancelled", "two"));

    assert_eq!(payloads(&taken(&mut mails)), ["one"]);
    assert_eq!(payloads(&taken(&mut stock)), ["one", "two"]);
}

#[tokio::test]
async fn instances_of_one_service_take_turns() {
    let broker = MemoryBroker::new();
    let mut first = open(&broker, "mails", &["order.placed"]);
    let mut second = open(&broker, "mails", &["order.placed"]);
    let publisher = publisher(&broker);

    for payload in ["a", "b", "c", "d"] {
        stored(send(&publisher, "order.placed", payload));
    }

    let (first, second) = (taken(&mut first), taken(&mut second));
    assert_eq!(payloads(&first), ["a", "c"]);
    assert_eq!(payloads(&second), ["b", "d"]);
}

#[tokio::test]
async fn topic_without_a_subscriber_is_unroutable() {
    let broker = MemoryBroker::new();
    let _mails = open(&broker, "mails", &["order.placed"]);
    let publisher = publisher(&broker);

    let answer = send(&publisher, "order.lost", "one").await;

    assert_eq!(answer, Ok(Confirm::Unroutable));
    assert_eq!(broker.queue_len("mails"), 0);
}

#[tokio::test]
async fn queue_stays_when_its_subscriber_leaves() {
    let broker = MemoryBroker::new();
    drop(open(&broker, "mails", &["order.placed"]));
    let publisher = publisher(&broker);

    stored(send(&publisher, "order.placed", "meanwhile"));
    let mut back = open(&broker, "mails", &["order.placed"]);

    assert_eq!(payloads(&taken(&mut back)), ["meanwhile"]);
}

#[tokio::test]
async fn service_without_topics_has_no_queue_and_an_ended_stream() {
    let broker = MemoryBroker::new();
    let mut opened = open(&broker, "publisher", &[]);

    assert!(opened.deliveries.recv().await.is_none());
    assert_eq!(state(&opened.link), LinkState::Ready);
    assert_eq!(broker.queue_len("publisher"), 0);
}

#[tokio::test]
async fn message_without_a_confirm_is_delivered_all_the_same() {
    let broker = MemoryBroker::new();
    let mut mails = open(&broker, "mails", &["order.placed"]);
    let message = Message::new("order.placed", "fire and forget");

    publisher(&broker).send(Outgoing::new(
        RecordId::of(message.id()),
        message,
        None,
        Isolation::Shared,
        None,
    ));

    assert_eq!(payloads(&taken(&mut mails)), ["fire and forget"]);
}

#[tokio::test]
async fn record_past_its_lease_is_not_published() {
    let broker = MemoryBroker::new();
    let _mails = open(&broker, "mails", &["order.placed"]);
    let (confirm, answer) = oneshot::channel();
    let ticket = Box::new(Answer {
        lease_end: Instant::now(),
        confirm,
    });
    let message = Message::new("order.placed", "late");

    publisher(&broker).send(Outgoing::new(
        RecordId::of(message.id()),
        message,
        None,
        Isolation::Shared,
        Some(ticket),
    ));

    assert_eq!(answer.await, Ok(Confirm::LeaseOver));
    assert_eq!(broker.queue_len("mails"), 0);
}

#[tokio::test]
async fn slow_subscriber_has_its_prefetch_and_the_publisher_never_waits() {
    let broker = MemoryBroker::new();
    let mut slow = open(&broker, "mails", &["order.placed"]);
    let publisher = publisher(&broker);

    for _ in 0..1_000 {
        stored(send(&publisher, "order.placed", "one"));
    }

    assert_eq!(taken(&mut slow).len(), super::super::PREFETCH);
    assert_eq!(broker.queue_len("mails"), 1_000);
}

#[tokio::test]
async fn full_queue_refuses_and_no_other_queue_has_the_message_either() {
    let broker = MemoryBroker::with_capacity(1);
    let mut fast = open(&broker, "fast", &["order.placed"]);
    let _slow = open(&broker, "slow", &["order.placed"]);
    let publisher = publisher(&broker);
    stored(send(&publisher, "order.placed", "one"));
    ack_all(taken(&mut fast));

    let answer = send(&publisher, "order.placed", "two").await;

    assert_eq!(answer, Ok(Confirm::Refused));
    assert_eq!(broker.queue_len("fast"), 0);
    assert_eq!(broker.queue_len("slow"), 1);
}

#[tokio::test]
async fn purge_empties_queue_and_dead_letters() {
    let broker = MemoryBroker::new();
    drop(open(&broker, "mails", &["order.placed"]));
    stored(send(&publisher(&broker), "order.placed", "old"));

    let purge = Setup {
        purge: true,
        ..setup("mails", &["order.placed"])
    };
    let mut opened = broker.connect(&purge).unwrap();

    assert!(taken(&mut opened).is_empty());
    assert_eq!(broker.queue_len("mails"), 0);
}

#[tokio::test]
async fn purge_is_refused_while_the_queue_has_consumers() {
    let broker = MemoryBroker::new();
    let _other = open(&broker, "mails", &["order.placed"]);
    let purge = Setup {
        purge: true,
        ..setup("mails", &["order.placed"])
    };

    let refused = error(broker.connect(&purge));

    assert_eq!(refused.kind(), BrokerErrorKind::InUse);
}

#[tokio::test]
async fn purge_needs_the_broker() {
    let broker = MemoryBroker::new();
    broker.set_available(false);
    let purge = Setup {
        purge: true,
        ..setup("mails", &["order.placed"])
    };

    let refused = error(broker.connect(&purge));

    assert_eq!(refused.kind(), BrokerErrorKind::Unreachable);
}
