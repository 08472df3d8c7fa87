//! A COMMIT that was not answered.

use std::time::Duration;

use super::scripted::{SOON, Stage, options, staged};
use crate::outbox::RecordId;

/// Long enough for the COMMIT to take place before it is over.
const LEASE: Duration = Duration::from_secs(5);

/// The server may still be working on the COMMIT when another connection looks for its records.
#[tokio::test]
async fn a_commit_that_takes_place_after_the_look_up_is_found_when_the_lease_is_over() {
    let mut stage = Stage::new(options().lease(LEASE)).await;
    stage.first_look().await;
    let relay = stage.bus.relay();
    let staged = [staged("placed")];
    let reserved = relay.reserve(&staged);
    let id = staged[0].message.id();

    let before = stage.bus.stats().await.unwrap().relay_statements;
    relay.look_up(vec![RecordId::of(id)]).await;
    // The look-up, a claim, and when something is due: the scanner has seen nothing.
    stage
        .until("a look", |stats| stats.relay_statements >= before + 3)
        .await;
    stage.insert(&reserved.records).await;
    drop(reserved);

    let sent = stage.sent().await;
    assert_eq!(sent.into_sending().unwrap().message().id(), id);
}

/// Otherwise a shutdown would wait for the database until its limit.
#[tokio::test]
async fn a_look_up_that_the_database_does_not_answer_ends_with_the_bus() {
    let stage = Stage::new(options()).await;
    let relay = stage.bus.relay();
    relay.outbox.close().await;
    let mut look_up = std::pin::pin!(relay.look_up(vec![RecordId::new()]));
    let tries = tokio::time::timeout(Duration::from_millis(500), look_up.as_mut());
    assert!(tries.await.is_err(), "it tries again");

    relay.stop_taking();

    tokio::time::timeout(SOON, look_up).await.unwrap();
}
