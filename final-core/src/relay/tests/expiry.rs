//! Time to live: how much is left of it, and when it is over.

use std::time::Duration;

use super::scripted::{SOON, Stage, options};
use crate::broker::{Confirm, LinkState};

const WAIT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn what_is_handed_over_takes_its_time_to_live_along() {
    let mut stage = Stage::new(options()).await;
    let publish = stage.bus.publish("offer", "payload").ttl(SOON);
    publish.await.unwrap();
    let sent = stage.sent().await;
    tokio::time::sleep(WAIT).await;

    let sending = sent.into_sending().unwrap();
    let left = sending.expires_in().unwrap();
    assert!(left > Duration::ZERO && left <= SOON - WAIT, "{left:?}");
    sending.confirm(Confirm::Stored);
}

#[tokio::test]
async fn what_a_scan_found_takes_what_is_left_of_its_time_to_live_along() {
    let mut stage = Stage::new(options()).await;
    stage.state.send(LinkState::Away).unwrap();
    let publish = stage.bus.publish("offer", "payload").ttl(SOON);
    publish.await.unwrap();
    tokio::time::sleep(WAIT).await;
    stage.state.send(LinkState::Ready).unwrap();

    let sending = stage.sent().await.into_sending().unwrap();
    let left = sending.expires_in().unwrap();
    assert!(left > Duration::ZERO && left <= SOON - WAIT, "{left:?}");
    sending.confirm(Confirm::Stored);
}

/// The window has room for one of the two messages.
#[tokio::test]
async fn what_a_scan_found_loses_of_its_time_to_live_while_it_waits_for_a_slot() {
    let mut stage = Stage::new(options().confirm_window(2)).await;
    stage.first_look().await;
    stage.backlog_for("offer", 2, Some(SOON)).await;
    let first = stage.sent().await;
    tokio::time::sleep(WAIT).await;
    first.confirm(Confirm::Stored);

    let sending = stage.sent().await.into_sending().unwrap();
    let left = sending.expires_in().unwrap();
    assert!(left > Duration::ZERO && left <= SOON - WAIT, "{left:?}");
    sending.confirm(Confirm::Stored);
}

#[tokio::test]
async fn what_expires_on_its_way_is_removed_and_counted() {
    let mut stage = Stage::new(options()).await;
    let publish = stage.bus.publish("offer", "payload").ttl(WAIT);
    publish.await.unwrap();
    let sent = stage.sent().await;
    tokio::time::sleep(WAIT).await;

    assert!(sent.into_sending().is_none());
    stage
        .until("expired", |stats| stats.expired == 1 && stats.pending == 0)
        .await;
}

#[tokio::test]
async fn what_expires_while_its_topic_is_parked_is_no_probe() {
    let mut stage = Stage::new(options()).await;
    let publish = stage.bus.publish("nobody", "payload").ttl(WAIT * 2);
    publish.await.unwrap();
    stage.sent().await.confirm(Confirm::Unroutable);

    stage
        .until("expired", |stats| {
            stats.expired == 1 && stats.pending == 0 && stats.parked_topics == 0
        })
        .await;
    assert!(stage.is_quiet(WAIT).await);
}
