//! Closing: after the last client, and at a shutdown.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::kit::{Kit, MINUTE, lot, pair, pulled_texts, receipts, taken_texts};
use crate::groups::{GroupError, ReceiptError};

#[tokio::test(start_paused = true)]
async fn a_pair_closes_after_the_last_client_and_its_messages_wait_for_the_next() {
    let kit = Kit::new().await;
    drop(kit.hold(&pair()).await);
    sleep(MINUTE - Duration::from_secs(5)).await;
    assert_eq!(kit.groups.stats().open, 1);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(kit.groups.stats().open, 0);

    kit.publish("t", ["a"]);
    let taken = kit.hold(&pair()).await.take(lot(1)).await.unwrap();
    assert_eq!(taken_texts(&taken), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn messages_that_no_client_here_wants_go_to_other_nodes_soon() {
    let kit = Kit::new().await;
    drop(kit.hold(&pair()).await);
    sleep(Duration::from_secs(10)).await;
    kit.publish("t", ["a"]);
    sleep(Duration::from_secs(4)).await;

    assert_eq!(kit.groups.stats().open, 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_takes_nothing_for_long_keeps_no_messages_from_other_nodes() {
    let kit = Kit::new().await;
    let mut holder = kit.hold(&pair()).await;
    let mut epochs = Vec::new();
    for _ in 0..2 {
        kit.publish("t", ["a", "b"]);
        let taken = holder.take(lot(1)).await.unwrap();
        assert_eq!(taken_texts(&taken), ["a"]);
        epochs.push(taken[0].offset);
        sleep(2 * MINUTE).await;
        assert_eq!(kit.groups.stats().open, 1, "it has a message in hand");
        holder.commit(0, taken[0].offset).unwrap();
        sleep(MINUTE - Duration::from_secs(1)).await;
        assert_eq!(kit.groups.stats().open, 1, "it committed a minute ago");
        sleep(Duration::from_secs(20)).await;
        assert_eq!(kit.groups.stats().open, 0, "another node may have it");

        let taken = holder.take(lot(1)).await.unwrap();
        assert_eq!(taken_texts(&taken), ["b"], "the connection goes on");
        epochs.push(taken[0].offset);
        holder.commit(0, taken[0].offset).unwrap();
    }
    assert!(epochs.is_sorted(), "offsets rise: {epochs:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pair_stays_open_while_something_pulled_is_in_hand() {
    let kit = Kit::new().await;
    drop(kit.hold(&pair()).await);
    kit.publish("t", ["a"]);
    let pulled = kit
        .groups
        .pull(&[pair()], lot(1), 10 * MINUTE)
        .await
        .unwrap();
    sleep(9 * MINUTE).await;
    assert_eq!(kit.groups.stats().open, 1);

    kit.ack("g", &pulled).await;
    sleep(2 * MINUTE).await;
    assert_eq!(kit.groups.stats().open, 0);
}

#[tokio::test(start_paused = true)]
async fn a_pair_stays_open_while_a_message_waits_here_for_the_end_of_its_delay() {
    let kit = Kit::with(|options| options.linger = Duration::from_secs(1)).await;
    drop(kit.hold(&pair()).await);
    kit.publish("t", ["a"]);
    let pulled = receipts(&kit.pull(&pair()).await);
    let delay = Duration::from_secs(5);
    let nacked = kit.groups.nack("g", &pulled, delay, None).await;
    assert_eq!(nacked, [Ok(())]);
    sleep(Duration::from_secs(3)).await;
    let early = kit.pull(&pair()).await;
    assert_eq!(pulled_texts(&early), [""; 0], "before the delay is over");

    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(kit.groups.stats().open, 1, "from then on it is idle");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(kit.groups.stats().open, 0);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_remembered_while_a_pair_is_closed() {
    let kit = Kit::new().await;
    drop(kit.hold(&pair()).await);
    kit.publish("t", ["a"]);
    for attempt in 1..=5 {
        let mut holder = kit.hold(&pair()).await;
        let taken = holder.take(lot(1)).await.unwrap();
        assert_eq!(taken[0].attempt, attempt);
        drop(holder);
        sleep(2 * MINUTE).await;
        assert_eq!(kit.groups.stats().open, 0);
    }
    assert_eq!(kit.dead(&pair()).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_what_waits_at_once_and_gives_everything_back() {
    let kit = Kit::new().await;
    let (mut waiting, mut holder) = (kit.hold(&pair()).await, kit.hold(&pair()).await);
    kit.publish("t", ["a", "b"]);
    let taken = holder.take(lot(1)).await.unwrap();
    let pulled = kit.pull(&pair()).await;
    assert_eq!((taken.len(), pulled.len()), (1, 1));
    let (begun, mut long) = (Instant::now(), lot(1));
    long.wait = 10 * MINUTE;
    let (pair, pairs) = (pair(), [pair()]);
    let stop = async {
        sleep(Duration::from_secs(1)).await;
        kit.groups.shutdown().await;
    };
    let pull = kit.groups.pull(&pairs, long, MINUTE);
    let (take, pull, ()) = tokio::join!(waiting.take(long), pull, stop);

    assert_eq!(take.map(drop), Err(GroupError::Stopping));
    assert_eq!(pull.map(drop), Err(GroupError::Stopping));
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
    assert_eq!(
        kit.groups.hold(&pair).await.map(drop),
        Err(GroupError::Stopping)
    );
    let acked = kit.groups.ack("g", &receipts(&pulled)).await;
    assert_eq!(acked, [Err(ReceiptError::Gone)]);
    holder.commit(0, taken[0].offset).expect("void");
    drop((waiting, holder));

    let next = Kit::over(
        std::sync::Arc::new(kit.broker.clone()),
        kit.broker.clone(),
        |_| {},
    )
    .await;
    let again = next.pull(&pair).await;
    assert_eq!(pulled_texts(&again), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_because_the_gateway_stops_is_no_failure_of_its_messages() {
    let kit = Kit::with(|options| options.max_deliveries = 1).await;
    let mut holder = kit.hold(&pair()).await;
    kit.publish("t", ["a"]);
    assert_eq!(holder.take(lot(1)).await.unwrap().len(), 1);
    kit.groups.expect_shutdown();
    drop(holder);
    kit.groups.shutdown().await;

    assert_eq!(kit.dead(&pair()), []);
    assert_eq!(kit.broker.queue_len(&pair().broker_group()), 1);
}

#[tokio::test(start_paused = true)]
async fn groups_that_are_dropped_leave_no_task_behind() {
    let kit = Kit::with(|options| {
        // Nothing closes by itself.
        options.linger = 100 * MINUTE;
        options.unclaimed = 100 * MINUTE;
    })
    .await;
    let holder = kit.hold(&pair()).await;
    kit.publish("t", ["a"]);
    let (broker, slots) = (
        kit.broker.clone(),
        std::sync::Arc::downgrade(&kit.groups.inner.slots),
    );
    drop((holder, kit));
    sleep(Duration::from_secs(60)).await;

    assert!(slots.upgrade().is_none());
    assert_eq!(broker.queue_len(&pair().broker_group()), 1);
}
