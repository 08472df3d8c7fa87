//! Several changes: keys, parts, the last one, ids.

use std::collections::HashSet;

use super::*;

fn inserts(ids: std::ops::Range<i64>, content: &str) -> impl Iterator<Item = RowChange> {
    ids.map(move |id| change(&holes(), None, Some(hole(id, content)), id.unsigned_abs()))
}

fn transactions_of(most_bytes: usize) -> EncoderOptions {
    with(|options| options.order = Order::Transaction { most_bytes })
}

#[test]
fn only_the_last_message_of_a_transaction_says_so() {
    let out = encoded(options(), inserts(0..3, "a"));

    let last: Vec<_> = out
        .iter()
        .map(|one| parsed(one)["tx"]["last"] == true)
        .collect();
    assert_eq!(last, [false, false, true]);
    assert_eq!(
        out.iter().map(|one| one.changes).collect::<Vec<_>>(),
        [1, 2, 3]
    );
}

#[test]
fn a_message_is_held_back_only_until_the_next_change() {
    let mut encoder = encoder(options());
    let mut out = Vec::new();
    encoder.begin(transaction());
    for change in inserts(0..3, "a") {
        encoder.row(change, &mut out).unwrap();
    }
    assert_eq!(out.len(), 2);
}

#[test]
fn a_change_of_the_key_is_a_delete_and_an_insert_each_in_its_own_order() {
    let out = encoded(
        options(),
        [change(&holes(), Some(hole(7, "a")), Some(hole(8, "a")), 4)],
    );

    assert_eq!(keys(&out), ["shop.holes/7", "shop.holes/8"]);
    let (delete, insert) = (parsed(&out[0]), parsed(&out[1]));
    assert_eq!(delete["op"], "delete");
    assert_eq!(
        (&delete["before"]["id"], delete["after"].is_null()),
        (&7.into(), true)
    );
    assert_eq!(insert["op"], "insert");
    assert_eq!(
        (&insert["after"]["id"], insert["before"].is_null()),
        (&8.into(), true)
    );
    assert_eq!(
        (&delete["moved_to"]["id"], &insert["moved_from"]["id"]),
        (&8.into(), &7.into())
    );
    assert_eq!(
        (&delete["tx"]["index"], &insert["tx"]["index"]),
        (&4.into(), &4.into())
    );
    // A position between the two would repeat the first.
    assert_eq!((out[0].changes, out[0].ends_change), (4, false));
    assert_eq!((out[1].changes, out[1].ends_change), (5, true));
    assert_ne!(out[0].message.id(), out[1].message.id());
}

