//! Settling: what each answer makes of a record, and of a record that has another owner by now.

use std::time::Duration;

use uuid::Uuid;

use super::{
    House, Outbox,
    house::{LEASE, ids},
};

const NOW: Duration = Duration::ZERO;

pub(super) async fn deleting_asks_nobody_whose_lease_it_is<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let all = outbox.fill("order.placed", 3).await;
    outbox.claim_as(Uuid::now_v7(), 1).await;

    let deleted = DB::delete(&outbox.relay, &outbox.s, &all[..2]).await;

    assert_eq!(deleted.unwrap(), 2);
    assert_eq!(ids(&outbox.claim(10).await), all[2..]);
}

pub(super) async fn what_is_kept_as_acked_is_purged_when_it_is_old<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let all = outbox.fill("order.placed", 3).await;

    let acked = DB::mark_acked(&outbox.relay, &outbox.s, &all)
        .await
        .unwrap();
    let again = DB::mark_acked(&outbox.relay, &outbox.s, &all)
        .await
        .unwrap();

    assert_eq!((acked, again), (3, 0));
    assert!(outbox.claim(10).await.is_empty());
    let purge = |age, limit| DB::purge_acked(&outbox.relay, &outbox.s, age, limit, 0);
    assert_eq!(purge(Duration::from_secs(60), 10).await.unwrap(), 0);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(purge(Duration::from_millis(5), 2).await.unwrap(), 2);
    assert_eq!(purge(Duration::from_millis(5), 2).await.unwrap(), 1);
}

pub(super) async fn another_owner_changes_nothing<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let all = outbox.fill("order.placed", 2).await;
    outbox.claim(10).await;
    let (relay, s, other) = (&outbox.relay, &outbox.s, Uuid::now_v7());

    let changed = [
        DB::renew(relay, s, &all, other, LEASE).await,
        DB::release(relay, s, &all, other, NOW).await,
        DB::put_back(relay, s, &all, other, NOW, "no", true).await,
        DB::park(relay, s, &all, other, "no").await,
        DB::fail(relay, s, &all, other, "no").await,
    ];

    assert_eq!(changed.map(Result::unwrap), [0; 5]);
    assert!(outbox.claim_as(other, 10).await.is_empty());
    assert_eq!(
        DB::release(relay, s, &all, outbox.me, NOW).await.unwrap(),
        2
    );
}

pub(super) async fn a_renewed_lease_lasts_longer<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let all = outbox.fill("order.placed", 1).await;
    // Long enough to renew it before it is over, also on a machine with other work.
    let short = Duration::from_secs(3);
    let claim = outbox.claim_for(outbox.me, None, 1, short).await;
    assert_eq!(outbox.read(claim).await.len(), 1);

    let renewed = DB::renew(&outbox.relay, &outbox.s, &all, outbox.me, LEASE);

    assert_eq!(renewed.await.unwrap(), 1);
    tokio::time::sleep(short).await;
    assert!(outbox.claim_as(Uuid::now_v7(), 10).await.is_empty());
}

pub(super) async fn a_released_record_is_due_again_with_its_attempts_unchanged<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let all = outbox.fill("order.placed", 2).await;
    outbox.claim(10).await;

    let wait = Duration::from_secs(60);
    let release = |ids, wait| DB::release(&outbox.relay, &outbox.s, ids, outbox.me, wait);
    assert_eq!(release(&all[..1], NOW).await.unwrap(), 1);
    assert_eq!(release(&all[1..], wait).await.unwrap(), 1);

    let claimed = outbox.claim_as(Uuid::now_v7(), 10).await;
    assert_eq!(ids(&claimed), all[..1]);
    assert_eq!(claimed[0].record.attempts, 0);
}

