//! Which messages are dead-lettered, and what can be done with them.

use super::*;
use crate::broker::{Cause, DeadLetter, DeadLetterFilter, DeadLetters};

const TTL: Duration = Duration::from_secs(60);

fn payload_of(letter: &DeadLetter) -> &str {
    let message = letter.message.as_ref().unwrap();
    std::str::from_utf8(message.payload()).unwrap()
}

/// Sends messages, and dead-letters each with its payload as the reason.
async fn all_dead(broker: &MemoryBroker, mails: &mut Opened, payloads: &[&'static str]) {
    let publisher = publisher(broker);
    for payload in payloads {
        stored(send(&publisher, "order.placed", payload));
        let delivery = mails.deliveries.recv().await.unwrap();
        delivery.settle(Settlement::DeadLetter(Cause::new(*payload, 1)));
    }
}

#[tokio::test]
async fn dead_letter_is_kept_with_its_reason() {
    let broker = MemoryBroker::new();
    let mut mails = open(&broker, "mails", &["order.placed"]);
    stored(send(&publisher(&broker), "order.placed", "one"));
    let delivery = mails.deliveries.recv().await.unwrap();

    delivery.settle(Settlement::DeadLetter(Cause::new("no such order", 4)));

    let dead = broker.dead_letters("mails");
    assert_eq!(dead.len(), 1);
    assert_eq!(payload_of(&dead[0]), "one");
    assert_eq!(dead[0].reason, "no such order");
    assert_eq!(dead[0].attempts, 4);
    assert_eq!(dead[0].service, "mails");
    assert_eq!(dead[0].topic, "order.placed");
    assert_eq!(broker.queue_len("mails"), 0);
}

#[tokio::test]
async fn only_the_latest_dead_letters_are_kept() {
    let broker = MemoryBroker::with_capacity(2);
    let mut mails = open(&broker, "mails", &["order.placed"]);
    let publisher = publisher(&broker);

    for payload in ["a", "b", "c"] {
        stored(send(&publisher, "order.placed", payload));
        let delivery = mails.deliveries.recv().await.unwrap();
        delivery.settle(Settlement::DeadLetter(Cause::new("bad", 1)));
    }

    let dead = broker.dead_letters("mails");
    let payloads: Vec<_> = dead.iter().map(payload_of).collect();
    assert_eq!(payloads, ["b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn message_that_waited_past_its_time_is_put_away() {
    let broker = MemoryBroker::new();
    drop(open(&broker, "mails", &["order.placed"]));
    let message = Message::new("order.placed", "stale");
    stored(send_for(&publisher(&broker), message, TTL));
    assert_eq!(broker.queue_len("mails"), 1);

    tokio::time::advance(TTL).await;
    let mut back = open(&broker, "mails", &["order.placed"]);

    assert!(taken(&mut back).is_empty());
    assert_eq!(broker.queue_len("mails"), 0);
    assert_eq!(broker.dead_letters("mails")[0].reason, "expired");
}

#[tokio::test(start_paused = true)]
async fn expired_message_behind_a_lasting_one_is_put_away_too() {
    let broker = MemoryBroker::new();
    drop(open(&broker, "mails", &["order.placed"]));
    let publisher = publisher(&broker);
    stored(send(&publisher, "order.placed", "lasting"));
    let message = Message::new("order.placed", "stale");
    stored(send_for(&publisher, message, TTL));

    tokio::time::advance(TTL).await;

    assert_eq!(broker.dead_letters("mails").len(), 1);
    assert_eq!(broker.queue_len("mails"), 1);
}

#[tokio::test(start_paused = true)]
async fn delivered_message_does_not_expire_until_it_is_handed_back() {
    let broker = MemoryBroker::new();
    let mut mails = open(&broker, "mails", &["order.placed"]);
    let message = Message::new("order.placed", "in hand");
    stored(send_for(&publisher(&broker), message, TTL));

    tokio::time::advance(TTL * 2).await;
    let delivery = mails.deliveries.recv().await.unwrap();
    assert!(broker.dead_letters("mails").is_empty());
    drop(delivery);

    assert!(taken(&mut mails).is_empty());
    assert_eq!(broker.dead_letters("mails").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn expired_messages_do_not_fill_a_queue() {
    let broker = MemoryBroker::with_capacity(1);
    drop(open(&broker, "mails", &["order.placed"]));
    let publisher = publisher(&broker);
    stored(send_for(
        &publisher,
        Message::new("order.placed", "stale"),
        TTL,
    ));

    tokio::time::advance(TTL).await;

    stored(send(&publisher, "order.placed", "fresh"));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_listed_by_filter() {
    let broker = MemoryBroker::new();
    let mut mails = open(&broker, "mails", &["order.placed"]);
    all_dead(&broker, &mut mails, &["busy", "gone"]).await;
    tokio::time::advance(TTL).await;
    all_dead(&broker, &mut mails, &["busy too"]).await;

    let all = broker.dead_letters("mails");
    let listed = async |filter: DeadLetterFilter| {
        let letters = broker.list("mails", &filter).await.unwrap();
        let payloads = letters.iter().map(payload_of);
        payloads.map(str::to_owned).collect::<Vec<_>>()
    };
    let filter = DeadLetterFilter::all;

    assert_eq!(listed(filter()).await, ["busy", "gone", "busy too"]);
    assert_eq!(listed(filter().reason("busy")).await, ["busy", "busy too"]);
    assert_eq!(listed(filter().reason("busy").limit(1)).await, ["busy"]);
    assert_eq!(listed(filter().id(all[1].id)).await, ["gone"]);
    assert_eq!(listed(filter().older_than(TTL)).await, ["busy", "gone"]);
    assert_eq!(listed(filter().topic("order.cancelled")).await, [""; 0]);
    assert!(broker.list("shop", &filter()).await.unwrap().is_empty());
}

#[tokio::test]
async fn only_its_service_gets_a_replayed_message_again_with_the_same_id() {
    let broker = MemoryBroker::new();
    let mut mails = open(&broker, "mails", &["order.placed"]);
    let mut other = open(&broker, "other", &["order.placed"]);
    all_dead(&broker, &mut mails, &["one", "two", "three"]).await;
    ack_all(taken(&mut other));
    let dead = broker.dead_letters("mails");
    let some = DeadLetterFilter::all().ids([dead[0].id, dead[2].id]);

    assert_eq!(broker.replay("mails", &some).await.unwrap(), 2);
    assert_eq!(broker.replay("mails", &some).await.unwrap(), 0);

    let again = taken(&mut mails);
    assert_eq!(payloads(&again), ["one", "three"]);
    assert_eq!(again[0].message().unwrap().id(), dead[0].id);
    assert!(taken(&mut other).is_empty());
    let left = broker.dead_letters("mails");
    assert_eq!(left.iter().map(payload_of).collect::<Vec<_>>(), ["two"]);
}

#[tokio::test]
async fn what_a_full_queue_has_no_room_for_stays_dead() {
    let broker = MemoryBroker::with_capacity(2);
    let mut mails = open(&broker, "mails", &["order.placed"]);
    all_dead(&broker, &mut mails, &["one", "two"]).await;
    stored(send(&publisher(&broker), "order.placed", "in flight"));

    let all = DeadLetterFilter::all();
    assert_eq!(broker.replay("mails", &all).await.unwrap(), 1);

    assert_eq!(broker.queue_len("mails"), 2);
    let left = broker.dead_letters("mails");
    assert_eq!(left.iter().map(payload_of).collect::<Vec<_>>(), ["two"]);
}

#[tokio::test]
async fn discarded_dead_letters_are_gone() {
    let broker = MemoryBroker::new();
    let mut mails = open(&broker, "mails", &["order.placed"]);
    all_dead(&broker, &mut mails, &["busy", "gone", "busy"]).await;

    let busy = DeadLetterFilter::all().reason("busy");
    assert_eq!(broker.discard("mails", &busy).await.unwrap(), 2);

    let left = broker.dead_letters("mails");
    assert_eq!(left.iter().map(payload_of).collect::<Vec<_>>(), ["gone"]);
    assert_eq!(broker.queue_len("mails"), 0);
}
