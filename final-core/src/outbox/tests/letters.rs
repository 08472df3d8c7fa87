//! Collected dead letters: stored, listed, replayed, discarded.

use std::time::Duration;

use sqlx::Pool;
use uuid::Uuid;

use super::house::{House, LEASE};
use crate::{
    MessageId,
    broker::{DeadLetterFilter, DetourTo, Detoured},
    database::Dialect,
    outbox::{
        Outbox,
        letters::{LetterFate, NewLetter},
    },
    runtime::counter::Counter,
};

const SHOP: &str = "my-shop";

async fn shop<DB: House>() -> (Outbox<DB>, Pool<DB>) {
    let pool = DB::fresh().await;
    let outbox = Outbox::new(SHOP.to_owned(), pool.clone(), LEASE);
    outbox.migrate().await.unwrap();
    outbox.located().await.unwrap();
    (outbox, pool)
}

fn letter(number: u128, topic: &'static str) -> NewLetter<'static> {
    NewLetter {
        key: Uuid::from_u128(number),
        record_id: Uuid::now_v7(),
        is_repeated: false,
        is_tried: false,
        id: Uuid::from_u128(1_000 + number),
        topic,
        message_key: Some("k ✓"),
        headers: Some(r#"{"tenant":"Zoë"}"#),
        payload: b"\0\xff payload",
        content_type: "application/x-mine",
        content_encoding: Some("br"),
        durable: true,
        reason: "out of stock",
        attempts: 4,
        died_at: Some(1_700_000_000_000_000),
        queue: SHOP,
        problem: None,
        envelope: "AAEC+/==",
    }
}

async fn ids<DB: House>(outbox: &Outbox<DB>, filter: &DeadLetterFilter) -> Vec<u128> {
    let listed = outbox.list_letters(filter, 1_000).await.unwrap();
    let letters = listed.into_iter().map(|row| row.letter(SHOP));
    letters
        .map(|letter| letter.id.0.as_u128() - 1_000)
        .collect()
}

fn all() -> DeadLetterFilter {
    DeadLetterFilter::all()
}

pub(super) async fn all_letters_are_counted<DB: House>() {
    let (outbox, _pool) = shop::<DB>().await;
    assert_eq!(outbox.count_letters().await.unwrap(), 0);

    let letters = [letter(1, "order.placed"), letter(2, "order.cancelled")];
    outbox.store_letters(&letters).await.unwrap();
    assert_eq!(outbox.count_letters().await.unwrap(), 2);
}

pub(super) async fn a_letter_is_listed_as_it_was_stored<DB: House>() {
    let (outbox, _pool) = shop::<DB>().await;
    let unreadable = NewLetter {
        problem: Some("the topic is empty"),
        died_at: None,
        message_key: None,
        headers: None,
        content_encoding: None,
        durable: false,
        ..letter(2, " ")
    };
    let letters = [letter(1, "order.placed"), unreadable];
    outbox.store_letters(&letters).await.unwrap();

    let listed = outbox.list_letters(&all(), 10).await.unwrap();
    let mut listed = listed.into_iter().map(|row| row.letter(SHOP));
    let first = listed.next().unwrap();
    let message = first.message.unwrap();
    assert_eq!((&*first.service, &*first.topic), (SHOP, "order.placed"));
    assert_eq!((&*first.reason, first.attempts), ("out of stock", 4));
    assert!(first.age > Duration::from_secs(3_600));
    assert_eq!(message.id(), MessageId(Uuid::from_u128(1_001)));
    assert_eq!(message.payload(), &b"\0\xff payload"[..]);
    assert_eq!(message.key(), Some("k ✓"));
    assert_eq!(message.headers().get("tenant"), Some("Zoë"));
    assert_eq!(message.content_type(), "application/x-mine");
    assert_eq!(message.content_encoding(), Some("br"));
    assert!(message.is_durable());
    let second = listed.next().unwrap();
    assert_eq!(second.message.unwrap_err(), "the topic is empty");
    assert!(second.age < Duration::from_secs(3_600));
    assert!(listed.next().is_none());
}

pub(super) async fn a_letter_that_may_be_there_already_is_stored_once<DB: House>() {
    let (outbox, _pool) = shop::<DB>().await;
    let mut letters = [letter(1, "a"), letter(2, "a")];
    outbox.store_letters(&letters[..1]).await.unwrap();

    // Delivered again, or written without an answer to the COMMIT.
    letters[0].is_tried = true;
    outbox.store_letters(&letters).await.unwrap();
    let repeated = NewLetter {
        is_repeated: true,
        ..letter(2, "a")
    };
    outbox.store_letters(&[repeated]).await.unwrap();
    assert_eq!(ids(&outbox, &all()).await, [1, 2]);

    // Another letter that is equal to one that is there, whether it was tried before or not.
    for is_tried in [false, true] {
        let other = NewLetter {
            is_tried,
            ..letter(1, "a")
        };
        let error = outbox.store_letters(&[other]).await.unwrap_err();
        assert!(error.as_database_error().unwrap().is_unique_violation());
    }
}

pub(super) async fn a_letter_that_is_refused_leaves_none_of_its_lot<DB: House>() {
    let (outbox, _pool) = shop::<DB>().await;
    let letters = [letter(1, "a"), letter(2, "a"), letter(1, "a")];

    outbox.store_letters(&letters).await.unwrap_err();

    assert!(ids(&outbox, &all()).await.is_empty());
}

pub(super) async fn letters_are_listed_and_ended_by_filter<DB: House>() {
    let (outbox, _pool) = shop::<DB>().await;
    let late = NewLetter {
        reason: "100% of_it !",
        died_at: None,
        ..letter(3, "a")
    };
    let letters = [letter(1, "a"), letter(2, "b"), late, letter(4, "a")];
    outbox.store_letters(&letters).await.unwrap();

    assert_eq!(ids(&outbox, &all()).await, [1, 2, 3, 4]);
    assert_eq!(ids(&outbox, &all().limit(2)).await, [1, 2]);
    assert_eq!(ids(&outbox, &all().topic("b")).await, [2]);
    assert_eq!(ids(&outbox, &all().reason("0% of_it !")).await, [3]);
    assert_eq!(
        ids(&outbox, &all().id(MessageId(Uuid::from_u128(1_004)))).await,
        [4]
    );
    let hour = Duration::from_secs(3_600);
    assert_eq!(ids(&outbox, &all().older_than(hour)).await, [1, 2, 4]);

    let two = all().topic("a").limit(2);
    let ended = outbox.end_letters(&two, LetterFate::Discard).await;
    assert_eq!(ended.unwrap(), 2);
    assert_eq!(ids(&outbox, &all()).await, [2, 4]);
    let ended = outbox.end_letters(&all(), LetterFate::Discard).await;
    assert_eq!(ended.unwrap(), 2);
}

pub(super) async fn a_list_of_large_letters_ends_within_its_bytes_and_goes_on_behind_them<
    DB: House,
>() {
    let (outbox, _pool) = shop::<DB>().await;
    let large = vec![7; 7 * 1024 * 1024];
    for number in 1..=5 {
        let large = NewLetter {
            payload: &large,
            ..letter(number, "a")
        };
        let small = letter(10 + number, "b");
        outbox.store_letters(&[large, small]).await.unwrap();
    }

    // 16 MiB: two of 7, and not a third.
    let (mut filter, mut lists) = (all(), Vec::new());
    loop {
        let rows = outbox.list_letters(&filter, 1_000).await.unwrap();
        let letters: Vec<_> = rows.into_iter().map(|row| row.letter(SHOP)).collect();
        let Some(last) = letters.last() else {
            break;
        };
        filter = filter.after(last.cursor.unwrap());
        lists.push(
            letters
                .iter()
                .map(|letter| letter.id.0.as_u128() - 1_000)
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(lists, [vec![1, 11, 2, 12], vec![3, 13, 4, 14], vec![5, 15]]);
    assert_eq!(ids(&outbox, &all().topic("b")).await.len(), 5);
    assert_eq!(ids(&outbox, &all().limit(1)).await, [1]);
}

pub(super) async fn a_replayed_letter_is_a_record_for_this_service_alone<DB: House>() {
    let (outbox, _pool) = shop::<DB>().await;
    // More than one transaction replays.
    let letters: Vec<_> = (1..=230).map(|number| letter(number, "a")).collect();
    outbox.store_letters(&letters).await.unwrap();

    let ended = outbox.end_letters(&all(), LetterFate::Replay).await;

    assert_eq!(ended.unwrap(), 230);
    assert!(ids(&outbox, &all()).await.is_empty());
    let table = outbox.table().unwrap();
    assert_eq!(table.backlog().await.unwrap().pending(), 230);
    let claim = table.claim(None, 1, &Counter::default()).await.unwrap();
    let claimed = table.read(&claim.unwrap()).await.unwrap();
    let message = claimed[0].record.message.as_ref().unwrap();
    let detoured = Detoured::read(message).unwrap();
    assert_eq!(detoured.envelope, "AAEC+/==");
    assert_eq!(&detoured.payload[..], b"\0\xff payload");
    let again = DetourTo::Queue {
        attempts: 0,
        waited: Duration::ZERO,
    };
    assert_eq!(detoured.to, again);
}

pub(super) async fn what_is_collected_meanwhile_is_not_replayed<DB: House>() {
    let (outbox, pool) = shop::<DB>().await;
    outbox.store_letters(&[letter(1, "a")]).await.unwrap();
    let letters = &outbox.table().unwrap().statements.letters;
    let mut conn = pool.acquire().await.unwrap();
    let last = letters.last::<DB>(&mut conn).await.unwrap();
    outbox.store_letters(&[letter(2, "a")]).await.unwrap();

    let mut tx = DB::begin(&pool).await.unwrap();
    let filter = all();
    let between = (i64::MIN, last);
    let locked = letters.lock::<DB>(&mut tx, &filter, between, 100).await;
    assert_eq!(locked.unwrap(), [last]);
}

pub(super) async fn a_letter_in_other_hands_is_left_out<DB: House>() {
    let (outbox, pool) = shop::<DB>().await;
    let letters = [letter(1, "a"), letter(2, "a")];
    outbox.store_letters(&letters).await.unwrap();
    // SQLite has one writer at a time, who waits.
    if DB::DIALECT == Dialect::Sqlite {
        return;
    }
    let statements = &outbox.table().unwrap().statements.letters;
    let mut tx = DB::begin(&pool).await.unwrap();
    let (filter, between) = (all().limit(1), (i64::MIN, i64::MAX));
    let locked = statements.lock::<DB>(&mut tx, &filter, between, 1).await;
    assert_eq!(locked.unwrap().len(), 1);

    let ended = outbox.end_letters(&all(), LetterFate::Discard).await;

    assert_eq!(ended.unwrap(), 1);
    tx.rollback().await.unwrap();
    assert_eq!(ids(&outbox, &all()).await, [1]);
}

/// Nearly all of a table is meant, so that a server would rather go through all of it.
pub(super) async fn of_many_letters_the_one_in_other_hands_is_left_out<DB: House>() {
    let (outbox, pool) = shop::<DB>().await;
    let letters: Vec<_> = (1..=100).map(|number| letter(number, "a")).collect();
    outbox.store_letters(&letters).await.unwrap();
    // SQLite has one writer at a time, who waits.
    if DB::DIALECT == Dialect::Sqlite {
        return;
    }
    let mut tx = DB::begin(&pool).await.unwrap();
    let lock = "UPDATE final_my_shop_dead SET attempts = 7 WHERE seq = 3";
    assert_eq!(DB::execute(&mut tx, lock).await, 1);

    let ended = outbox.end_letters(&all(), LetterFate::Discard).await;

    assert_eq!(ended.unwrap(), 99);
    tx.rollback().await.unwrap();
    assert_eq!(ids(&outbox, &all()).await, [3]);
}

/// Each record takes a fifth of a second, so a hundred in one transaction take longer than a statement may.
const SLOWLY: [(Dialect, &[&str]); 2] = [
    (
        Dialect::Postgres,
        &[
            "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN PERFORM pg_sleep(0.2); RETURN NEW; END'",
            "CREATE TRIGGER slowly BEFORE INSERT ON final_my_shop_outbox FOR EACH ROW EXECUTE FUNCTION slowly()",
        ],
    ),
    (
        Dialect::MySql,
        &["CREATE TRIGGER slowly BEFORE INSERT ON final_my_shop_outbox FOR EACH ROW DO SLEEP(0.2)"],
    ),
];

pub(super) async fn letters_whose_replay_takes_too_long_are_replayed_in_smaller_parts<DB: House>() {
    let (outbox, pool) = shop::<DB>().await;
    let letters: Vec<_> = (1..=100).map(|number| letter(number, "a")).collect();
    outbox.store_letters(&letters).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    let slowly = SLOWLY.iter().filter(|(dialect, _)| *dialect == DB::DIALECT);
    for sql in slowly.flat_map(|(_, slowly)| *slowly) {
        DB::script(&mut conn, sql).await;
    }

    // MySQL goes on with what was given up, and keeps its letters locked until that has ended.
    let mut replayed = 0;
    for _ in 0..10 {
        replayed += outbox
            .end_letters(&all(), LetterFate::Replay)
            .await
            .unwrap_or_default();
        if replayed > 0 && ids(&outbox, &all()).await.is_empty() {
            break;
        }
    }
    assert_eq!(replayed, 100);
}
