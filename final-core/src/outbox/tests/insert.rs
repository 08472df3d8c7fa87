//! INSERTs of records inside the caller's transaction.

use std::time::{Duration, Instant};

use sqlx::Connection;
use uuid::Uuid;

use super::{
    House, Outbox,
    house::{LEASE, ids, message},
};
use crate::{Headers, Message, outbox::NewRecord};

pub(super) async fn a_committed_record_is_claimed_as_it_was_published<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let sent = Message::new("order.placed", vec![0, 159, 146, 150])
        .with_key("kéy 🔑")
        .with_headers(Headers::from_iter([("tenant", "acme \"&' ü"), ("a", "")]))
        .with_content_type("application/octet-stream")
        .with_durable(false);
    let bare = Message::new("order.placed", "");

    let records = [NewRecord::plain(&sent), NewRecord::plain(&bare)];
    outbox.insert(&records).await;
    let claimed = outbox.claim(10).await;

    assert_eq!(claimed.len(), 2);
    for claimed in claimed {
        let got = claimed.record.message.unwrap();
        let put = if got.id() == sent.id() { &sent } else { &bare };
        assert_eq!(got.id(), put.id());
        assert_eq!(got.topic(), put.topic());
        assert_eq!(got.key(), put.key());
        assert_eq!(got.headers(), put.headers());
        assert_eq!(got.payload(), put.payload());
        assert_eq!(got.content_type(), put.content_type());
        assert_eq!(got.is_durable(), put.is_durable());
        assert_eq!(claimed.record.message_id, put.id());
        assert_eq!((claimed.record.attempts, claimed.record.faults), (0, 0));
        assert_eq!(claimed.record.expires_in, None);
    }
}

pub(super) async fn plain_records_are_claimed_as_they_were_published_however_many<DB: House>() {
    for number in [1, 2, 17, 100] {
        let outbox = Outbox::<DB>::new().await;
        let payload = |n: usize| format!("payload {n}").into_bytes();
        let messages: Vec<_> = (0..number)
            .map(|n| Message::new("order.placed", payload(n)))
            .collect();
        let records: Vec<_> = messages.iter().map(NewRecord::plain).collect();
        assert!(records.iter().all(NewRecord::is_plain));
        outbox.insert(&records).await;

        let mut claimed = outbox.claim(1_000).await;

        claimed.sort_by_key(|claimed| claimed.record.id);
        assert_eq!(claimed.len(), number);
        for (claimed, put) in claimed.into_iter().zip(&messages) {
            let got = claimed.record.message.unwrap();
            assert_eq!((got.id(), got.topic()), (put.id(), put.topic()));
            assert_eq!((got.key(), got.headers()), (None, put.headers()));
            assert_eq!(got.payload(), put.payload());
            assert_eq!(got.content_type(), put.content_type());
            assert!(got.is_durable());
            assert_eq!(claimed.record.expires_in, None);
        }
    }
}

pub(super) async fn a_rolled_back_record_is_never_claimed<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let message = message("order.placed");
    let mut tx = outbox.begin().await;

    DB::insert(&mut tx, &outbox.s, &[NewRecord::plain(&message)], true)
        .await
        .unwrap();
    tx.rollback().await.unwrap();

    assert!(outbox.claim(10).await.is_empty());
}

pub(super) async fn a_record_is_not_claimed_by_others_while_its_lease_lasts<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let message = message("order.placed");
    let lease = Duration::from_millis(700);
    let record = NewRecord {
        lease: Some((Uuid::now_v7(), lease)),
        ..NewRecord::plain(&message)
    };

    let begin = Instant::now();
    outbox.insert(&[record]).await;

    assert_eq!(claimed_after(&outbox, begin, lease).await, message.id().0);
}

/// Claims until there is a record, which must not be before its time.
async fn claimed_after<DB: House>(outbox: &Outbox<DB>, begin: Instant, wait: Duration) -> Uuid {
    loop {
        let claimed = outbox.claim(10).await;
        let took = begin.elapsed();
        assert!(took < wait + Duration::from_secs(60), "never due");
        if let [id] = ids(&claimed)[..] {
            // SQLite's clock has milliseconds.
            assert!(took >= wait - Duration::from_millis(5), "after {took:?}");
            return id;
        }
    }
}

