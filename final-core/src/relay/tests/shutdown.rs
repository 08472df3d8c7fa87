//! The end of the way out.

use std::time::Duration;

use sqlx::{Connection, Sqlite};

use super::scripted::{SOON, Stage, options};
use crate::{Bus, Router, broker::Confirm};

#[tokio::test]
async fn shutdown_waits_for_answers_and_releases_what_has_none() {
    let options = options().lease(SOON * 10);
    let mut stage = Stage::new(options.clone().shutdown_timeout(Duration::from_millis(800))).await;
    stage.publish("placed").await;
    stage.publish("placed").await;
    stage.sent().await.confirm(Confirm::Stored);
    let unanswered = stage.sent().await;

    let shutdown = stage.bus.shutdown().await;
    assert!(
        matches!(shutdown, Err(crate::Error::Timeout { .. })),
        "{shutdown:?}"
    );

    // Its lease was released, so the next instance need not wait for it.
    let mut next = stage.another(options).await;
    next.sent().await.confirm(Confirm::Stored);
    drop(unanswered);
}

#[tokio::test]
async fn a_start_that_is_under_way_is_shut_down_when_it_has_ended() {
    let stage = Stage::new(options()).await;
    let bus = stage.unstarted(options()).await;
    let (start, shutdown, lock) = between(&stage, &bus).await;
    lock.rollback().await.unwrap();

    start.await.unwrap().unwrap();
    shutdown.await.unwrap().unwrap();
    let stats = bus.stats().await;
    assert!(matches!(stats, Err(crate::Error::ShutDown)), "{stats:?}");
}

#[tokio::test]
async fn a_start_that_does_not_end_in_time_is_cut_short_by_the_shutdown() {
    let stage = Stage::new(options()).await;
    let bus = stage
        .unstarted(options().shutdown_timeout(Duration::from_secs(2)))
        .await;
    let (start, shutdown, lock) = between(&stage, &bus).await;

    let shutdown = shutdown.await.unwrap();
    assert!(
        matches!(
            shutdown,
            Err(crate::Error::Timeout {
                what: "the start",
                ..
            })
        ),
        "{shutdown:?}"
    );
    let start = start.await.unwrap();
    assert!(matches!(start, Err(crate::Error::ShutDown)), "{start:?}");
    lock.rollback().await.unwrap();
}

type Task = tokio::task::JoinHandle<Result<(), crate::Error>>;

/// A shutdown of a bus that is starting: the start waits for the transaction, and the shutdown for it.
async fn between(
    stage: &Stage,
    bus: &Bus<Sqlite>,
) -> (Task, Task, sqlx::Transaction<'static, Sqlite>) {
    let lock = stage.bus.begin().await.unwrap();
    let mut start = {
        let bus = bus.clone();
        tokio::spawn(async move { bus.start(Router::new()).await })
    };
    let mut shutdown = {
        let bus = bus.clone();
        // The bus has begun its start once the task has run for the first time.
        tokio::task::yield_now().await;
        tokio::spawn(async move { bus.shutdown().await })
    };
    let ended = async {
        tokio::select! { _ = &mut start => {}, _ = &mut shutdown => {} }
    };
    let ended = tokio::time::timeout(Duration::from_millis(100), ended).await;
    assert!(ended.is_err(), "neither waits");
    (start, shutdown, lock)
}

#[tokio::test]
async fn what_is_published_after_the_shutdown_is_left_to_the_next_instance() {
    let mut stage = Stage::new(options().lease(SOON * 10)).await;
    stage.bus.shutdown().await.unwrap();
    stage.publish("placed").await;

    assert!(stage.is_quiet(Duration::from_millis(100)).await);
    // The record is not leased; otherwise the next instance would have to wait.
    let mut next = stage.another(options()).await;
    next.sent().await.confirm(Confirm::Stored);
    next.until("acked", |stats| stats.pending == 0).await;
}

#[tokio::test]
async fn nothing_more_is_claimed_once_the_shutdown_has_begun() {
    let mut stage = Stage::new(options().confirm_window(8).lease(SOON * 10)).await;
    stage.first_look().await;
    stage.backlog("placed", 20).await;
    let mut in_flight = Vec::new();
    for _ in 0..4 {
        in_flight.push(stage.sent().await);
    }
    // Two of the first six wait for a slot, and the next six are claimed ahead.
    stage.until_claimed(12).await;
    let bus = stage.bus.clone();
    let shutdown = tokio::spawn(async move { bus.shutdown().await });
    let relay = stage.bus.relay();
    eventually("the end of taking", || !relay.is_ready()).await;

    for sent in in_flight {
        sent.confirm(Confirm::Stored);
    }
    shutdown.await.unwrap().unwrap();
    assert!(stage.is_quiet(Duration::from_millis(1)).await);
    assert_eq!(stage.live_claims().await, 0);
    // The batch claimed ahead is released too, so the next instance need not wait for a lease.
    let mut next = stage.another(options()).await;
    assert_eq!(next.bus.stats().await.unwrap().pending, 16);
    for _ in 0..16 {
        next.sent().await.confirm(Confirm::Stored);
    }
}

/// A message that has reserved before the shutdown is handed over, confirmed and acked during it.
#[tokio::test]
async fn shutdown_waits_for_a_write_under_way() {
    let mut stage = Stage::new(options()).await;
    let relay = stage.bus.relay();
    let mut other = relay.outbox.caller().acquire().await.unwrap();
    let other_writes = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let bus = stage.bus.clone();
    let publish = tokio::spawn(async move { bus.publish("placed", "payload").await });
    eventually("a reserved slot", || relay.window.in_flight() == 1).await;

    let bus = stage.bus.clone();
    let shutdown = tokio::spawn(async move { bus.shutdown().await });
    eventually("the end of taking", || !relay.is_ready()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!shutdown.is_finished(), "the INSERT is not done yet");
    other_writes.rollback().await.unwrap();

    publish.await.unwrap().unwrap();
    stage.sent().await.confirm(Confirm::Stored);
    shutdown.await.unwrap().unwrap();
    let next = stage.another(options()).await;
    assert_eq!(next.bus.stats().await.unwrap().pending, 0);
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(SOON, wait).await;
    assert!(in_time.is_ok(), "not so in time: {what}");
}
