//! Messages of one id: several records, each with a key of its own.

use std::time::Duration;

use super::{
    House, Outbox,
    house::{LEASE, ids, shop},
};
use crate::{
    Message, MessageId,
    database::Dialect,
    outbox::{Claimed, NewRecord, RecordId},
};

/// A record of a message whose publisher chose its id.
fn named(message: &Message) -> NewRecord<'_> {
    NewRecord {
        id: RecordId::new(),
        ..NewRecord::plain(message)
    }
}

fn message(id: MessageId, payload: &str) -> Message {
    Message::identified(id, "order.placed", payload.to_owned())
}

/// The payloads of records, in their order. All of them have this id.
fn payloads(claimed: &[Claimed], id: MessageId) -> Vec<String> {
    let payload = |claimed: &Claimed| {
        let message = claimed.record.message.as_ref().unwrap();
        assert_eq!((message.id(), claimed.record.message_id), (id, id));
        String::from_utf8(message.payload().to_vec()).unwrap()
    };
    claimed.iter().map(payload).collect()
}

pub(super) async fn one_id_is_published_many_times_in_one_transaction<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let id = MessageId::new();
    let messages: Vec<_> = (0..70).map(|n| message(id, &format!("{n:02}"))).collect();
    let records: Vec<_> = messages.iter().map(named).collect();

    let mut tx = outbox.begin().await;
    for some in [&records[..1], &records[1..3], &records[3..]] {
        DB::insert(&mut tx, &outbox.s, some, true).await.unwrap();
    }
    tx.commit().await.unwrap();

    let claimed = outbox.claim(100).await;
    let expected: Vec<_> = (0..70).map(|n| format!("{n:02}")).collect();
    assert_eq!(payloads(&claimed, id), expected);
}

pub(super) async fn one_id_is_published_in_one_transaction_after_the_other<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let id = MessageId::new();
    // The first record has the id as its key, as a message has to which its bus gave the id.
    let messages = ["first", "second", "third"].map(|payload| message(id, payload));
    outbox.insert(&[NewRecord::plain(&messages[0])]).await;
    for message in &messages[1..] {
        outbox.insert(&[named(message)]).await;
    }

    let mut payloads = payloads(&outbox.claim(10).await, id);

    payloads.sort();
    assert_eq!(payloads, ["first", "second", "third"]);
}

/// By a statement that is its own commit, and as plain records beside others.
pub(super) async fn one_id_is_published_alone_and_beside_others<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let (id, other) = (MessageId::new(), super::house::message("order.placed"));
    let message = message(id, "payload");
    if DB::DIALECT != Dialect::Sqlite {
        let mut conn = outbox.pool.acquire().await.unwrap();
        let record = named(&message);
        let alone = DB::insert_alone(&mut conn, &outbox.s, &record);
        assert!(alone.await.unwrap());
        assert_eq!(payloads(&outbox.claim(10).await, id), ["payload"]);
    }
    outbox
        .insert(&[named(&message), NewRecord::plain(&other), named(&message)])
        .await;

    let claimed = outbox.claim(10).await;

    let of_id = |claimed: &&Claimed| claimed.record.message_id == id;
    assert_eq!(claimed.len(), 3);
    assert_eq!(claimed.iter().filter(of_id).count(), 2);
}

pub(super) async fn each_record_of_one_id_is_changed_by_itself<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let (relay, s, me) = (&outbox.relay, &outbox.s, outbox.me);
    let id = MessageId::new();
    let message = message(id, "payload");
    let records: Vec<_> = (0..8).map(|_| named(&message)).collect();
    outbox.insert(&records).await;
    let all = ids(&outbox.claim(100).await);
    assert_eq!(
        all,
        records.iter().map(|record| record.id.0).collect::<Vec<_>>()
    );

    let done = [
        DB::renew(relay, s, &all[..1], me, LEASE).await,
        DB::delete(relay, s, &all[1..2]).await,
        DB::release(relay, s, &all[2..3], me, LEASE).await,
        DB::put_back(relay, s, &all[3..4], me, LEASE, "nack", true).await,
        DB::park(relay, s, &all[4..5], me, "no queue").await,
        DB::fail(relay, s, &all[5..6], me, "broken").await,
        DB::mark_acked(relay, s, &all[6..7]).await,
        // What means the message means no record by its key.
        DB::delete(relay, s, &[id.0]).await,
    ];

    assert_eq!(done.map(Result::unwrap), [1, 1, 1, 1, 1, 1, 1, 0]);
    let status = |status| format!("SELECT COUNT(*) FROM {{t}} WHERE status = {status}");
    for (number, count) in [(0, 4), (1, 1), (2, 1), (3, 1)] {
        assert_eq!(outbox.number(&status(number)).await, count, "{number}");
    }
    let probe = DB::claim_parked(relay, s, "order.placed", me, LEASE);
    let probe = probe.await.unwrap().unwrap();
    assert_eq!((probe.id.0, probe.message_id), (all[4], id));
}