pub(super) async fn a_delayed_record_is_due_after_its_delay<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let message = message("order.placed");
    let delay = Duration::from_millis(700);
    let record = NewRecord {
        delay,
        ..NewRecord::plain(&message)
    };

    let begin = Instant::now();
    outbox.insert(&[record]).await;

    assert_eq!(claimed_after(&outbox, begin, delay).await, message.id().0);
}

pub(super) async fn a_lease_is_counted_from_the_running_clock_not_the_transaction_start<
    DB: House,
>() {
    let outbox = Outbox::<DB>::new().await;
    let message = message("order.placed");
    let record = NewRecord {
        lease: Some((outbox.me, LEASE)),
        ..NewRecord::plain(&message)
    };
    let mut tx = outbox.begin().await;
    DB::number(&mut tx, "SELECT COUNT(*) FROM final_migrations").await;
    tokio::time::sleep(Duration::from_millis(300)).await;

    let inserted = Instant::now();
    DB::insert(&mut tx, &outbox.s, &[record], true)
        .await
        .unwrap();
    tx.commit().await.unwrap();

    let left = DB::next_due(&outbox.relay, &outbox.s)
        .await
        .unwrap()
        .unwrap();
    // SQLite's clock has milliseconds.
    let at_least = LEASE.saturating_sub(inserted.elapsed() + Duration::from_millis(5));
    assert!(left >= at_least && left <= LEASE, "{left:?}");
}

pub(super) async fn a_time_to_live_counts_from_the_due_time<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let message = message("order.placed");
    let (delay, ttl) = (Duration::from_millis(300), Duration::from_secs(60));
    let record = NewRecord {
        delay,
        ttl: Some(ttl),
        ..NewRecord::plain(&message)
    };
    let inserted = Instant::now();
    outbox.insert(&[record]).await;
    tokio::time::sleep(Duration::from_millis(400)).await;

    let left = outbox.claim(10).await.remove(0).record.expires_in.unwrap();

    // SQLite's clock has milliseconds.
    let at_least = (delay + ttl).saturating_sub(inserted.elapsed() + Duration::from_millis(5));
    assert!(left >= at_least && left < ttl, "{left:?}");
}

pub(super) async fn a_record_of_a_parked_topic_starts_unroutable<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let message = message("order.placed");
    let record = NewRecord {
        parked: true,
        ..NewRecord::plain(&message)
    };

    outbox.insert(&[record]).await;

    assert!(outbox.claim(10).await.is_empty());
    let probe = DB::claim_parked(&outbox.relay, &outbox.s, "order.placed", outbox.me, LEASE);
    assert_eq!(probe.await.unwrap().unwrap().message_id, message.id());
}

pub(super) async fn thousands_of_records_go_in_chunks<DB: House>() {
    let outbox = Outbox::<DB>::new().await;

    outbox.fill("order.placed", 2_500).await;

    assert_eq!(outbox.claim(10_000).await.len(), 2_500);
}

pub(super) async fn inserts_of_many_sizes_leave_room_in_the_callers_statement_cache<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let messages: Vec<_> = (0..70).map(|_| message("order.placed")).collect();
    let mut tx = outbox.begin().await;

    for size in 1..=70 {
        // Other ids for each, the messages are the same.
        let again = || {
            messages[..size]
                .iter()
                .map(|message| message.clone().with_id(Uuid::now_v7().into()))
        };
        let plain: Vec<_> = again().collect();
        let keyed: Vec<_> = again().map(|message| message.with_key("a")).collect();
        for messages in [plain, keyed] {
            let records: Vec<_> = messages.iter().map(NewRecord::plain).collect();
            DB::insert(&mut tx, &outbox.s, &records, true)
                .await
                .unwrap();
        }
    }

    assert!(tx.cached_statements_size() <= 40);
}
