//! Where deliveries go that are not settled.

use super::*;

#[tokio::test]
async fn dropped_delivery_comes_again_with_the_same_id() {
    let broker = MemoryBroker::new();
    let mut mails = open(&broker, "mails", &["order.placed"]);
    stored(send(&publisher(&broker), "order.placed", "one"));
    let first = mails.deliveries.recv().await.unwrap();
    let id = first.message().unwrap().id();

    drop(first);
    let second = mails.deliveries.recv().await.unwrap();

    assert_eq!(second.message().unwrap().id(), id);
}

#[tokio::test]
async fn a_handler_can_see_that_a_message_was_given_back_and_how_often() {
    let broker = MemoryBroker::new();
    let mut mails = open(&broker, "mails", &["order.placed"]);
    stored(send(&publisher(&broker), "order.placed", "one"));
    for returned in 0..3 {
        let delivery = mails.deliveries.recv().await.unwrap();

        let received = delivery.message().unwrap().received();

        assert_eq!(received.redelivered, returned > 0);
        assert_eq!(received.delivery_count.unwrap_or_default(), returned);
    }
}

#[tokio::test]
async fn acked_delivery_does_not_come_again() {
    let broker = MemoryBroker::new();
    let mut mails = open(&broker, "mails", &["order.placed"]);
    stored(send(&publisher(&broker), "order.placed", "one"));

    ack_all(taken(&mut mails));

    assert_eq!(broker.queue_len("mails"), 0);
    assert!(taken(&mut mails).is_empty());
}

#[tokio::test]
async fn what_is_handed_back_has_its_old_place_in_the_order() {
    let broker = MemoryBroker::new();
    let mut first = open(&broker, "mails", &["order.placed"]);
    let publisher = publisher(&broker);
    for payload in ["a", "b", "c"] {
        stored(send(&publisher, "order.placed", payload));
    }
    let mut in_hand = taken(&mut first);
    first.link.stop_consuming(LIMIT).await;

    // Handed back in another order than they came.
    drop(in_hand.remove(1));
    drop(in_hand);
    let mut second = open(&broker, "mails", &["order.placed"]);

    assert_eq!(payloads(&taken(&mut second)), ["a", "b", "c"]);
}

#[tokio::test]
async fn stream_ends_when_consuming_stops_and_what_is_in_hand_can_be_settled() {
    let broker = MemoryBroker::new();
    let mut mails = open(&broker, "mails", &["order.placed"]);
    let publisher = publisher(&broker);
    stored(send(&publisher, "order.placed", "one"));
    let in_hand = taken(&mut mails);

    mails.link.stop_consuming(LIMIT).await;
    stored(send(&publisher, "order.placed", "two"));

    assert!(mails.deliveries.recv().await.is_none());
    ack_all(in_hand);
    assert_eq!(broker.queue_len("mails"), 1);
}

#[tokio::test]
async fn finishing_hands_back_what_was_not_settled() {
    let broker = MemoryBroker::new();
    let mut leaving = open(&broker, "mails", &["order.placed"]);
    stored(send(&publisher(&broker), "order.placed", "one"));
    let in_hand = taken(&mut leaving);
    let mut staying = open(&broker, "mails", &["order.placed"]);

    leaving.link.stop_consuming(LIMIT).await;
    leaving.link.finish_consuming(LIMIT).await;

    assert_eq!(payloads(&taken(&mut staying)), ["one"]);
    drop(in_hand);
}

#[tokio::test]
async fn settlement_after_the_link_closed_is_void() {
    let broker = MemoryBroker::new();
    let mut leaving = open(&broker, "mails", &["order.placed"]);
    stored(send(&publisher(&broker), "order.placed", "one"));
    let in_hand = taken(&mut leaving);

    leaving.link.close(LIMIT).await;
    ack_all(in_hand);

    assert_eq!(broker.queue_len("mails"), 1);
    assert_eq!(state(&leaving.link), LinkState::Closed);
}

#[tokio::test]
async fn dropped_link_hands_back_what_it_had() {
    let broker = MemoryBroker::new();
    let Opened { link, deliveries } = open(&broker, "mails", &["order.placed"]);
    stored(send(&publisher(&broker), "order.placed", "one"));
    let mut other = open(&broker, "mails", &["order.placed"]);

    drop((deliveries, link));

    assert_eq!(payloads(&taken(&mut other)), ["one"]);
}

#[tokio::test]
async fn what_a_closed_link_had_has_its_old_place_in_the_order() {
    let broker = MemoryBroker::new();
    let leaving = open(&broker, "mails", &["order.placed"]);
    let publisher = publisher(&broker);
    for payload in ["a", "b", "c", "d"] {
        stored(send(&publisher, "order.placed", payload));
    }

    leaving.link.close(LIMIT).await;
    stored(send(&publisher, "order.placed", "e"));
    let mut other = open(&broker, "mails", &["order.placed"]);

    assert_eq!(payloads(&taken(&mut other)), ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn closed_link_loses_what_it_is_given() {
    let broker = MemoryBroker::new();
    let _mails = open(&broker, "mails", &["order.placed"]);
    let publisher = publisher(&broker);

    publisher.close(LIMIT).await;
    let answer = send(&publisher, "order.placed", "one").await;

    assert_eq!(answer, Ok(Confirm::Lost));
}

#[tokio::test]
async fn nobody_is_served_after_his_stream_is_gone() {
    let broker = MemoryBroker::new();
    let Opened { link, deliveries } = open(&broker, "mails", &["order.placed"]);
    let mut other = open(&broker, "mails", &["order.placed"]);
    let publisher = publisher(&broker);

    drop(deliveries);
    stored(send(&publisher, "order.placed", "one"));
    stored(send(&publisher, "order.placed", "two"));

    assert_eq!(payloads(&taken(&mut other)), ["one", "two"]);
    drop(link);
}
