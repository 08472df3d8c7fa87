//! JSON of ours.

use super::*;

#[test]
fn each_op_is_its_variant() {
    let of = |op: &str| read(&update(json!({ "op": op }))).unwrap();
    assert_eq!(
        of("insert"),
        Change::Insert {
            after: hole(7, "b")
        }
    );
    assert_eq!(
        of("read"),
        Change::Read {
            after: hole(7, "b")
        }
    );
    assert_eq!(
        of("delete"),
        Change::Delete {
            before: hole(7, "a")
        }
    );
    assert_eq!(of("truncate"), Change::Truncate);
    let Change::Update {
        before,
        after,
        changed,
    } = of("update")
    else {
        panic!()
    };
    assert_eq!((before, after), (Some(hole(7, "a")), hole(7, "b")));
    assert!(changed.contains("content") && !changed.contains("id"));
    assert_eq!(changed.known(), Some(&["content".to_owned()][..]));
    assert_eq!(of("update").op(), ChangeOp::Update);
}

#[test]
fn an_old_row_that_was_not_sent_is_none_and_every_column_may_have_changed() {
    let message = update(json!({"before": null, "changed": null, "unchanged": ["forest_id"]}));
    let Change::Update {
        before, changed, ..
    } = read(&message).unwrap()
    else {
        panic!()
    };
    assert_eq!(before, None);
    assert!(changed.contains("content") && changed.contains("id"));
    // But surely not what was left out because it has not changed.
    assert!(!changed.contains("forest_id") && changed.is_left_out("forest_id"));
    assert_eq!(changed.known(), None);
}

#[test]
fn a_part_of_an_old_row_is_given_if_it_is_enough_for_the_handler() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Key {
        id: i64,
    }
    let message = update(json!({"before": {"id": 7}, "partial": true, "changed": null}));
    let enough = Change::<Key>::from_json(message.to_string().as_bytes()).unwrap();
    assert_eq!(enough.before(), Some(&Key { id: 7 }));
    assert_eq!(read(&message).unwrap().before(), None);
}

#[test]
fn a_delete_with_the_key_alone_tells_the_way_out() {
    let message =
        update(json!({"op": "delete", "before": {"id": 7}, "after": null, "partial": true}));
    refused(&message, "missing field `content`");
    refused(&message, "REPLICA IDENTITY FULL");
    refused(&message, "`Option`");
}

#[test]
fn a_large_value_that_was_not_sent_tells_the_way_out() {
    let message = update(json!({"after": {"id": 7}, "unchanged": ["content"]}));
    refused(&message, "missing field `content`");
    refused(&message, "#[serde(default)]");
    // A field that the row never had is the handler's own mistake.
    let error = read(&update(json!({"after": {"id": 7}})))
        .unwrap_err()
        .to_string();
    assert!(!error.contains("REPLICA"), "{error}");
}

#[test]
fn integers_are_exact() {
    for id in [i64::MIN, i64::MAX, 9_007_199_254_740_993] {
        let message = update(json!({"after": {"id": id, "content": ""}}));
        assert_eq!(read(&message).unwrap().after().unwrap().id, id);
    }
    let any = Change::<Value>::from_json(
        update(json!({"after": {"n": u64::MAX}}))
            .to_string()
            .as_bytes(),
    )
    .unwrap();
    assert_eq!(any.after().unwrap()["n"].as_u64(), Some(u64::MAX));
}

#[test]
fn columns_have_types_that_read_what_json_cannot_say() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Odd {
        bytes: Base64,
        none: Option<Base64>,
        on: Flag,
        off: Flag,
        truth: Flag,
        big: Exact<u64>,
        small: Exact<i8>,
        float: Exact<f64>,
    }
    let row = json!({
        "bytes": "/wAB", "none": null, "on": 1, "off": 0, "truth": true, "big": "18446744073709551615", "small": -3,
        "float": "-Infinity",
    });
    let odd: Odd = serde_json::from_value(row).unwrap();
    let expected = Odd {
        bytes: Base64(vec![255, 0, 1]),
        none: None,
        on: Flag(true),
        off: Flag(false),
        truth: Flag(true),
        big: Exact(u64::MAX),
        small: Exact(-3),
        float: Exact(f64::NEG_INFINITY),
    };
    assert_eq!(odd, expected);
    assert!(serde_json::from_value::<Exact<i8>>(json!(300)).is_err());
    assert!(serde_json::from_value::<Base64>(json!("no base64!")).is_err());
    assert!(serde_json::from_value::<Flag>(json!("1")).is_err());
}

