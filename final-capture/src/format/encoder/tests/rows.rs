//! One change, one message.

use super::*;
use crate::select::{ColumnRules, HashKey};

fn selecting(rules: ColumnRules) -> EncoderOptions {
    with(|options| options.selection = Selection::tables(["shop.*"]).columns("shop.holes", rules))
}

#[test]
fn an_insert_is_the_documented_json() {
    let out = encoded(
        options(),
        [change(&holes(), None, Some(hole(7, "say \"x\"")), 3)],
    );

    let [message] = &out[..] else {
        panic!("{out:?}")
    };
    assert_eq!(
        json(message),
        concat!(
            r#"{"op":"insert","schema":"shop","table":"holes","key":{"id":7},"before":null,"#,
            r#""after":{"id":7,"content":"say \"x\"","body":"b"},"#,
            r#""at":"2024-02-29T12:00:00.123456Z","position":"gtid:0-1-344","#,
            r#""tx":{"id":"0-1-345","index":3,"last":true}}"#
        )
    );
    let own = &message.message;
    assert_eq!(
        (own.topic(), own.key()),
        ("cdc.shop.holes", Some("shop.holes/7"))
    );
    assert_eq!(own.content_type(), "application/json");
    assert_eq!((message.changes, message.ends_change), (4, true));
}

