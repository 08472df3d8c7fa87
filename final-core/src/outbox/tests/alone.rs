//! Records whose INSERT is its own commit.

use std::time::Duration;

use sqlx::{MySql, pool::PoolConnection};

use super::{
    Outbox,
    house::{House, message, shop},
};
use crate::{
    database::{Driver, Lone},
    outbox::{NewRecord, statements::Statements},
};

/// Where the INSERT tells, by that; else in the transaction that was begun for it.
async fn write<DB: House>(outbox: &Outbox<DB>, s: &Statements, record: &NewRecord<'_>) -> bool {
    match DB::lone(&outbox.pool, &s.server).await.unwrap() {
        Lone::Connection(mut conn) => DB::insert_alone(&mut conn, s, record).await.unwrap(),
        Lone::Transaction(mut tx) => {
            let records = std::slice::from_ref(record);
            DB::insert(&mut tx, s, records, true).await.unwrap();
            tx.commit().await.unwrap();
            true
        }
        Lone::Taken => false,
    }
}

pub(super) async fn a_record_alone_is_committed_by_itself<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let plain = message("order.placed");
    let keyed = message("order.placed").with_key("a").with_header("b", "c");

    for (written, message) in [(1, &plain), (2, &keyed)] {
        let record = NewRecord {
            ttl: message.key().map(|_| Duration::from_secs(60)),
            ..NewRecord::plain(message)
        };
        assert!(write(&outbox, &outbox.s, &record).await);
        let seen = DB::backlog(&outbox.relay, &outbox.s).await.unwrap();
        assert_eq!(seen.pending(), written);
    }

    let claimed = outbox.claim(10).await;
    let keys = claimed
        .iter()
        .map(|one| one.record.message.as_ref().unwrap().key());
    assert_eq!(keys.collect::<Vec<_>>(), [None, Some("a")]);
}

/// All connections but one are held, so that it is lent again.
async fn left_open<DB: House>(outbox: &Outbox<DB>, sql: &str) -> Vec<PoolConnection<DB>> {
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(outbox.pool.acquire().await.unwrap());
    }
    let mut conn = outbox.pool.acquire().await.unwrap();
    DB::script(&mut conn, sql).await;
    drop(conn);
    held
}

pub(super) async fn a_record_alone_is_not_written_into_an_open_transaction<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let _held = left_open(&outbox, "BEGIN").await;
    let message = message("order.placed");

    assert!(!write(&outbox, &outbox.s, &NewRecord::plain(&message)).await);

    DB::script(&mut *outbox.pool.acquire().await.unwrap(), "COMMIT").await;
    assert!(outbox.claim(10).await.is_empty());
}

/// MySQL has no word for an open transaction; MariaDB does without it here.
#[tokio::test]
async fn without_a_word_for_open_transactions_a_record_alone_has_one_of_its_own() {
    for (session, written) in [
        ("SELECT 1", true),
        ("SET autocommit = 0", true),
        ("SET autocommit = 0; SELECT * FROM final_migrations", false),
        ("START TRANSACTION", false),
        ("XA START 'without_a_word'", false),
        ("XA START 'without_words'; XA END 'without_words'", false),
    ] {
        let outbox = Outbox::<MySql>::new().await;
        // What is known of a MySQL, which cannot say whether a transaction is open.
        let mut server = outbox.s.server.clone();
        server.tells_transactions = false;
        let mysql = Statements::new(MySql::DIALECT, server, &shop()).unwrap();
        let held = left_open(&outbox, session).await;
        let message = message("order.placed");

        let record = NewRecord::plain(&message);
        assert_eq!(write(&outbox, &mysql, &record).await, written, "{session}");

        let seen = outbox.claim(10).await.len();
        assert_eq!(seen, usize::from(written), "{session}");
        outbox.pool.acquire().await.unwrap().close().await.unwrap();
        drop(held);
    }
}
