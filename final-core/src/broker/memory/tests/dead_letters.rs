//! What is put away, and why.

use super::*;
use crate::broker::DeadLetter;

const TTL: Duration = Duration::from_secs(60);

#[tokio::test]
async fn dead_letter_is_kept_with_its_reason() {
    let broker = MemoryBroker::new();
    let mut mails = open(&broker, "mails", &["order.placed"]);
    stored(send(&publisher(&broker), "order.placed", "one"));
    let delivery = mails.deliveries.recv().await.unwrap();

    delivery.settle(Settlement::DeadLetter(DeadLetter::new("no such order", 4)));

    let dead = broker.dead_letters("mails");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].message.payload(), "one");
    assert_eq!(dead[0].reason, "no such order");
    assert_eq!(dead[0].attempts, 4);
    assert_eq!(&*dead[0].service, "mails");
    assert_eq!(dead[0].topic(), "order.placed");
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
        delivery.settle(Settlement::DeadLetter(DeadLetter::new("bad", 1)));
    }

    let dead = broker.dead_letters("mails");
    let payloads: Vec<_> = dead.iter().map(|dead| dead.message.payload()).collect();
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