#[test]
fn an_update_names_the_columns_that_changed() {
    let out = encoded(
        options(),
        [change(&holes(), Some(hole(7, "a")), Some(hole(7, "b")), 0)],
    );

    let json = json(&out[0]);
    let rows =
        r#""before":{"id":7,"content":"a","body":"b"},"after":{"id":7,"content":"b","body":"b"},"#;
    assert!(
        json.contains(&format!(r#"{rows}"changed":["content"],"at""#)),
        "{json}"
    );
}

#[test]
fn a_value_that_was_not_sent_is_left_out_and_named() {
    let after = || Some(vec![Value::Int(7), text_of("b"), Value::Absent]);
    let key_only = vec![Value::Int(7), Value::Absent, Value::Absent];

    let without = encoded(options(), [update_of(after().unwrap(), 0)]);
    let partial = encoded(options(), [change(&holes(), Some(key_only), after(), 0)]);
    let whole = encoded(
        options(),
        [change(&holes(), Some(hole(7, "a")), after(), 0)],
    );

    let row = r#""after":{"id":7,"content":"b"}"#;
    for (out, expected) in [
        (
            without,
            format!(r#""before":null,{row},"changed":null,"unchanged":["body"],"at""#),
        ),
        (
            partial,
            format!(
                r#""before":{{"id":7}},{row},"changed":null,"partial":true,"unchanged":["body"],"at""#
            ),
        ),
        (
            whole,
            format!(r#"{row},"changed":["content"],"unchanged":["body"],"at""#),
        ),
    ] {
        assert!(json(&out[0]).contains(&expected), "{}", json(&out[0]));
    }
}

#[test]
fn a_value_that_no_calendar_has_is_null_and_told() {
    let columns = [
        ("id", INT),
        ("day", ColumnKind::Date),
        ("doc", ColumnKind::Json),
    ];
    let table = table_of("days", &columns, &[0]);
    let row = |day: Value| Some(vec![Value::Int(1), day, Value::Json("{broken".into())]);
    let zero = Value::Invalid("0000-00-00".into());

    let out = encoded(
        options(),
        [change(&table, row(zero), row(text_of("2024-02-29")), 0)],
    );

    let json = json(&out[0]);
    let rows =
        r#""before":{"id":1,"day":null,"doc":null},"after":{"id":1,"day":"2024-02-29","doc":null}"#;
    assert!(json.contains(rows), "{json}");
    let told =
        r#""invalid":{"before":{"day":"0000-00-00","doc":"{broken"},"after":{"doc":"{broken"}}"#;
    assert!(json.contains(told), "{json}");
}

#[test]
fn columns_are_dropped_masked_and_hashed_wherever_they_stand() {
    let key = HashKey::new("sixteen bytes or more").unwrap();
    let columns = [
        ("mail", ColumnKind::Text),
        ("name", ColumnKind::Text),
        ("secret", ColumnKind::Text),
    ];
    let table = table_of("users", &columns, &[0]);
    let rules = ColumnRules::new().hash("mail").mask("name").drop("secret");
    let options = with(|options| {
        let selection = Selection::tables(["shop.*"]).columns("shop.users", rules);
        options.selection = selection.hash_key(key.clone());
    });
    let row = |secret: &str| Some(vec![text_of("ann@x"), text_of("Ann"), text_of(secret)]);
    let hash = key.hash(b"ann@x");

    let out = encoded(options, [change(&table, row("s1"), row("s2"), 0)]);

    let (json, message) = (json(&out[0]), &out[0].message);
    let shown = format!(r#"{{"mail":"{hash}","name":"***"}}"#);
    let expected =
        format!(r#""key":{{"mail":"{hash}"}},"before":{shown},"after":{shown},"changed":[]"#);
    assert!(json.contains(&expected), "{json}");
    assert_eq!(message.key(), Some(&*format!("shop.users/{hash}")));
    for secret in ["ann", "Ann", "s1", "s2"] {
        assert!(
            !json.contains(secret) && !message.key().unwrap().contains(secret),
            "{json}"
        );
    }
}

#[test]
fn a_hidden_null_stays_null() {
    let row = vec![Value::Int(1), Value::Null, Value::Null];
    let out = encoded(
        selecting(ColumnRules::new().mask("content")),
        [change(&holes(), None, Some(row), 0)],
    );
    assert_eq!(parsed(&out[0])["after"]["content"], serde_json::Value::Null);
}

#[test]
fn hidden_columns_of_a_renamed_table_stop_the_capture() {
    let mut encoder = encoder(selecting(ColumnRules::new().mask("mail")));
    encoder.begin(transaction());

    let change = change(&holes(), None, Some(hole(1, "a")), 0);
    let error = encoder.row(change, &mut Vec::new()).unwrap_err();

    assert!(error.stops && error.why.contains("`mail`"), "{error}");
}

#[test]
fn big_integers_are_text_for_those_who_ask() {
    let options = with(|options| options.big_integers_as_text = true);
    let out = encoded(
        options,
        [change(&holes(), None, Some(hole(i64::MAX, "a")), 0)],
    );
    assert_eq!(parsed(&out[0])["key"]["id"], "9223372036854775807");
    assert_eq!(out[0].message.key(), Some("shop.holes/9223372036854775807"));
}

#[test]
fn a_table_that_is_not_wanted_makes_no_message_and_no_error() {
    let tmp = table_of("tmp_1", &[("id", INT)], &[0]);
    assert!(
        encoded(
            options(),
            [change(&tmp, None, Some(vec![Value::Int(1)]), 0)]
        )
        .is_empty()
    );
}

#[test]
fn a_table_whose_topic_nobody_could_subscribe_stops_the_capture() {
    let mut encoder = encoder(with(|options| options.topic = Arc::new(|_| "*".into())));
    encoder.begin(transaction());
    let change = change(&holes(), None, Some(hole(1, "a")), 0);
    let error = encoder.row(change, &mut Vec::new()).unwrap_err();
    assert!(error.stops && error.why.contains("wildcards"), "{error}");
}

#[test]
fn a_change_without_its_key_is_refused_alone_and_behind_the_message_before_it() {
    let mut encoder = encoder(options());
    let mut out = Vec::new();
    encoder.begin(transaction());
    let whole = |id, index| change(&holes(), None, Some(hole(id, "a")), index);
    encoder.row(whole(1, 0), &mut out).unwrap();
    assert!(out.is_empty(), "the message waits");

    let keyless = vec![Value::Absent, text_of("a"), text_of("b")];
    let error = encoder
        .row(change(&holes(), None, Some(keyless), 1), &mut out)
        .unwrap_err();
    assert!(!error.stops && error.why.contains("`id`"), "{error}");
    assert_eq!(out.len(), 1, "the order is kept");

    encoder.row(whole(2, 2), &mut out).unwrap();
    encoder.commit(&point(), &mut out);
    assert_eq!(keys(&out), ["shop.holes/1", "shop.holes/2"]);
}

#[test]
fn what_another_transaction_left_is_forgotten() {
    let mut encoder = encoder(options());
    let mut out = Vec::new();
    let one = || change(&holes(), None, Some(hole(1, "a")), 0);
    encoder.begin(transaction());
    encoder.row(one(), &mut out).unwrap();
    encoder.begin(transaction());
    encoder.commit(&point(), &mut out);
    assert!(out.is_empty());

    encoder.row(one(), &mut out).unwrap_err();
}

#[test]
fn columns_that_were_added_are_there_from_their_first_change() {
    let columns = [
        ("id", INT),
        ("content", ColumnKind::Text),
        ("body", ColumnKind::Text),
        ("new", INT),
    ];
    let wide = table_of("holes", &columns, &[0]);
    let row = hole(1, "a").into_iter().chain([Value::Int(5)]).collect();

    let narrow = change(&holes(), None, Some(hole(1, "a")), 0);
    let out = encoded(options(), [narrow, change(&wide, None, Some(row), 1)]);

    assert_eq!(parsed(&out[0])["after"].get("new"), None);
    assert_eq!(parsed(&out[1])["after"]["new"], 5);
}
