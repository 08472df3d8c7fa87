//! A database that fails while there is work for it.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use sqlx::AssertSqlSafe;

use super::scripted::{Stage, options, pool};
use crate::broker::Confirm;

/// A parked topic is to be probed every second, so there always is a reason to look.
#[tokio::test]
async fn a_database_that_fails_is_asked_now_and_then() {
    let mut stage = Stage::new(options()).await;
    stage.publish("placed").await;
    stage.sent().await.confirm(Confirm::Unroutable);
    stage.until("parked", |stats| stats.unroutable == 1).await;
    let (begin, before) = (Instant::now(), stage.bus.stats().await.unwrap());

    outage(&stage, || ()).await;

    let after = stage.bus.stats().await.unwrap();
    let (asked, took) = (
        after.relay_statements - before.relay_statements,
        begin.elapsed(),
    );
    assert!(
        asked as f64 <= 12.0 * took.as_secs_f64(),
        "{asked} statements in {took:?}"
    );
    stage.sent().await.confirm(Confirm::Stored);
    stage.until("acked", |stats| stats.pending == 0).await;
}

#[tokio::test]
async fn every_parked_topic_is_probed_after_the_database_failed() {
    let mut stage = Stage::new(options()).await;
    let mut sent = Vec::new();
    for topic in ["placed", "paid", "sent"] {
        stage.publish(topic).await;
        sent.push(stage.sent().await);
    }
    // Parked together, so that they are probed together.
    sent.into_iter()
        .for_each(|sent| sent.confirm(Confirm::Unroutable));
    stage.until("parked", |stats| stats.unroutable == 3).await;

    outage(&stage, || ()).await;

    let mut probed = HashSet::new();
    while probed.len() < 3 {
        let probe = stage.sent().await;
        probed.insert(probe.topic().to_owned());
        probe.confirm(Confirm::Stored);
    }
    stage.until("acked", |stats| stats.pending == 0).await;
}

#[tokio::test]
async fn every_topic_that_works_again_is_released_after_the_database_failed() {
    let mut stage = Stage::new(options()).await;
    let topics = ["placed", "paid", "sent"];
    for topic in topics {
        for _ in 0..2 {
            stage.publish(topic).await;
        }
    }
    for _ in 0..6 {
        stage.sent().await.confirm(Confirm::Unroutable);
    }
    stage.until("parked", |stats| stats.unroutable == 6).await;
    let mut probes = Vec::new();
    for _ in topics {
        probes.push(stage.sent().await);
    }

    let works_again = || {
        probes
            .drain(..)
            .for_each(|probe| probe.confirm(Confirm::Stored))
    };
    outage(&stage, works_again).await;

    for _ in topics {
        stage.sent().await.confirm(Confirm::Stored);
    }
    stage.until("acked", |stats| stats.acked == 6).await;
}

/// Takes the table away for longer than the pause between two probes.
async fn outage(stage: &Stage, meanwhile: impl FnOnce()) {
    let rename = async |from: &str, to: &str| {
        let sql = format!("ALTER TABLE {from} RENAME TO {to}");
        let direct = pool(&stage.file).await;
        sqlx::query(AssertSqlSafe(sql))
            .execute(&direct)
            .await
            .unwrap();
    };
    rename("final_shop_outbox", "away").await;
    meanwhile();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    rename("away", "final_shop_outbox").await;
}