#[test]
fn a_key_that_changes_stays_one_update_where_the_order_holds_both() {
    for order in [
        Order::Table,
        Order::Transaction {
            most_bytes: 1 << 20,
        },
    ] {
        let options = with(|options| options.order = order);
        let out = encoded(
            options,
            [change(&holes(), Some(hole(7, "a")), Some(hole(8, "a")), 4)],
        );
        assert_eq!(out.len(), 1, "{order:?}");
        assert!(json(&out[0]).contains(r#""op":"update""#));
    }
}

/// PostgreSQL sends the old key only if the key has changed.
#[test]
fn an_update_without_an_old_row_has_its_old_key() {
    let out = encoded(options(), [update_of(hole(7, "a"), 0)]);
    assert_eq!(keys(&out), ["shop.holes/7"]);
}

/// The old row may hold the rest of a key.
#[test]
fn a_key_that_changes_in_part_is_whole_on_both_sides() {
    let table = table_of("parts", &[("a", INT), ("b", INT), ("c", INT)], &[0, 1]);
    let before = vec![Value::Int(1), Value::Int(2), Value::Int(3)];
    let after = vec![Value::Int(9), Value::Absent, Value::Absent];

    let out = encoded(options(), [change(&table, Some(before), Some(after), 0)]);

    assert_eq!(keys(&out), ["shop.parts/1,2", "shop.parts/9,2"]);
    assert_eq!(
        parsed(&out[1])["after"],
        serde_json::json!({"a": 9, "b": 2, "c": 3})
    );
}

#[test]
fn tables_have_one_order_if_asked_for_or_without_a_key() {
    let table_order = with(|options| options.order = Order::Table);
    assert_eq!(
        keys(&encoded(table_order, inserts(0..2, "a"))),
        ["shop.holes", "shop.holes"]
    );

    let keyless = table_of("log", &[("line", ColumnKind::Text)], &[]);
    let out = encoded(
        options(),
        [change(&keyless, None, Some(vec![text_of("x")]), 0)],
    );
    assert_eq!(keys(&out), ["shop.log"]);
    assert!(json(&out[0]).contains(r#""key":null"#));
}

#[test]
fn a_truncate_is_one_message_for_each_wanted_table() {
    let tmp = table_of("tmp_1", &[("id", INT)], &[0]);
    let replies = table_of("replies", &[("id", INT)], &[0]);
    let mut encoder = encoder(options());
    let mut out = Vec::new();
    encoder.begin(transaction());
    encoder
        .truncate(&[holes(), tmp, replies], 2, &mut out)
        .unwrap();
    encoder.commit(&point(), &mut out);

    assert_eq!(keys(&out), ["shop.holes", "shop.replies"]);
    assert_eq!(
        json(&out[0]),
        concat!(
            r#"{"op":"truncate","schema":"shop","table":"holes","at":"2024-02-29T12:00:00.123456Z","#,
            r#""position":"gtid:0-1-344","tx":{"id":"0-1-345","index":2,"last":false}}"#
        )
    );
    let ends: Vec<_> = out
        .iter()
        .map(|one| (one.changes, one.ends_change))
        .collect();
    assert_eq!(ends, [(2, false), (3, true)]);
    assert_ne!(out[0].message.id(), out[1].message.id());
}

/// A part that ends within it would be sent again as another message.
#[test]
fn a_truncate_of_several_tables_is_never_cut_into_two_parts_of_its_transaction() {
    let tables = ["one", "two", "three"].map(|name| table_of(name, &[("id", INT)], &[0]));
    let mut encoder = encoder(transactions_of(1));
    let mut out = Vec::new();
    encoder.begin(transaction());
    encoder.truncate(&tables, 0, &mut out).unwrap();
    encoder.truncate(&tables, 1, &mut out).unwrap();
    encoder.commit(&point(), &mut out);

    let parts: Vec<_> = out
        .iter()
        .map(|one| {
            let changes = parsed(one)["changes"].as_array().unwrap().len();
            (changes, one.changes, one.ends_change)
        })
        .collect();
    assert_eq!(parts, [(3, 1, true), (3, 2, true)]);
}

#[test]
fn a_truncate_comes_behind_the_change_before_it_and_before_the_next() {
    let mut encoder = encoder(options());
    let mut out = Vec::new();
    encoder.begin(transaction());
    for (index, id) in [(0, 1), (2, 2)] {
        let row = change(&holes(), None, Some(hole(id, "a")), index);
        encoder.row(row, &mut out).unwrap();
        encoder.truncate(&[holes()], index + 1, &mut out).unwrap();
    }
    encoder.commit(&point(), &mut out);

    let ops: Vec<_> = out.iter().map(|one| parsed(one)["op"].clone()).collect();
    assert_eq!(ops, ["insert", "truncate", "insert", "truncate"]);
}

#[test]
fn a_transaction_is_one_message_and_a_large_one_comes_in_parts() {
    let rows = || {
        inserts(
            0..10,
            "a content of some length, so that a few of them fill a part of the transaction",
        )
    };
    let whole = encoded(transactions_of(1 << 20), rows());
    let parts = encoded(transactions_of(600), rows());
    let single = encoded(transactions_of(1), rows());

    assert_eq!((whole.len(), single.len()), (1, 10));
    assert!((2..10).contains(&parts.len()), "{}", parts.len());
    let changes = |messages: &[Encoded]| {
        let lists = messages
            .iter()
            .map(|one| parsed(one)["changes"].as_array().unwrap().clone());
        lists.flatten().collect::<Vec<_>>()
    };
    assert_eq!(changes(&whole), changes(&parts));
    assert_eq!(changes(&whole), changes(&single));
    for messages in [&whole, &parts, &single] {
        let last: Vec<_> = messages
            .iter()
            .map(|one| parsed(one)["tx"]["last"] == true)
            .collect();
        assert_eq!(last.iter().filter(|last| **last).count(), 1);
        assert_eq!(last.last(), Some(&true));
        // Each part says which change it begins with, and its id is made of that.
        for one in messages {
            let part = parsed(one);
            assert_eq!(part["tx"]["index"], part["changes"][0]["index"]);
        }
        let ids: HashSet<_> = messages.iter().map(|one| one.message.id()).collect();
        assert_eq!(ids.len(), messages.len());
        assert_eq!(messages.last().unwrap().changes, 10);
        assert!(
            messages
                .iter()
                .all(|one| one.message.topic() == "cdc.transactions")
        );
        assert!(
            messages
                .iter()
                .all(|one| one.message.key() == Some("cdc.transactions"))
        );
    }
    let sizes = parts.iter().map(|part| part.message.payload().len());
    assert!(
        sizes.clone().all(|size| size <= 600),
        "{:?}",
        sizes.collect::<Vec<_>>()
    );
}

/// Parts that were cut elsewhere would be new messages.
#[test]
fn a_transaction_that_goes_on_after_a_restart_is_cut_at_the_same_places() {
    let content = "x".repeat(100);
    let first = encoded(transactions_of(600), inserts(0..10, &content));

    let done = i64::try_from(first[0].changes).unwrap();
    let again = encoded(transactions_of(600), inserts(done..10, &content));

    let ids = |messages: &[Encoded]| {
        messages
            .iter()
            .map(|one| one.message.id())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&first[1..]), ids(&again));
    assert_eq!(json(&first[1]), json(&again[0]));
}

#[test]
fn a_repeat_has_the_same_ids_and_the_same_bytes() {
    let rows = || {
        [
            change(&holes(), None, Some(hole(1, "a")), 0),
            change(&holes(), Some(hole(1, "a")), Some(hole(2, "a")), 1),
            change(&holes(), Some(hole(2, "a")), None, 2),
        ]
    };
    let (first, again) = (encoded(options(), rows()), encoded(options(), rows()));
    // This reader begins in the middle.
    let rest = encoded(options(), rows().into_iter().skip(1));

    let all = |messages: &[Encoded]| {
        let of = |one: &Encoded| {
            (
                one.message.id(),
                json(one).to_owned(),
                one.message.key().map(str::to_owned),
            )
        };
        messages.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(all(&first), all(&again));
    assert_eq!(all(&first)[1..], all(&rest));
    let ids: HashSet<_> = first.iter().map(|one| one.message.id()).collect();
    assert_eq!(ids.len(), first.len());
}

#[test]
fn transactions_and_dbsync_exclude_each_other() {
    let options = with(|options| {
        options.order = Order::Transaction { most_bytes: 1 };
        options.format = Format::Dbsync { readable: false };
    });
    assert!(options.check().unwrap_err().to_string().contains("`table`"));
}
