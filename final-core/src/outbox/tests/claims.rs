//! Claims as rows of their own.

use std::time::Duration;

use uuid::Uuid;

use super::{
    House, Outbox,
    house::{LEASE, ids},
};
use crate::{outbox::claims::Stretch, runtime::counter::Counter};

pub(super) async fn a_claim_writes_one_row_and_no_record<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    outbox.fill("order.placed", 500).await;

    assert_eq!(outbox.claim(1_000).await.len(), 500);

    assert_eq!(outbox.number("SELECT COUNT(*) FROM {c}").await, 1);
    let touched = "SELECT COUNT(*) FROM {t} WHERE available_at <> due_at";
    assert_eq!(outbox.number(touched).await, 0);
}

pub(super) async fn what_is_left_of_a_finished_claim_is_due<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let all = outbox.fill("order.placed", 3).await;
    let claim = outbox.claim_for(outbox.me, None, 10, LEASE).await.unwrap();
    DB::delete(&outbox.relay, &outbox.s, &all[..1])
        .await
        .unwrap();
    let (relay, s, other) = (&outbox.relay, &outbox.s, Uuid::now_v7());
    let by_another = DB::finish(relay, s, &[claim.number], other).await;
    assert_eq!(by_another.unwrap(), 0);
    assert!(outbox.claim(10).await.is_empty());

    DB::finish(&outbox.relay, &outbox.s, &[claim.number], outbox.me)
        .await
        .unwrap();

    // Whatever the clock says from now on.
    let live = "SELECT COUNT(*) FROM {c} WHERE live_until >= first_at";
    assert_eq!(outbox.number(live).await, 0);
    assert_eq!(ids(&outbox.claim(10).await), all[1..]);
}

pub(super) async fn a_claim_that_has_run_out_gives_no_rights<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let all = outbox.fill("order.placed", 2).await;
    let (relay, s, me, short) = (
        &outbox.relay,
        &outbox.s,
        outbox.me,
        Duration::from_millis(100),
    );
    outbox.claim_for(me, None, 10, short).await.unwrap();
    // One of them by itself.
    DB::renew(relay, s, &all[..1], me, short).await.unwrap();
    tokio::time::sleep(short * 2).await;

    let changed = [
        DB::renew(relay, s, &all, me, LEASE).await,
        DB::put_back(relay, s, &all, me, LEASE, "no", true).await,
        DB::park(relay, s, &all, me, "no").await,
    ];

    assert_eq!(changed.map(Result::unwrap), [0; 3]);
    let mut left = ids(&outbox.claim_as(Uuid::now_v7(), 10).await);
    left.sort();
    assert_eq!(left, all);
}

pub(super) async fn of_two_who_have_seen_the_same_claims_one_can_write_the_next<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    outbox.fill("order.placed", 4).await;
    let claim = outbox.claim_for(outbox.me, None, 2, LEASE).await.unwrap();
    let number = claim.number;
    let claimed = outbox.read(claim).await;
    let (first, last) = (claimed[0].position, claimed[1].position);
    let reserve = |seen| {
        let (owner, stretch) = (Uuid::now_v7(), Stretch { first, last });
        DB::reserve(&outbox.relay, &outbox.s, seen, owner, LEASE, stretch)
    };

    assert!(!reserve(number - 1).await.unwrap(), "it is not the last");
    let (one, two) = tokio::join!(reserve(number), reserve(number));
    assert_eq!(u8::from(one.unwrap()) + u8::from(two.unwrap()), 1);
    assert!(!reserve(number + 2).await.unwrap(), "it is not there");
}

pub(super) async fn claims_go_around_those_of_others<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let all = outbox.fill("order.placed", 6).await;
    let claim = |limit| outbox.claim_for(outbox.me, None, limit, LEASE);
    let first = claim(2).await.unwrap();
    let second = claim(2).await.unwrap();
    DB::finish(&outbox.relay, &outbox.s, &[first.number], outbox.me)
        .await
        .unwrap();

    let before = claim(10).await.unwrap();
    let behind = claim(10).await.unwrap();

    assert_eq!((before.is_full, behind.is_full), (true, false));
    assert_eq!(ids(&outbox.read(second).await), all[2..4]);
    assert_eq!(ids(&outbox.read(before).await), all[..2]);
    assert_eq!(ids(&outbox.read(behind).await), all[4..]);
    assert!(claim(10).await.is_none());
}

pub(super) async fn between_claims_that_follow_upon_each_other_nobody_looks_again<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let all = outbox.fill("order.placed", 8).await;
    for _ in 0..3 {
        outbox.claim_as(Uuid::now_v7(), 2).await;
    }

    let asked = Counter::default();
    let (relay, s, me) = (&outbox.relay, &outbox.s, outbox.me);
    let claim = DB::claim(relay, s, None, 2, me, LEASE, &asked).await;

    // The claims; what is before them; what is behind them; its own.
    assert_eq!(asked.get(), 4);
    assert_eq!(ids(&outbox.read(claim.unwrap()).await), all[6..]);
}

pub(super) async fn claims_that_have_ended_are_forgotten_but_for_the_last_ones<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let all = outbox.fill("order.placed", 200).await;

    for id in &all {
        let claim = outbox.claim_for(outbox.me, None, 1, LEASE).await.unwrap();
        let number = claim.number;
        assert_eq!(ids(&outbox.read(claim).await), [*id]);
        DB::delete(&outbox.relay, &outbox.s, &[*id]).await.unwrap();
        DB::finish(&outbox.relay, &outbox.s, &[number], outbox.me)
            .await
            .unwrap();
    }

    let kept = outbox.number("SELECT COUNT(*) FROM {c}").await;
    assert!((64..=128).contains(&kept), "{kept}");
    assert_eq!(outbox.number("SELECT MAX(number) FROM {c}").await, 200);
}
