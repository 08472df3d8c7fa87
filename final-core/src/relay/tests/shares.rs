//! The shares of the window: topics, hand-over and the scanner.

use std::time::Duration;

use super::scripted::{SOON, Stage, options};
use crate::broker::Confirm;

#[tokio::test]
async fn an_unanswered_topic_does_not_shut_out_the_others() {
    let mut stage = Stage::new(options().confirm_window(8)).await;
    for _ in 0..20 {
        stage.publish("stuck").await;
    }
    let mut stuck = Vec::new();
    for _ in 0..4 {
        stuck.push(stage.sent().await);
    }
    assert!(
        stage.is_quiet(Duration::from_millis(200)).await,
        "half of the window at most"
    );

    for _ in 0..10 {
        stage.publish("flowing").await;
        let sent = stage.sent().await;
        assert_eq!(sent.topic(), "flowing");
        sent.confirm(Confirm::Stored);
        stage
            .until("room again", |stats| stats.in_flight == 4)
            .await;
    }
}

/// The scanner claims them before it learns that their topic has its share in flight.
#[tokio::test]
async fn records_for_which_there_was_no_slot_are_released_and_sent_later() {
    let mut stage = Stage::new(options().confirm_window(8).lease(SOON * 10)).await;
    for _ in 0..20 {
        stage.publish("busy").await;
    }
    let mut in_flight = Vec::new();
    for _ in 0..4 {
        in_flight.push(stage.sent().await);
    }
    // Long enough for the scanner to lose its patience with the topic.
    assert!(stage.is_quiet(Duration::from_millis(1_500)).await);

    for sent in in_flight {
        sent.confirm(Confirm::Stored);
    }
    for _ in 4..20 {
        stage.sent().await.confirm(Confirm::Stored);
    }
    stage.until("all acked", |stats| stats.acked == 20).await;
}

#[tokio::test]
async fn records_of_a_topic_that_moves_slowly_are_not_released() {
    let mut stage = Stage::new(options().confirm_window(8).lease(SOON * 10)).await;
    stage.first_look().await;
    stage.backlog("slow", 20).await;

    let mut unclaimed = 20;
    for _ in 0..20 {
        let sent = stage.sent().await;
        // A batch takes longer than it would wait if no slot came free.
        tokio::time::sleep(Duration::from_millis(250)).await;
        sent.confirm(Confirm::Stored);
        let now = stage.unclaimed().await;
        assert!(now <= unclaimed, "{now} after {unclaimed}");
        unclaimed = now;
    }
    stage.until("all acked", |stats| stats.acked == 20).await;
}

/// A window of 8 gives the scanner 6 at a time and one topic 4 of them.
#[tokio::test]
async fn the_next_batch_is_claimed_while_the_last_of_one_wait_for_slots_and_no_more() {
    let mut stage = Stage::new(options().confirm_window(8).lease(SOON * 10)).await;
    stage.first_look().await;
    stage.backlog("busy", 20).await;

    for _ in 0..4 {
        // Kept, and never answered.
        std::mem::forget(stage.sent().await);
    }
    stage.until_claimed(12).await;
    // The scanner would claim more in this time if it could.
    let seen = std::time::Instant::now();
    let mut most = 12;
    while seen.elapsed() < Duration::from_millis(300) {
        most = most.max(stage.claimed().await);
    }
    assert_eq!(most, 12);
}

#[tokio::test]
async fn while_a_backlog_waits_hand_over_leaves_a_quarter_to_the_scanner() {
    let mut stage = Stage::new(options().confirm_window(8)).await;
    let mut in_flight = Vec::new();
    for n in 0..8 {
        stage.publish(&format!("early.{n}")).await;
        in_flight.push(stage.sent().await);
    }
    for n in 0..4 {
        stage.publish(&format!("backlog.{n}")).await;
    }
    assert!(
        stage.is_quiet(Duration::from_millis(300)).await,
        "the window is full"
    );

    // One slot is free, and not worth a claim: it is kept for the scanner all the same.
    in_flight.remove(0).confirm(Confirm::Stored);
    stage.until("a slot", |stats| stats.in_flight == 7).await;
    stage.publish("late").await;
    assert!(stage.is_quiet(Duration::from_millis(200)).await);

    in_flight.remove(0).confirm(Confirm::Stored);
    for _ in 0..2 {
        let sent = stage.sent().await;
        assert!(sent.topic().starts_with("backlog."), "{}", sent.topic());
        in_flight.push(sent);
    }
}
