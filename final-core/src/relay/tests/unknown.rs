//! A COMMIT that was not answered.

use std::time::Duration;

use super::scripted::{Stage, options, staged};

/// Long enough for the COMMIT to take place before it is over.
const LEASE: Duration = Duration::from_secs(2);

/// The server may still be at work on the COMMIT when another connection looks for its records.
#[tokio::test]
async fn a_commit_that_takes_place_after_the_look_up_is_found_when_the_lease_is_over() {
    let mut stage = Stage::new(options().lease(LEASE)).await;
    stage.first_look().await;
    let relay = stage.bus.relay();
    let staged = [staged("placed")];
    let reserved = relay.reserve(&staged);
    let id = staged[0].message.id();

    relay.look_up(vec![id.0]).await;
    stage.insert(&reserved.records).await;
    drop(reserved);

    let sent = stage.sent().await;
    assert_eq!(sent.into_sending().unwrap().message().id(), id);
}
