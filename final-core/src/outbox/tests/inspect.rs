//! Questions about the table: the backlog, the next due record, failed records.

use std::time::Duration;

use uuid::Uuid;

use super::{
    House, Outbox,
    house::{LEASE, message},
};
use crate::outbox::NewRecord;

pub(super) async fn the_next_due_time_includes_leases_and_delays<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let next = || DB::next_due(&outbox.relay, &outbox.s);
    assert_eq!(next().await.unwrap(), None);

    let message = message("order.placed");
    let delay = Duration::from_secs(60);
    let delayed = NewRecord {
        delay,
        ..NewRecord::plain(&message)
    };
    outbox.insert(&[delayed]).await;
    let wait = next().await.unwrap().unwrap();
    assert!(wait <= delay && wait > delay / 2);

    outbox.fill("order.placed", 1).await;
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(next().await.unwrap(), Some(Duration::ZERO));

    outbox.claim(10).await;
    let wait = next().await.unwrap().unwrap();
    assert!(wait <= LEASE && wait > LEASE / 2);
}

pub(super) async fn the_backlog_counts_each_status_and_the_age_of_the_oldest_that_is_due<
    DB: House,
>() {
    let outbox = Outbox::<DB>::new().await;
    let (relay, s, me) = (&outbox.relay, &outbox.s, outbox.me);
    let empty = DB::backlog(relay, s).await.unwrap();
    assert_eq!((empty.pending(), empty.oldest()), (0, None));

    let later = message("order.placed");
    let delayed = NewRecord {
        delay: Duration::from_secs(60),
        ..NewRecord::plain(&later)
    };
    outbox.insert(&[delayed]).await;
    assert_eq!(DB::backlog(relay, s).await.unwrap().oldest(), None);

    let all = outbox.fill("order.placed", 7).await;
    outbox.claim(10).await;
    DB::park(relay, s, &all[..3], me, "no queue").await.unwrap();
    DB::fail(relay, s, &all[3..5], me, "broken").await.unwrap();
    DB::mark_acked(relay, s, &all[5..6]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;

    let backlog = DB::backlog(relay, s).await.unwrap();
    assert_eq!(
        (backlog.pending(), backlog.unroutable(), backlog.failed()),
        (2, 3, 2)
    );
    let oldest = backlog.oldest().unwrap();
    assert!(oldest >= Duration::from_millis(50) && oldest < Duration::from_secs(30));
}

pub(super) async fn each_parked_topic_is_listed_once<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let mut all = Vec::new();
    for topic in ["b", "a", "B", "c"] {
        all.extend(outbox.fill(topic, 2).await);
    }
    outbox.fill("routable", 1).await;
    outbox.claim(10).await;
    let (relay, s) = (&outbox.relay, &outbox.s);
    assert_eq!(
        DB::parked_topics(relay, s, 10).await.unwrap(),
        Vec::<String>::new()
    );

    DB::park(relay, s, &all, outbox.me, "no queue")
        .await
        .unwrap();

    let mut topics = DB::parked_topics(relay, s, 10).await.unwrap();
    topics.sort();
    assert_eq!(topics, ["B", "a", "b", "c"]);
    assert_eq!(DB::parked_topics(relay, s, 2).await.unwrap().len(), 2);
}

pub(super) async fn live_leases_of_others_are_seen<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    outbox.fill("order.placed", 2).await;
    let others = |owner| DB::has_other_leases(&outbox.relay, &outbox.s, owner);
    assert!(!others(outbox.me).await.unwrap());

    outbox.claim(1).await;

    assert!(!others(outbox.me).await.unwrap());
    assert!(others(Uuid::now_v7()).await.unwrap());
}

pub(super) async fn what_only_waits_is_nobodys_lease<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let (relay, s, wait) = (&outbox.relay, &outbox.s, Duration::from_secs(60));
    let all = outbox.fill("order.placed", 2).await;
    let claim = outbox.claim_for(outbox.me, None, 2, LEASE).await.unwrap();
    let later = message("order.placed");
    let delayed = NewRecord {
        delay: wait,
        ..NewRecord::plain(&later)
    };

    outbox.insert(&[delayed]).await;
    let released = DB::release(relay, s, &all[..1], outbox.me, wait).await;
    let put_back = DB::put_back(relay, s, &all[1..], outbox.me, wait, "no", false).await;

    let finished = DB::finish(relay, s, &[claim.number], outbox.me).await;

    assert_eq!(
        (released.unwrap(), put_back.unwrap(), finished.unwrap()),
        (1, 1, 1)
    );
    let others = DB::has_other_leases(relay, s, Uuid::now_v7()).await;
    assert!(!others.unwrap());
}

pub(super) async fn purging_removes_everything<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    outbox.fill("order.placed", 1_500).await;
    outbox.claim(3).await;

    let purged = DB::purge_all(&outbox.relay, &outbox.s).await;

    assert_eq!(purged.unwrap(), 1_500);
    assert_eq!(outbox.number("SELECT COUNT(*) FROM {t}").await, 0);
}
