//! Claims of the scanner, from their beginning to their end.

use std::time::{Duration, Instant};

use super::scripted::{SOON, Stage, options};
use crate::broker::Confirm;

#[tokio::test]
async fn a_claim_is_finished_when_the_last_of_its_records_is_settled() {
    let mut stage = Stage::new(options()).await;
    stage.first_look().await;
    stage.backlog("placed", 3).await;
    let mut in_flight = Vec::new();
    for _ in 0..3 {
        in_flight.push(stage.sent().await);
    }
    assert_eq!(stage.live_claims().await, 1);

    in_flight.remove(0).confirm(Confirm::Stored);
    in_flight.remove(0).confirm(Confirm::Lost);
    // The lost record is released, claimed again, and sent again.
    in_flight.push(stage.sent().await);
    stage.until("one acked", |stats| stats.acked == 1).await;
    assert_eq!(stage.live_claims().await, 2);

    for sent in in_flight {
        sent.confirm(Confirm::Stored);
    }
    stage.until("all acked", |stats| stats.pending == 0).await;
    let start = Instant::now();
    while stage.live_claims().await > 0 {
        assert!(start.elapsed() < SOON, "it lives on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A record that is committed late can stand in the order before records that are claimed already.
#[tokio::test]
async fn what_a_claim_has_hidden_is_sent_as_soon_as_that_is_finished() {
    let mut stage = Stage::new(options().lease(SOON * 10)).await;
    stage.first_look().await;
    stage.insert_one("first").await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    stage.insert_one("last").await;
    stage.bus.relay().ring();
    let (first, last) = (stage.sent().await, stage.sent().await);
    stage.insert_one("late").await;
    stage
        .run(
            "UPDATE final_shop_outbox SET available_at = \
                 (SELECT min(available_at) + 1 FROM final_shop_outbox) WHERE topic = 'late'",
        )
        .await;
    stage.bus.relay().ring();
    assert!(stage.is_quiet(Duration::from_millis(200)).await);

    first.confirm(Confirm::Stored);
    last.confirm(Confirm::Stored);

    stage.sent().await.confirm(Confirm::Stored);
    stage.until("all acked", |stats| stats.pending == 0).await;
}

/// The record in flight is due again in the table, as after the process stood still.
#[tokio::test]
async fn what_is_still_in_flight_is_not_claimed_over_and_over() {
    let mut stage = Stage::new(options()).await;
    stage.publish("placed").await;
    let sent = stage.sent().await;
    stage
        .run("UPDATE final_shop_outbox SET available_at = available_at - 3600000")
        .await;
    let begin = Instant::now();
    let before = stage.bus.stats().await.unwrap().relay_statements;
    stage.bus.relay().ring();
    stage
        .until("a look", |stats| stats.relay_statements >= before + 3)
        .await;

    assert!(stage.is_quiet(Duration::from_secs(1)).await);

    let statements = stage.bus.stats().await.unwrap().relay_statements - before;
    let took = begin.elapsed();
    assert!(
        (statements as f64) < 20.0 * took.as_secs_f64(),
        "{statements} in {took:?}"
    );
    sent.confirm(Confirm::Stored);
    stage.until("acked", |stats| stats.pending == 0).await;
}

/// A long backlog leaves no time for another pass. Records that another instance left behind are found all the same.
#[tokio::test]
async fn what_a_dead_instance_had_claimed_is_sent_in_the_midst_of_a_backlog() {
    const LEASE: Duration = Duration::from_millis(500);
    /// How long its claim lives. SQLite's clock has milliseconds.
    const CLAIMED: Duration = Duration::from_millis(300 - 5);
    let options = options().confirm_window(8).lease(LEASE);
    let mut stage = Stage::new(options).await;
    stage.first_look().await;
    stage.insert_one("left.behind").await;
    let claimed = Instant::now();
    stage
        .run(
            "INSERT INTO final_shop_claims (number, owner, live_until, first_at, first_id, last_at, last_id) \
             SELECT 1, x'00', unixepoch('subsec') * 1000 + 300, available_at, message_id, available_at, message_id \
             FROM final_shop_outbox",
        )
        .await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    stage.backlog("backlog", 400).await;

    for sent in 0.. {
        let next = stage.sent().await;
        let is_it = next.topic() == "left.behind";
        next.confirm(Confirm::Stored);
        if is_it {
            assert!(claimed.elapsed() >= CLAIMED, "{:?}", claimed.elapsed());
            assert!(sent < 380, "after {sent}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(8)).await;
    }
}
