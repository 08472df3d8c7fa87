//! Changes that the table refuses: no other record, lease or topic waits for them.

use std::time::{Duration, Instant};

use super::scripted::{SOON, Stage, options};
use crate::broker::{Confirm, LinkState};

impl Stage {
    /// Has the table refuse an update where a condition is met.
    async fn refuse_update(&self, condition: &str) {
        self.trigger(&format!(
            "BEFORE UPDATE ON final_shop_outbox WHEN {condition} BEGIN SELECT RAISE(ABORT, 'no'); END"
        ))
        .await;
    }

    async fn trigger(&self, what: &str) {
        let pool = self.bus.relay().outbox.caller().clone();
        let create = sqlx::AssertSqlSafe(format!("CREATE TRIGGER guard {what}"));
        sqlx::query(create).execute(&pool).await.unwrap();
    }

    /// The topics of the next two messages, which are stored.
    async fn two_topics(&mut self) -> [String; 2] {
        let mut topics = [String::new(), String::new()];
        for topic in &mut topics {
            let sending = self.sent().await.into_sending().unwrap();
            sending.message().topic().clone_into(topic);
            sending.confirm(Confirm::Stored);
        }
        topics.sort();
        topics
    }

    /// Waits until the table has so many records.
    async fn has_records(&self, wanted: i64) {
        let pool = self.bus.relay().outbox.caller().clone();
        let start = Instant::now();
        loop {
            let count = sqlx::query_scalar("SELECT COUNT(*) FROM final_shop_outbox");
            let records: i64 = count.fetch_one(&pool).await.unwrap();
            if records == wanted {
                return;
            }
            assert!(start.elapsed() < SOON, "{records} records");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn allow(&self) {
        self.run("DROP TRIGGER guard").await;
    }
}

#[tokio::test]
async fn a_lease_that_cannot_be_renewed_takes_no_other_with_it() {
    // A third of it has to be enough for a renewal on a machine with other work.
    let lease = Duration::from_secs(4);
    let mut stage = Stage::new(options().lease(lease)).await;
    let mut sent = Vec::new();
    for topic in ["placed", "kept", "placed"] {
        stage.publish(topic).await;
        sent.push(stage.sent().await);
    }
    // Our own scanner would claim again what runs out.
    stage.state.send(LinkState::Away).unwrap();
    stage.refuse_update("OLD.topic = 'kept'").await;
    tokio::time::sleep(lease * 2).await;

    let written = sent.into_iter().map(|one| one.into_sending().is_some());
    assert_eq!(Vec::from_iter(written), [true, false, true]);
}

#[tokio::test]
async fn a_parked_topic_that_cannot_be_probed_keeps_no_other_back() {
    let mut stage = Stage::new(options()).await;
    stage.first_look().await;
    stage.refuse_update("OLD.topic = 'kept'").await;
    for topic in ["kept", "nobody"] {
        stage.parked_by_another(topic).await;
        stage.bus.relay().parking.found(topic);
    }
    stage.backlog("placed", 1).await;

    assert_eq!(stage.two_topics().await, ["nobody", "placed"]);
}

/// Its records are then probes, one after the other.
#[tokio::test]
async fn a_topic_whose_records_cannot_be_released_keeps_no_other_back() {
    let mut stage = Stage::new(options()).await;
    stage.first_look().await;
    // A probe is claimed, and what is released is not.
    stage
        .refuse_update("OLD.status = 1 AND NEW.status = 0 AND NEW.claimed_by IS NULL")
        .await;
    for _ in 0..2 {
        stage.parked_by_another("nobody").await;
    }
    stage.bus.relay().parking.found("nobody");
    stage.bus.relay().ring();

    stage.sent().await.confirm(Confirm::Stored);
    tokio::time::sleep(Duration::from_millis(100)).await;
    stage.backlog("placed", 1).await;
    assert_eq!(stage.two_topics().await, ["nobody", "placed"]);
    stage.until("all acked", |stats| stats.acked == 3).await;
}

#[tokio::test]
async fn an_expired_record_that_the_table_keeps_keeps_no_other_back() {
    let mut stage = Stage::new(options()).await;
    stage.state.send(LinkState::Away).unwrap();
    stage
        .trigger(
            "BEFORE DELETE ON final_shop_outbox WHEN OLD.topic = 'kept' \
             BEGIN SELECT RAISE(ABORT, 'no'); END",
        )
        .await;
    for topic in ["gone", "kept", "gone"] {
        stage
            .backlog_for(topic, 1, Some(Duration::from_millis(1)))
            .await;
    }
    stage.backlog("placed", 1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    stage.state.send(LinkState::Ready).unwrap();

    stage.sent().await.confirm(Confirm::Stored);
    stage
        .until("all but one", |stats| {
            (stats.expired, stats.acked, stats.pending) == (2, 1, 1)
        })
        .await;
}

/// Sent again it would be a repeat with every lease.
#[tokio::test]
async fn a_record_that_a_trigger_keeps_in_silence_is_not_sent_again() {
    let lease = Duration::from_secs(4);
    let mut stage = Stage::new(options().lease(lease)).await;
    stage
        .trigger(
            "BEFORE DELETE ON final_shop_outbox WHEN OLD.topic = 'kept' \
             BEGIN SELECT RAISE(IGNORE); END",
        )
        .await;
    for topic in ["placed", "kept", "placed"] {
        stage.publish(topic).await;
    }
    for _ in 0..3 {
        stage.sent().await.confirm(Confirm::Stored);
    }
    stage.until("one is kept", |stats| stats.acked == 2).await;

    assert!(stage.is_quiet(lease * 2).await);
    stage.allow().await;
    stage.until("none", |stats| stats.pending == 0).await;
}

/// They are the oldest, and more than the first halves of a batch.
#[tokio::test]
async fn acked_records_that_the_table_keeps_keep_no_other() {
    let keep = Duration::from_millis(1);
    let mut stage = Stage::new(options().retention(keep)).await;
    stage
        .trigger(
            "BEFORE DELETE ON final_shop_outbox WHEN OLD.topic = 'kept' \
             BEGIN SELECT RAISE(ABORT, 'no'); END",
        )
        .await;
    for topic in ["kept", "placed"] {
        for _ in 0..20 {
            stage.publish(topic).await;
            stage.sent().await.confirm(Confirm::Stored);
        }
    }

    stage.has_records(20).await;
    stage.allow().await;
    stage.has_records(0).await;
}
