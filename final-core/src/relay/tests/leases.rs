//! Leases: which process a record belongs to, and for how long.

use std::time::Duration;

use super::scripted::{Stage, options};
use crate::{Error, Router, broker::Confirm};

const LEASE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_record_that_waits_for_its_confirm_stays_ours() {
    // A third of it has to be enough for a renewal on a machine with other work.
    let lease = Duration::from_secs(4);
    let mut one = Stage::new(options().lease(lease)).await;
    one.publish("placed").await;
    let sent = one.sent().await;
    let mut two = one
        .another(options().lease(lease).scan_interval(lease / 2))
        .await;

    assert!(
        two.is_quiet(lease * 2).await,
        "it was taken over from a live owner"
    );
    sent.confirm(Confirm::Stored);
    one.until("acked", |stats| stats.pending == 0).await;
}

#[tokio::test]
async fn a_dead_instances_record_is_taken_over_when_its_lease_is_over() {
    let mut dead = Stage::new(options().lease(LEASE)).await;
    dead.publish("placed").await;
    let held = dead.sent().await;
    let mut survivor = dead.another(options().lease(LEASE)).await;
    // Dropped without a shutdown, the bus ends its tasks where they are.
    dead.bus = survivor.bus.clone();

    // The scanner knows when the lease ends; its interval would be far too late.
    survivor.sent().await.confirm(Confirm::Stored);
    survivor.until("acked", |stats| stats.pending == 0).await;
    drop(held);
}

#[tokio::test]
async fn a_dead_instances_claim_is_taken_over_when_it_has_run_out() {
    let mut dead = Stage::new(options().lease(LEASE)).await;
    dead.first_look().await;
    dead.backlog("placed", 3).await;
    let held = [dead.sent().await, dead.sent().await, dead.sent().await];
    let mut survivor = dead.another(options().lease(LEASE)).await;
    dead.bus = survivor.bus.clone();

    for _ in 0..3 {
        survivor.sent().await.confirm(Confirm::Stored);
    }
    survivor.until("acked", |stats| stats.pending == 0).await;
    drop(held);
}

#[tokio::test]
async fn a_message_is_not_written_after_its_lease() {
    let mut stage = Stage::new(options().lease(LEASE)).await;
    stage.publish("placed").await;
    let late = stage.sent().await;
    // A process that stands still renews nothing, and the clock goes on.
    stage.bus.stop_renewing();
    tokio::time::sleep(LEASE * 2).await;

    assert!(late.into_sending().is_none());
}

/// The lease was over once, while the process or its clock stood still, and another instance has the record.
#[tokio::test]
async fn a_record_that_is_anothers_is_not_taken_as_renewed_together_with_those_that_are() {
    let lease = Duration::from_secs(4);
    let mut stage = Stage::new(options().lease(lease)).await;
    let mut sent = Vec::new();
    for _ in 0..3 {
        stage.publish("placed").await;
        sent.push(stage.sent().await);
    }
    let first = "UPDATE final_shop_outbox SET claimed_by = x'07', available_at = available_at + 3600000 \
        WHERE message_id = (SELECT MIN(message_id) FROM final_shop_outbox)";
    stage.run(first).await;
    tokio::time::sleep(lease * 2).await;

    let written = sent.into_iter().map(|one| one.into_sending().is_some());
    assert_eq!(Vec::from_iter(written), [false, true, true]);
}

#[tokio::test]
async fn purging_is_refused_while_another_instance_holds_leases() {
    let mut one = Stage::new(options()).await;
    one.publish("placed").await;
    let sent = one.sent().await;

    let two = one.unstarted(options().purge_on_startup(true)).await;
    let refused = two.start(Router::new()).await;
    assert!(
        matches!(refused, Err(Error::PurgeRefused(_))),
        "{refused:?}"
    );

    sent.confirm(Confirm::Stored);
    one.until("acked", |stats| stats.pending == 0).await;
    two.start(Router::new()).await.unwrap();
}
