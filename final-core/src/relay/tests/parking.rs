//! Parked topics: topics to which nothing can be sent now.

use std::time::Duration;

use super::scripted::{SOON, Stage, options, pool, staged};
use crate::broker::{Confirm, Isolation};

/// Without parking, a million returned messages would be a hot loop.
#[tokio::test]
async fn a_parked_topic_gets_one_probe_a_second() {
    for reason in [
        Confirm::Unroutable,
        Confirm::NoAnswer,
        Confirm::Denied("403".into()),
    ] {
        let mut stage = Stage::new(options()).await;
        for _ in 0..20 {
            stage.publish("nobody").await;
        }
        for _ in 0..20 {
            stage.sent().await.confirm(reason.clone());
        }
        stage.until("parked", |stats| stats.unroutable == 20).await;

        // A message that is published meanwhile is not handed over.
        stage.publish("nobody").await;
        let probe = stage.sent().await;
        assert_eq!(probe.isolation(), Isolation::Alone);
        assert!(
            stage.is_quiet(Duration::from_millis(300)).await,
            "one probe at a time"
        );
        probe.confirm(reason);

        let probe = stage.sent().await;
        probe.confirm(Confirm::Stored);
        for _ in 0..20 {
            stage.sent().await.confirm(Confirm::Stored);
        }
        stage
            .until("all acked", |stats| {
                stats.acked == 21 && stats.parked_topics == 0
            })
            .await;
    }
}

/// The COMMIT took so long that the topic was opened and its parked records were released before it.
#[tokio::test]
async fn what_is_committed_as_parked_after_its_topic_has_opened_is_sent_at_once() {
    let mut stage = Stage::new(options()).await;
    stage.publish("nobody").await;
    stage.sent().await.confirm(Confirm::Unroutable);
    stage
        .until("parked", |stats| stats.parked_topics == 1)
        .await;
    let (relay, staged) = (stage.bus.relay(), [staged("nobody")]);
    let reserved = relay.reserve(&staged);
    assert!(reserved.records[0].parked);
    stage.sent().await.confirm(Confirm::Stored);
    stage
        .until("open", |stats| stats.parked_topics + stats.pending == 0)
        .await;
    // The topic's parked records are released meanwhile.
    assert!(stage.is_quiet(Duration::from_millis(300)).await);

    stage.insert(&reserved.records).await;
    relay.hand_over(reserved);
    stage.sent().await.confirm(Confirm::Stored);
    stage.until("acked", |stats| stats.acked == 2).await;
}

#[tokio::test]
async fn a_parked_topic_is_probed_while_a_backlog_is_sent() {
    let mut stage = Stage::new(options().confirm_window(8)).await;
    stage.first_look().await;
    stage.publish("nobody").await;
    stage.sent().await.confirm(Confirm::Unroutable);
    stage
        .until("parked", |stats| stats.parked_topics == 1)
        .await;
    stage.backlog("busy", 40).await;

    let start = std::time::Instant::now();
    loop {
        let sent = stage.sent().await;
        if sent.topic() == "nobody" {
            break;
        }
        assert!(start.elapsed() < SOON, "never probed");
        sent.confirm(Confirm::Stored);
        // The backlog never ends.
        stage.backlog("busy", 1).await;
    }
}

/// The statement that parks a record ends a moment before the record leaves the flight.
#[tokio::test]
async fn a_probe_that_is_still_in_flight_is_followed_by_another() {
    let mut stage = Stage::new(options()).await;
    stage.publish("placed").await;
    let in_flight = stage.sent().await;
    let direct = pool(&stage.file).await;
    let park = "UPDATE final_shop_outbox SET status = 1";
    sqlx::query(park).execute(&direct).await.unwrap();
    stage.bus.relay().parking.found("placed");
    stage.bus.relay().ring();
    stage.until("claimed", |stats| stats.unroutable == 0).await;
    in_flight.confirm(Confirm::Stored);

    stage.publish("placed").await;

    stage.sent().await.confirm(Confirm::Stored);
    stage.until("acked", |stats| stats.acked == 2).await;
}

/// There are more records than one statement makes pending again.
#[tokio::test]
async fn a_topic_that_works_again_gets_all_its_records_however_many() {
    const MANY: u64 = 600;
    let mut stage = Stage::new(options().confirm_window(4_000)).await;
    stage.publish("nobody").await;
    stage.sent().await.confirm(Confirm::Unroutable);
    stage
        .until("parked", |stats| stats.parked_topics == 1)
        .await;
    let mut txbus = stage.bus.with_tx(stage.bus.begin().await.unwrap());
    for _ in 1..MANY {
        txbus.publish("nobody", "payload").await.unwrap();
    }
    txbus.commit().await.unwrap();

    for _ in 0..MANY {
        stage.sent().await.confirm(Confirm::Stored);
    }
    stage.until("all acked", |stats| stats.acked == MANY).await;
}

#[tokio::test]
async fn a_topic_that_an_earlier_life_has_parked_is_probed_after_the_start() {
    let before = Stage::new(options()).await;
    before.first_look().await;
    before.parked_by_another("nobody").await;

    let mut stage = before.another(options()).await;
    let probe = stage.sent().await;
    assert_eq!(probe.isolation(), Isolation::Alone);
    probe.confirm(Confirm::Stored);
    stage.until("acked", |stats| stats.pending == 0).await;
}

#[tokio::test]
async fn a_probe_that_told_nothing_is_followed_by_another() {
    let mut stage = Stage::new(options()).await;
    stage.publish("nobody").await;
    stage.sent().await.confirm(Confirm::Unroutable);

    for nothing in [Confirm::Lost, Confirm::Refused] {
        let probe = stage.sent().await;
        assert_eq!(probe.isolation(), Isolation::Alone);
        probe.confirm(nothing);
    }

    stage.sent().await.confirm(Confirm::Stored);
    stage.until("acked", |stats| stats.pending == 0).await;
}

#[tokio::test]
async fn a_record_that_becomes_due_while_its_topic_is_parked_is_parked_too() {
    let mut stage = Stage::new(options()).await;
    stage.publish("nobody").await;
    stage.sent().await.confirm(Confirm::Unroutable);
    stage
        .until("parked", |stats| stats.parked_topics == 1)
        .await;
    let late = stage.bus.publish("nobody", "payload");
    late.delay(Duration::from_millis(200)).await.unwrap();

    for _ in 0..2 {
        let probe = stage.sent().await;
        assert_eq!(probe.isolation(), Isolation::Alone, "only probes are sent");
        probe.confirm(Confirm::Unroutable);
    }
    stage
        .until("both parked", |stats| stats.unroutable == 2)
        .await;
}