pub(super) async fn a_failed_record_is_told_and_retried_by_the_id_of_its_message<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let (relay, s, me) = (&outbox.relay, &outbox.s, outbox.me);
    let (id, other) = (MessageId::new(), MessageId::new());
    let (message, another) = (message(id, "payload"), message(other, "payload"));
    let records = [
        NewRecord::plain(&message),
        named(&message),
        named(&message),
        named(&another),
    ];
    outbox.insert(&records).await;
    let all = ids(&outbox.claim(10).await);
    assert_eq!(DB::fail(relay, s, &all, me, "broken").await.unwrap(), 4);

    let failed = DB::failed(relay, s, 10).await.unwrap();

    let told: Vec<_> = failed.iter().map(|failed| failed.id).collect();
    assert_eq!(told, [id, id, id, other]);
    let retry = async |id| DB::retry_failed(relay, s, Some(&[id])).await.unwrap();
    assert_eq!(retry(id.0).await, 3);
    assert_eq!(retry(id.0).await, 0);
    assert_eq!(payloads(&outbox.claim(10).await, id).len(), 3);
    // The key of a record is no id of a message, but means the record all the same.
    assert_eq!(retry(records[3].id.0).await, 1);
}

/// Records that are kept after their confirm.
pub(super) async fn an_id_that_is_kept_as_acked_is_published_again<DB: House>() {
    let outbox = Outbox::<DB>::new().await;
    let id = MessageId::new();
    let message = message(id, "payload");
    for record in [NewRecord::plain(&message), named(&message), named(&message)] {
        outbox.insert(&[record]).await;
        let claimed = outbox.claim(10).await;
        assert_eq!(payloads(&claimed, id), ["payload"]);
        let keys = ids(&claimed);
        let acked = DB::mark_acked(&outbox.relay, &outbox.s, &keys).await;
        assert_eq!(acked.unwrap(), 1);
    }

    assert_eq!(outbox.number("SELECT COUNT(*) FROM {t}").await, 3);
    tokio::time::sleep(Duration::from_millis(10)).await;
    let purged = DB::purge_acked(&outbox.relay, &outbox.s, Duration::ZERO, 10, 1);
    assert_eq!(purged.await.unwrap(), 2);
}

/// As the release before this one has made it.
pub(super) async fn of_version_4<DB: House>() -> Outbox<DB> {
    let outbox = Outbox::<DB>::new().await;
    if DB::DIALECT == Dialect::Sqlite {
        let index = format!("DROP INDEX {}", shop().short("sent_as"));
        outbox.run(&index).await;
    }
    outbox.run("ALTER TABLE {t} DROP COLUMN sent_as").await;
    outbox.run("UPDATE final_migrations SET version = 4").await;
    outbox
}

/// What the release before this one writes: a plain record, and any other one.
async fn insert_as_version_4<DB: House>(outbox: &Outbox<DB>, id: u8) {
    let (id, clock, yes) = match DB::DIALECT {
        Dialect::Postgres => (
            format!("'000000000000000000000000000000{id:02x}'::uuid"),
            "clock_timestamp()",
            "TRUE",
        ),
        Dialect::MySql => (
            format!("x'000000000000000000000000000000{id:02x}'"),
            "UTC_TIMESTAMP(6)",
            "1",
        ),
        Dialect::Sqlite => (
            format!("x'000000000000000000000000000000{id:02x}'"),
            "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            "1",
        ),
    };
    let insert = format!(
        "INSERT INTO {{t}} (message_id, topic, message_key, headers, payload, content_type, durable, \
             expires_at, status, due_at, available_at, claimed_by, created_at) \
         VALUES ({id}, 'order.placed', 'k', NULL, 'old', 'text/plain', {yes}, NULL, 0, {clock}, {clock}, NULL, {clock})"
    );
    outbox.run(&insert).await;
}

pub(super) async fn a_filled_table_of_the_release_before_is_upgraded<DB: House>() {
    let outbox = of_version_4::<DB>().await;
    for id in 1..=3 {
        insert_as_version_4(&outbox, id).await;
    }

    for _ in 0..2 {
        DB::migrate(&outbox.relay, &shop()).await.unwrap();
    }

    let id = MessageId::new();
    let message = message(id, "new");
    outbox.insert(&[named(&message), named(&message)]).await;
    // The release before this one still runs, and still writes.
    insert_as_version_4(&outbox, 4).await;
    let claimed = outbox.claim(10).await;
    let told: Vec<_> = claimed
        .iter()
        .map(|claimed| claimed.record.message_id.0.as_u128())
        .collect();
    assert_eq!(claimed.len(), 6);
    for old in 1..=4 {
        assert!(told.contains(&old), "{old} is not in {told:?}");
    }
    let again = |told: &&u128| **told == id.0.as_u128();
    assert_eq!(told.iter().filter(again).count(), 2);
}

pub(super) async fn the_script_upgrades_a_table_of_the_release_before<DB: House>() {
    let outbox = of_version_4::<DB>().await;
    insert_as_version_4(&outbox, 1).await;
    let mut script = DB::migration_sql(&shop());
    if DB::DIALECT == Dialect::Sqlite {
        // The person who runs it takes away the comment, as the comment says.
        script = script.replacen("-- ALTER TABLE", "ALTER TABLE", 1);
    }
    let mut conn = outbox.pool.acquire().await.unwrap();

    DB::script(&mut conn, &script).await;
    DB::script(&mut conn, &DB::migration_sql(&shop())).await;

    let message = message(MessageId::new(), "new");
    outbox.insert(&[named(&message)]).await;
    assert_eq!(outbox.claim(10).await.len(), 2);
}
