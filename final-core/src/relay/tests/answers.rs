//! Where a record goes after each answer of the broker.

use std::time::{Duration, Instant};

use super::scripted::{SOON, Stage, options};
use crate::{
    broker::{Confirm, Isolation, LinkState},
    bus::RetryFailed,
};

#[tokio::test]
async fn only_a_stored_message_leaves_the_outbox() {
    let mut stage = Stage::new(options()).await;
    stage.publish("placed").await;

    let sent = stage.sent().await;
    assert_eq!(stage.bus.stats().await.unwrap().pending, 1);
    sent.confirm(Confirm::Stored);

    stage
        .until("acked", |stats| stats.pending == 0 && stats.acked == 1)
        .await;
}

/// Counted where no clock has a say: all answers are there when the first is taken.
#[tokio::test]
async fn answers_that_come_together_are_settled_by_one_statement() {
    let mut stage = Stage::new(options().lease(SOON * 10)).await;
    stage.first_look().await;
    let mut txbus = stage.bus.with_tx(stage.bus.begin().await.unwrap());
    for _ in 0..400 {
        txbus.publish("placed", "payload").await.unwrap();
    }
    txbus.commit().await.unwrap();
    let mut sent = Vec::new();
    for _ in 0..400 {
        sent.push(stage.sent().await);
    }
    let before = stage.bus.stats().await.unwrap().relay_statements;

    for sent in sent {
        sent.confirm(Confirm::Stored);
    }

    let stats = stage.until("all acked", |stats| stats.acked == 400).await;
    assert_eq!(stats.relay_statements - before, 1);
}

#[tokio::test]
async fn a_lost_message_is_due_at_once_and_counts_no_attempt() {
    let mut stage = Stage::new(options()).await;
    stage.publish("placed").await;

    for _ in 0..20 {
        // A link drops the message when its connection is lost.
        drop(stage.sent().await);
    }
    stage.sent().await.confirm(Confirm::Stored);

    let stats = stage.until("acked", |stats| stats.pending == 0).await;
    assert_eq!(stats.failed, 0);
}

#[tokio::test]
async fn a_refused_message_backs_off_and_never_fails() {
    let mut stage = Stage::new(options()).await;
    stage.publish("placed").await;

    let mut refused = Instant::now();
    for _ in 0..5 {
        let sent = stage.sent().await;
        assert_eq!(
            sent.isolation(),
            Isolation::Shared,
            "a full queue is no fault of it"
        );
        refused = Instant::now();
        sent.confirm(Confirm::Refused);
    }
    // By now it waits for more than half a second.
    let sent = stage.sent().await;
    let waited = refused.elapsed();
    assert!(waited > Duration::from_millis(500), "{waited:?}");
    sent.confirm(Confirm::Stored);

    let stats = stage.until("acked", |stats| stats.pending == 0).await;
    assert_eq!(stats.failed, 0);
}

#[tokio::test]
async fn a_message_that_closes_its_channel_three_times_alone_is_failed() {
    let mut stage = Stage::new(options()).await;
    stage.publish("placed").await;

    let sent = stage.sent().await;
    assert_eq!(sent.isolation(), Isolation::Shared);
    sent.confirm(Confirm::Suspect);
    for _ in 0..3 {
        let sent = stage.sent().await;
        assert_eq!(
            sent.isolation(),
            Isolation::Alone,
            "a suspect is sent alone"
        );
        sent.confirm(Confirm::Faulty("406, a header".into()));
    }

    let stats = stage.until("failed", |stats| stats.failed == 1).await;
    assert_eq!(stats.pending, 0);
    let failed = stage.bus.failed(10).await.unwrap();
    assert_eq!(failed[0].error, "406, a header");

    assert_eq!(stage.bus.retry_failed(RetryFailed::All).await.unwrap(), 1);
    stage.sent().await.confirm(Confirm::Stored);
    stage
        .until("acked", |stats| stats.pending == 0 && stats.failed == 0)
        .await;
}

#[tokio::test]
async fn a_message_that_is_cleared_of_suspicion_is_acked() {
    let mut stage = Stage::new(options()).await;
    stage.publish("placed").await;

    stage.sent().await.confirm(Confirm::Suspect);
    stage.sent().await.confirm(Confirm::Stored);

    stage.until("acked", |stats| stats.acked == 1).await;
}

#[tokio::test]
async fn nothing_is_handed_over_while_the_broker_is_blocked() {
    let mut stage = Stage::new(options()).await;
    // A claim that began before the broker was blocked is still sent.
    stage
        .until("looked", |stats| stats.relay_statements >= 3)
        .await;
    stage.state.send(LinkState::Blocked).unwrap();
    stage.publish("placed").await;

    assert!(stage.is_quiet(Duration::from_millis(300)).await);
    let stats = stage.bus.stats().await.unwrap();
    assert_eq!(
        (stats.pending, stats.in_flight, stats.connected),
        (1, 0, false)
    );

    stage.state.send(LinkState::Ready).unwrap();
    stage.sent().await.confirm(Confirm::Stored);
    stage.until("acked", |stats| stats.acked == 1).await;
}
