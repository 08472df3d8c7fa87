//! The broker away, and the broker under alarm.

use super::*;

#[tokio::test]
async fn broker_that_is_away_loses_what_it_is_sent() {
    let broker = MemoryBroker::new();
    let _mails = open(&broker, "mails", &["order.placed"]);
    let publisher = publisher(&broker);

    broker.set_available(false);
    let answer = send(&publisher, "order.placed", "one").await;

    assert_eq!(answer, Ok(Confirm::Lost));
    assert_eq!(broker.queue_len("mails"), 0);
}

#[tokio::test]
async fn what_was_in_hand_when_the_broker_went_is_void_and_comes_again() {
    let broker = MemoryBroker::new();
    let mut mails = open(&broker, "mails", &["order.placed"]);
    stored(send(&publisher(&broker), "order.placed", "one"));
    let in_hand = taken(&mut mails);

    broker.set_available(false);
    ack_all(in_hand);
    assert!(taken(&mut mails).is_empty());
    broker.set_available(true);

    assert_eq!(payloads(&taken(&mut mails)), ["one"]);
}

#[tokio::test]
async fn stream_full_of_void_deliveries_fills_again_as_it_is_emptied() {
    let broker = MemoryBroker::new();
    let mut mails = open(&broker, "mails", &["order.placed"]);
    let publisher = publisher(&broker);
    for _ in 0..super::super::PREFETCH {
        stored(send(&publisher, "order.placed", "one"));
    }

    broker.set_available(false);
    broker.set_available(true);
    let void = taken(&mut mails);
    assert_eq!(void.len(), super::super::PREFETCH);
    ack_all(void);
    assert_eq!(broker.queue_len("mails"), super::super::PREFETCH);

    ack_all(taken(&mut mails));
    assert_eq!(broker.queue_len("mails"), 0);
}

#[tokio::test]
async fn link_opened_while_the_broker_is_away_serves_when_it_is_back() {
    let broker = MemoryBroker::new();
    broker.set_available(false);
    let mut mails = open(&broker, "mails", &["order.placed"]);
    assert_eq!(state(&mails.link), LinkState::Away);

    broker.set_available(true);
    stored(send(&mails.link, "order.placed", "one"));

    assert_eq!(payloads(&taken(&mut mails)), ["one"]);
}

#[tokio::test]
async fn blocked_broker_delivers_and_confirms_when_the_alarm_is_over() {
    let broker = MemoryBroker::new();
    let mut mails = open(&broker, "mails", &["order.placed"]);
    let publisher = publisher(&broker);
    stored(send(&publisher, "order.placed", "before"));

    broker.set_blocked(true);
    let mut answer = send(&publisher, "order.placed", "meanwhile");
    assert!(answer.try_recv().is_err());
    assert_eq!(payloads(&taken(&mut mails)), ["before"]);
    broker.set_blocked(false);

    stored(answer);
}

#[tokio::test]
async fn blocked_broker_keeps_no_more_than_the_confirm_window() {
    let broker = MemoryBroker::new();
    let _mails = open(&broker, "mails", &["order.placed"]);
    let publisher = publisher(&broker);
    broker.set_blocked(true);

    let waiting: Vec<_> = (0..8)
        .map(|_| send(&publisher, "order.placed", "one"))
        .collect();
    let one_more = send(&publisher, "order.placed", "one").await;

    assert_eq!(one_more, Ok(Confirm::Lost));
    broker.set_blocked(false);
    waiting.into_iter().for_each(stored);
}

#[tokio::test]
async fn what_waits_for_the_alarm_is_lost_when_the_broker_goes_away() {
    let broker = MemoryBroker::new();
    let _mails = open(&broker, "mails", &["order.placed"]);
    let publisher = publisher(&broker);

    broker.set_blocked(true);
    let answer = send(&publisher, "order.placed", "one");
    broker.set_available(false);

    assert_eq!(answer.await, Ok(Confirm::Lost));
}

#[tokio::test]
async fn what_waits_for_the_alarm_is_lost_when_its_link_closes() {
    let broker = MemoryBroker::new();
    let _mails = open(&broker, "mails", &["order.placed"]);
    let publisher = publisher(&broker);

    broker.set_blocked(true);
    let answer = send(&publisher, "order.placed", "one");
    publisher.close(LIMIT).await;

    assert_eq!(answer.await, Ok(Confirm::Lost));
}

#[tokio::test]
async fn every_change_of_the_weather_is_told() {
    let broker = MemoryBroker::new();
    let publisher = publisher(&broker);
    let mut watch = publisher.state();

    for (available, blocked, expected) in [
        (true, true, LinkState::Blocked),
        (false, true, LinkState::Away),
        (true, true, LinkState::Blocked),
        (true, false, LinkState::Ready),
    ] {
        broker.set_available(available);
        broker.set_blocked(blocked);
        watch.changed().await.unwrap();
        assert_eq!(*watch.borrow_and_update(), expected);
    }
}
