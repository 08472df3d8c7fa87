//! Delay and time to live are real.

use std::time::{Duration, Instant};

use final_tests::eventually;

use crate::{
    database::Database,
    house::{House, SOON},
    transport::Transport,
};

crate::suite!(
    everywhere: [
        a_delayed_message_comes_not_before_its_time_and_at_most_a_second_late,
        a_delay_survives_a_restart,
        the_time_to_live_counts_from_the_due_time,
    ],
    with an outbox: [
        a_message_whose_time_to_live_is_over_is_not_handled,
    ],
);

/// The bus is idle otherwise, and its scan interval would be far too late. On a machine with other work a
/// single message may be late, so one of several has to be in time.
async fn a_delayed_message_comes_not_before_its_time_and_at_most_a_second_late<
    D: Database,
    T: Transport,
>(
    house: House<D, T>,
) {
    let (bus, notes) = house
        .start_noting(house.options().scan_interval(SOON * 10), &["later"])
        .await;
    let delay = Duration::from_millis(1_500);

    eventually("a message at most a second late", SOON, async || {
        let (before, published) = (notes.len(), Instant::now());
        bus.publish(house.topic("later"), &1_i64)
            .delay(delay)
            .await
            .expect("publish");
        notes.reach(before + 1).await;
        let waited = published.elapsed();
        assert!(waited >= delay, "{waited:?}");
        if waited <= delay + Duration::from_secs(1) {
            Ok(())
        } else {
            Err(waited)
        }
    })
    .await;
    bus.shutdown().await.expect("shutdown");
}

async fn a_delay_survives_a_restart<D: Database, T: Transport>(house: House<D, T>) {
    let delay = Duration::from_millis(1_500);
    let (bus, _) = house.start_noting(house.options(), &["later"]).await;
    let published = Instant::now();
    bus.publish(house.topic("later"), &1_i64)
        .delay(delay)
        .await
        .expect("publish");
    bus.shutdown().await.expect("shutdown");

    let (bus, notes) = house.start_noting(house.options(), &["later"]).await;
    notes.reach(1).await;
    assert!(published.elapsed() >= delay, "{:?}", published.elapsed());
    bus.shutdown().await.expect("shutdown");
}

async fn a_message_whose_time_to_live_is_over_is_not_handled<D: Database, T: Transport>(
    house: House<D, T>,
) {
    let bus = house.bus();
    bus.migrate().await.expect("migrate");
    let ttl = Duration::from_millis(200);
    bus.publish(house.topic("offer"), &1_i64)
        .ttl(ttl)
        .await
        .expect("publish");
    bus.publish(house.topic("offer"), &2_i64)
        .ttl(SOON)
        .await
        .expect("publish");
    tokio::time::sleep(ttl * 2).await;

    let notes = crate::house::Notes::default();
    bus.start(house.noting(&notes, &["offer"]))
        .await
        .expect("start");
    house.outbox_is_empty(&bus).await;

    notes.reach(1).await;
    assert_eq!(notes.numbers(), [2]);
    assert_eq!(bus.stats().await.expect("stats").expired, 1);
    bus.shutdown().await.expect("shutdown");
}

/// If it counted from the publishing, no message would be handled. On a machine with other work a message may
/// be late, so one of several has to be handled.
async fn the_time_to_live_counts_from_the_due_time<D: Database, T: Transport>(house: House<D, T>) {
    let (bus, notes) = house.start_noting(house.options(), &["offer"]).await;
    let (delay, ttl) = (Duration::from_millis(1_200), Duration::from_millis(1_000));

    eventually("a message in its time to live", SOON, async || {
        bus.publish(house.topic("offer"), &1_i64)
            .delay(delay)
            .ttl(ttl)
            .await
            .expect("publish");
        tokio::time::sleep(delay + ttl).await;
        notes.len() > 0
    })
    .await;
    bus.shutdown().await.expect("shutdown");
}
