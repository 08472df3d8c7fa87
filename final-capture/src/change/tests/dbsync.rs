//! JSON of dbsync, as its own Go program writes it.

use super::*;

#[derive(Debug, PartialEq, Deserialize)]
struct Row {
    id: u64,
    body: Option<String>,
    doc: Value,
    mood: String,
    tags: String,
    made: Option<String>,
    seen: Option<String>,
    raw: Base64,
}

fn column(name: &str, kind: u8, raw: &str) -> Value {
    json!({"Name": name, "Type": kind, "Collation": "", "RawType": raw, "IsAuto": false, "IsUnsigned": false,
           "IsVirtual": false, "EnumValues": null, "SetValues": null, "FixedSize": 0, "MaxSize": 0})
}

fn message(action: &str, before: Value, after: Value) -> Vec<u8> {
    let mut mood = column("mood", 3, "enum('good','bad')");
    mood["EnumValues"] = json!(["good", "bad"]);
    let mut tags = column("tags", 4, "set('a','b','c')");
    tags["SetValues"] = json!(["a", "b", "c"]);
    let columns = json!([
        column("id", 1, "bigint(20) unsigned"),
        column("body", 5, "longtext"),
        column("doc", 11, "json"),
        mood,
        tags,
        column("made", 6, "datetime"),
        column("seen", 7, "timestamp"),
        column("raw", 5, "blob"),
    ]);
    json!({"Table": "holes", "Column": columns, "Action": action, "BeforeData": before, "AfterData": after})
        .to_string()
        .into_bytes()
}

fn values(made: &str) -> Value {
    json!([
        u64::MAX,
        "bG9uZw==",
        "eyJhIjoxfQ==",
        2,
        5,
        made,
        "2024-02-29 12:00:00",
        "/w=="
    ])
}

fn row(made: Option<&str>) -> Row {
    Row {
        id: u64::MAX,
        body: Some("long".into()),
        doc: json!({"a": 1}),
        mood: "bad".into(),
        tags: "a,c".into(),
        made: made.map(str::to_owned),
        seen: Some("2024-02-29T12:00:00Z".into()),
        raw: Base64(vec![255]),
    }
}

fn read(message: &[u8]) -> Change<Row> {
    Change::from_json(message).unwrap()
}

#[test]
fn values_are_those_that_ours_would_have() {
    let insert = message("insert", Value::Null, values("2024-02-29 12:00:00"));
    assert_eq!(
        read(&insert),
        Change::Insert {
            after: row(Some("2024-02-29T12:00:00"))
        }
    );
    let delete = message("delete", values("0000-00-00 00:00:00"), Value::Null);
    assert_eq!(read(&delete), Change::Delete { before: row(None) });
}

#[test]
fn an_update_finds_out_what_changed() {
    let update = message(
        "update",
        values("2024-01-01 00:00:00"),
        values("2024-02-29 12:00:00"),
    );
    let Change::Update {
        before, changed, ..
    } = read(&update)
    else {
        panic!()
    };
    assert_eq!(before, Some(row(Some("2024-01-01T00:00:00"))));
    assert_eq!(changed.known(), Some(&["made".to_owned()][..]));
}

/// dbsync takes today's columns for yesterday's rows. Its client shifts the values silently.
#[test]
fn values_of_other_columns_are_refused() {
    let short = message("insert", Value::Null, json!([1, "x"]));
    let error = Change::<Row>::from_json(&short).unwrap_err().to_string();
    assert!(error.contains("8 columns and 2 values"), "{error}");
}

#[test]
fn nothing_in_it_is_needed_but_the_table_and_the_action() {
    let bare = br#"{"Table":"holes","Action":"delete","BeforeData":[],"Column":[]}"#;
    assert_eq!(
        Change::<Value>::from_json(bare).unwrap(),
        Change::Delete { before: json!({}) }
    );
}