#[tokio::test]
async fn a_handler_gets_what_is_known_beside_the_row() {
    let payload = update(json!({
        "op": "insert", "moved_from": {"id": 6}, "unchanged": ["x"],
        "invalid": {"after": {"day": "0000-00-00"}},
    }));
    let info = ChangeInfo::from_message(&message(&payload), &())
        .await
        .unwrap();

    assert_eq!(
        (info.op, info.schema.as_deref(), &*info.table),
        (ChangeOp::Insert, Some("shop"), "holes")
    );
    assert_eq!(info.at.as_deref(), Some("2024-02-29T12:00:00.000000Z"));
    assert_eq!(info.position.as_deref(), Some("gtid:0-1-344"));
    assert_eq!(info.invalid["day"], "0000-00-00");
    assert_eq!(info.unchanged, ["x"]);
    let transaction = info.transaction.clone().unwrap();
    assert_eq!(
        (&*transaction.id, transaction.index, transaction.last),
        ("0-1-345", 3, true)
    );
    assert!(matches!(&info.moved, Some(MovedKey::From(key)) if key["id"] == 6));

    #[derive(Deserialize)]
    struct Key {
        id: i64,
    }
    assert_eq!(info.key::<Key>().unwrap().id, 7);
    assert!(info.key::<Hole>().is_err());
}

#[tokio::test]
async fn a_transaction_is_a_list_of_changes_of_any_table() {
    let change = |op: &str, index: u64| {
        let mut change = update(json!({"op": op, "index": index}));
        for of_the_whole in ["at", "position", "tx"] {
            change.as_object_mut().unwrap().remove(of_the_whole);
        }
        change
    };
    let payload = json!({
        "changes": [change("insert", 4), change("delete", 9)],
        "at": "2024-02-29T12:00:00.000000Z", "position": "lsn:0/1", "tx": {"id": "77", "index": 4, "last": true},
    });
    let message = message(&payload);

    let changes = Changes::<Hole>::from_message(&message, &()).await.unwrap();

    let of = |(info, change): &(ChangeInfo, Change<Hole>)| {
        let transaction = info.transaction.clone().unwrap();
        (
            change.op(),
            transaction.index,
            transaction.last,
            info.at.clone() == changes.at,
        )
    };
    let seen: Vec<_> = changes.list.iter().map(of).collect();
    assert_eq!(
        seen,
        [
            (ChangeOp::Insert, 4, false, true),
            (ChangeOp::Delete, 9, true, true)
        ]
    );
    let any: Changes = Changes::from_message(&message, &()).await.unwrap();
    let typed: Vec<_> = any
        .into_iter()
        .map(|(_, change)| change.read::<Hole>().unwrap())
        .collect();
    assert_eq!(
        typed,
        changes
            .list
            .into_iter()
            .map(|(_, change)| change)
            .collect::<Vec<_>>()
    );

    let one = Change::<Hole>::from_message(&message, &())
        .await
        .unwrap_err();
    assert!(one.is_permanent());
    assert!(one.into_source().to_string().contains("`Changes<T>`"));
}

#[tokio::test]
async fn a_single_change_is_a_list_of_one() {
    let changes = Changes::<Hole>::from_message(&message(&update(json!({}))), &())
        .await
        .unwrap();
    assert_eq!(changes.list.len(), 1);
    assert_eq!(changes.position.as_deref(), Some("gtid:0-1-344"));
}

#[tokio::test]
async fn a_message_that_is_no_change_fails_for_good_and_names_its_topic() {
    let error = Change::<Hole>::from_message(&Message::new("cdc.shop.holes", "{}"), &())
        .await
        .unwrap_err();
    assert!(error.is_permanent());
    let text = error.into_source().to_string();
    assert!(
        text.contains("cdc.shop.holes") && text.contains("`op`"),
        "{text}"
    );
}

#[test]
fn a_change_that_cannot_be_handled_holds_its_key() {
    let held =
        |on_failure: Option<OnFailure>| assert_eq!(on_failure, Some(OnFailure::Hold(Hold::Key)));
    held(<Change<Hole> as FromMessage<()>>::ON_FAILURE);
    held(<Changes<Hole> as FromMessage<()>>::ON_FAILURE);
}

#[test]
fn rows_that_must_be_there_and_are_not_are_told() {
    refused(
        &update(json!({"op": "insert", "after": null})),
        "`after` is missing",
    );
    refused(
        &update(json!({"op": "delete", "before": null})),
        "`before` is missing",
    );
    refused(&update(json!({"op": "merge"})), "unknown variant");
    refused(&update(json!({"after": [1]})), "invalid");
}