pub(super) async fn a_record_put_back_counts_its_attempts_and_faults<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let all = outbox.fill("order.placed", 1).await;
    let reason = format!("nacked\0{}", "ü".repeat(2_000));

    for fault in [false, true] {
        assert_eq!(outbox.claim(1).await.len(), 1);
        let put = DB::put_back(
            &outbox.relay,
            &outbox.s,
            &all,
            outbox.me,
            NOW,
            &reason,
            fault,
        );
        assert_eq!(put.await.unwrap(), 1);
    }

    let record = outbox.claim(1).await.remove(0).record;
    assert_eq!((record.attempts, record.faults), (2, 1));
    let kept = outbox
        .number("SELECT COUNT(*) FROM {t} WHERE last_error LIKE 'nacked üüü%' AND LENGTH(last_error) <= 1024")
        .await;
    assert_eq!(kept, 1);
}

pub(super) async fn a_parked_topic_is_probed_by_one_record_and_then_released<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let all = outbox.fill("nobody.listens", 4).await;
    outbox.fill("somebody.listens", 1).await;
    outbox.claim(10).await;
    let (relay, s, me) = (&outbox.relay, &outbox.s, outbox.me);
    let park = |ids| DB::park(relay, s, ids, me, "no queue");
    let probe = || DB::claim_parked(relay, s, "nobody.listens", me, LEASE);

    assert_eq!(park(&all).await.unwrap(), 4);
    let first = probe().await.unwrap().unwrap();
    assert_eq!(park(&[first.id.0]).await.unwrap(), 1);
    let second = probe().await.unwrap().unwrap();
    assert_eq!(second.attempts, if second.id == first.id { 2 } else { 1 });
    assert_eq!(
        DB::delete(relay, s, &[second.id.0]).await.unwrap(),
        1,
        "the probe was stored"
    );

    let unpark = |limit| DB::unpark(relay, s, "nobody.listens", limit);
    assert_eq!(unpark(2).await.unwrap(), 2);
    assert_eq!(unpark(2).await.unwrap(), 1);
    assert_eq!(outbox.claim(10).await.len(), 3);
    assert!(probe().await.unwrap().is_none());
}

pub(super) async fn a_failed_record_says_why_and_can_be_tried_again<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let all = outbox.fill("order.placed", 3).await;
    outbox.claim(10).await;
    let (relay, s) = (&outbox.relay, &outbox.s);

    let failed = DB::fail(relay, s, &all, outbox.me, "too large").await;

    assert_eq!(failed.unwrap(), 3);
    assert!(outbox.claim(10).await.is_empty());
    let failed = DB::failed(relay, s, 2).await.unwrap();
    assert_eq!(failed.len(), 2);
    assert_eq!(failed[0].id.0, all[0]);
    assert_eq!(failed[0].topic, "order.placed");
    assert_eq!(failed[0].error, "too large");
    assert!(failed[0].age < Duration::from_secs(60));

    let retried = DB::retry_failed(relay, s, Some(&all[..1])).await.unwrap();
    assert_eq!(retried, 1);
    let again = outbox.claim(10).await;
    assert_eq!(ids(&again), all[..1]);
    assert_eq!((again[0].record.attempts, again[0].record.faults), (0, 0));
    assert_eq!(DB::retry_failed(relay, s, None).await.unwrap(), 2);
    assert_eq!(outbox.claim(10).await.len(), 2);
}

pub(super) async fn long_lists_of_ids_are_settled_whole<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let all = outbox.fill("order.placed", 2_100).await;
    assert_eq!(outbox.claim(10_000).await.len(), 2_100);
    let (relay, s) = (&outbox.relay, &outbox.s);

    let mut twice = all.clone();
    twice.extend_from_slice(&all[..100]);
    let renewed = DB::renew(relay, s, &twice, outbox.me, LEASE).await;

    assert_eq!(renewed.unwrap(), 2_100);
    assert_eq!(DB::delete(relay, s, &all).await.unwrap(), 2_100);
}

pub(super) async fn an_empty_list_of_ids_changes_nothing<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    outbox.fill("order.placed", 1).await;
    let (relay, s) = (&outbox.relay, &outbox.s);

    assert_eq!(DB::delete(relay, s, &[]).await.unwrap(), 0);
    assert_eq!(DB::retry_failed(relay, s, Some(&[])).await.unwrap(), 0);
    assert_eq!(outbox.claim(10).await.len(), 1);
}
