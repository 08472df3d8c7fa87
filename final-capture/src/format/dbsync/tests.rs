//! Messages of dbsync, written by hand as its Go program writes them.

use std::sync::Arc;

use crate::{
    change::{Change, ChangeInfo},
    format::{Encoded, Encoder, EncoderOptions, Format, Order, topic_template},
    position::{SourceIdentity, SourcePoint},
    select::{ColumnRules, Selection},
    source::{RowChange, RowOp, Transaction},
    table::{Column, ColumnKind, Table, TableName},
    value::{Row, Value},
};

fn table(columns: &[(&str, ColumnKind, &str)]) -> Arc<Table> {
    let column = |(name, kind, declared): &(&str, ColumnKind, &str)| Column {
        name: (*name).into(),
        kind: kind.clone(),
        declared: (*declared).into(),
    };
    Arc::new(Table {
        name: TableName {
            schema: "treehole".into(),
            table: "holes".into(),
        },
        columns: columns.iter().map(column).collect(),
        key: vec![0],
    })
}

fn encoded(table: &Arc<Table>, before: Option<Row>, after: Option<Row>, readable: bool) -> Encoded {
    let mut options = EncoderOptions::new(Selection::tables(["treehole.*"]));
    options.format = Format::Dbsync { readable };
    options.order = Order::Table;
    options.topic = topic_template("pivot{table}").unwrap();
    encoded_by(options, table, before, after).remove(0)
}

fn encoded_by(
    options: EncoderOptions,
    table: &Arc<Table>,
    before: Option<Row>,
    after: Option<Row>,
) -> Vec<Encoded> {
    options.check().unwrap();
    let mut encoder = Encoder::new(options, SourceIdentity("x".into()));
    encoder.begin(Transaction {
        id: "1".into(),
        at: 0,
        after: SourcePoint::Lsn(0),
    });
    let op = match (&before, &after) {
        (_, None) => RowOp::Delete,
        (None, _) => RowOp::Insert,
        _ => RowOp::Update,
    };
    let change = RowChange {
        table: Arc::clone(table),
        op,
        before,
        after,
        index: 0,
    };
    let mut out = Vec::new();
    encoder.row(change, &mut out).unwrap();
    out
}

fn text(encoded: &Encoded) -> &str {
    str::from_utf8(encoded.message.payload()).unwrap()
}

fn integer(bytes: u8, unsigned: bool) -> ColumnKind {
    ColumnKind::Integer { bytes, unsigned }
}

/// Columns of the README's `Holes`, with an ENUM and a SET.
fn holes() -> Arc<Table> {
    let texts = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| Arc::from(*text))
            .collect::<Arc<[Arc<str>]>>()
    };
    table(&[
        ("hole_id", integer(4, true), "int unsigned"),
        ("content", ColumnKind::Text, "varchar(1037)"),
        ("body", ColumnKind::LongText, "longtext"),
        ("created_at", ColumnKind::DateTime, "datetime(3)"),
        ("updated_at", ColumnKind::Timestamp, "timestamp"),
        (
            "mood",
            ColumnKind::Enum(texts(&["good", "<bad>"])),
            "enum('good','<bad>')",
        ),
        ("tags", ColumnKind::Set(texts(&["a", "b"])), "set('a','b')"),
        ("price", ColumnKind::Decimal, "decimal(10,2)"),
        ("is_deleted", integer(1, false), "tinyint"),
    ])
}

fn hole() -> Row {
    vec![
        Value::UInt(7),
        Value::Text("a<b & \"c\"".into()),
        Value::Text("long".into()),
        Value::Text("2024-02-29T12:00:00.500".into()),
        Value::Text("2024-02-29T12:00:00Z".into()),
        Value::Enum(2, "<bad>".into()),
        Value::Set(3, vec!["a".into(), "b".into()]),
        Value::Text("12.50".into()),
        Value::Int(0),
    ]
}

const COLUMNS: &str = concat!(
    r#"[{"Name":"hole_id","Type":1,"Collation":"","RawType":"int(10) unsigned","IsAuto":false,"IsUnsigned":true,"IsVirtual":false,"EnumValues":null,"SetValues":null,"FixedSize":0,"MaxSize":0},"#,
    r#"{"Name":"content","Type":5,"Collation":"","RawType":"varchar(1037)","IsAuto":false,"IsUnsigned":false,"IsVirtual":false,"EnumValues":null,"SetValues":null,"FixedSize":0,"MaxSize":0},"#,
    r#"{"Name":"body","Type":5,"Collation":"","RawType":"longtext","IsAuto":false,"IsUnsigned":false,"IsVirtual":false,"EnumValues":null,"SetValues":null,"FixedSize":0,"MaxSize":0},"#,
    r#"{"Name":"created_at","Type":6,"Collation":"","RawType":"datetime(3)","IsAuto":false,"IsUnsigned":false,"IsVirtual":false,"EnumValues":null,"SetValues":null,"FixedSize":0,"MaxSize":0},"#,
    r#"{"Name":"updated_at","Type":7,"Collation":"","RawType":"timestamp","IsAuto":false,"IsUnsigned":false,"IsVirtual":false,"EnumValues":null,"SetValues":null,"FixedSize":0,"MaxSize":0},"#,
    r#"{"Name":"mood","Type":3,"Collation":"","RawType":"enum('good','\u003cbad\u003e')","IsAuto":false,"IsUnsigned":false,"IsVirtual":false,"EnumValues":["good","\u003cbad\u003e"],"SetValues":null,"FixedSize":0,"MaxSize":0},"#,
    r#"{"Name":"tags","Type":4,"Collation":"","RawType":"set('a','b')","IsAuto":false,"IsUnsigned":false,"IsVirtual":false,"EnumValues":null,"SetValues":["a","b"],"FixedSize":0,"MaxSize":0},"#,
    r#"{"Name":"price","Type":12,"Collation":"","RawType":"decimal(10,2)","IsAuto":false,"IsUnsigned":false,"IsVirtual":false,"EnumValues":null,"SetValues":null,"FixedSize":0,"MaxSize":0},"#,
    r#"{"Name":"is_deleted","Type":1,"Collation":"","RawType":"tinyint(4)","IsAuto":false,"IsUnsigned":false,"IsVirtual":false,"EnumValues":null,"SetValues":null,"FixedSize":0,"MaxSize":0}]"#,
);

const ROW: &str = r#"[7,"a\u003cb \u0026 \"c\"","bG9uZw==","2024-02-29 12:00:00.500","2024-02-29 12:00:00",2,3,"12.50",0]"#;

#[test]
fn an_insert_has_no_before_and_a_delete_no_after() {
    let insert = encoded(&holes(), None, Some(hole()), false);
    let delete = encoded(&holes(), Some(hole()), None, false);

    let expected = |action: &str, before: &str, after: &str| {
        format!(
            r#"{{"Table":"holes","Column":{COLUMNS},"Action":"{action}","BeforeData":{before},"AfterData":{after}}}"#
        )
    };
    assert_eq!(text(&insert), expected("insert", "null", ROW));
    assert_eq!(text(&delete), expected("delete", ROW, "null"));
    assert_eq!(insert.message.topic(), "pivotholes");
    assert!(insert.message.headers().is_empty());
}

#[test]
fn an_update_has_both_rows_and_waits_for_nothing() {
    let update = encoded(&holes(), Some(hole()), Some(hole()), false);
    assert!(text(&update).ends_with(&format!(
        r#""Action":"update","BeforeData":{ROW},"AfterData":{ROW}}}"#
    )));
    assert_eq!((update.changes, update.ends_change), (1, true));
}

#[test]
fn readable_messages_have_texts_as_texts_and_say_so() {
    let insert = encoded(&holes(), None, Some(hole()), true);
    assert!(
        text(&insert).contains(r#""long","2024"#),
        "{}",
        text(&insert)
    );
    assert_eq!(
        insert.message.headers().get("dbsync-readable"),
        Some("true")
    );
}

#[test]
fn each_type_has_the_value_that_go_would_write() {
    let types = table(&[
        ("f", ColumnKind::Float { bytes: 4 }, "float"),
        ("d", ColumnKind::Float { bytes: 8 }, "double"),
        ("m", integer(3, false), "mediumint"),
        ("bits", ColumnKind::Bits(8), "bit(8)"),
        ("blob", ColumnKind::Blob, "blob"),
        ("bin", ColumnKind::Bytes, "varbinary(4)"),
        ("doc", ColumnKind::Json, "longtext"),
        ("day", ColumnKind::Date, "date"),
        ("time", ColumnKind::Time, "time"),
        ("year", ColumnKind::Year, "year"),
        ("zero", ColumnKind::DateTime, "datetime"),
        ("none", ColumnKind::LongText, "text"),
        ("spot", ColumnKind::Geometry, "point"),
    ]);
    let row = vec![
        Value::Float(0.1),
        Value::Double(1e-7),
        Value::Int(-1),
        Value::Bits(5),
        Value::Bytes(vec![0xff].into()),
        Value::Bytes(vec![b'a', 0xff].into()),
        Value::Json("{}".into()),
        Value::Text("2024-02-29".into()),
        Value::Text("-12:00:00".into()),
        Value::Int(2024),
        Value::Invalid("0000-00-00 00:00:00".into()),
        Value::Null,
        Value::Bytes(vec![1].into()),
    ];

    let message = encoded(&types, None, Some(row), false);

    let text = text(&message);
    let values = r#""AfterData":[0.1,1e-7,-1,5,"/w==","a\ufffd","e30=","2024-02-29","-12:00:00",2024,"0000-00-00 00:00:00",null,"AQ=="]}"#;
    assert!(text.ends_with(values), "{text}");
    let numbers: Vec<u64> = serde_json::from_str::<serde_json::Value>(text).unwrap()["Column"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["Type"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [2, 2, 13, 10, 5, 14, 5, 8, 9, 1, 6, 5, 15]);
}

#[test]
fn floats_are_written_as_go_writes_them() {
    for (number, written) in [
        (1.0, "1"),
        (-0.0, "-0"),
        (100_000_000_000_000_000_000.0, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (0.000_001, "0.000001"),
        (1e-7, "1e-7"),
        (1.25e-10, "1.25e-10"),
    ] {
        let table = table(&[("d", ColumnKind::Float { bytes: 8 }, "double")]);
        let message = encoded(&table, None, Some(vec![Value::Double(number)]), false);
        assert!(
            text(&message).ends_with(&format!(r#""AfterData":[{written}]}}"#)),
            "{}",
            text(&message)
        );
    }
}

#[test]
fn a_dropped_column_is_missing_in_columns_and_values_alike() {
    let table = table(&[
        ("id", integer(4, false), "int"),
        ("secret", ColumnKind::Text, "varchar(9)"),
        ("a", integer(4, false), "int"),
    ]);
    let rules = ColumnRules::new().drop("secret");
    let mut options =
        EncoderOptions::new(Selection::tables(["treehole.*"]).columns("treehole.holes", rules));
    options.format = Format::Dbsync { readable: false };
    let row = vec![Value::Int(1), Value::Text("s3cret".into()), Value::Int(2)];

    let message = &encoded_by(options, &table, None, Some(row))[0];

    let text = text(message);
    assert!(
        text.ends_with(r#""AfterData":[1,2]}"#) && !text.contains("secret"),
        "{text}"
    );
}

#[test]
fn a_new_row_without_one_of_its_columns_stops_the_capture_and_names_the_cure() {
    let table = holes();
    let mut options = EncoderOptions::new(Selection::tables(["treehole.*"]));
    options.format = Format::Dbsync { readable: false };
    options.order = Order::Table;
    let mut encoder = Encoder::new(options, SourceIdentity("x".into()));
    encoder.begin(Transaction {
        id: "1".into(),
        at: 0,
        after: SourcePoint::Lsn(0),
    });
    let mut after = hole();
    *after.last_mut().unwrap() = Value::Absent;
    let change = RowChange {
        table,
        op: RowOp::Update,
        before: Some(hole()),
        after: Some(after),
        index: 0,
    };

    let error = encoder.row(change, &mut Vec::new()).unwrap_err();

    assert!(error.stops);
    assert!(error.why.contains("REPLICA IDENTITY FULL"), "{}", error.why);
}

#[test]
fn a_hidden_column_is_told_as_a_text() {
    let table = table(&[
        ("id", integer(4, false), "int"),
        ("at", ColumnKind::Timestamp, "timestamp"),
    ]);
    let rules = ColumnRules::new().mask("at");
    let mut options =
        EncoderOptions::new(Selection::tables(["treehole.*"]).columns("treehole.*", rules));
    options.format = Format::Dbsync { readable: false };
    options.order = Order::Table;
    let row = vec![Value::Int(1), Value::Text("2026-01-01T00:00:00Z".into())];
    let encoded = encoded_by(options, &table, None, Some(row)).remove(0);
    assert!(
        text(&encoded).contains(r#"{"Name":"at","Type":5,"Collation":"","RawType":"varchar(64)""#)
    );
}

#[test]
fn a_truncate_is_nothing_that_dbsync_knows() {
    let mut options = EncoderOptions::new(Selection::tables(["treehole.*"]));
    options.format = Format::Dbsync { readable: false };
    let mut encoder = Encoder::new(options, SourceIdentity("x".into()));
    let mut out = Vec::new();
    encoder.begin(Transaction {
        id: "1".into(),
        at: 0,
        after: SourcePoint::Lsn(0),
    });
    encoder.truncate(&[holes()], 0, &mut out).unwrap();
    encoder.commit(&SourcePoint::Lsn(1), &mut out);
    assert!(out.is_empty());
}

/// One handler takes both formats.
#[tokio::test]
async fn a_handler_reads_from_dbsync_what_it_reads_from_ours() {
    use final_core::FromMessage;
    let mut seen = Vec::new();
    for format in [
        Format::Json,
        Format::Dbsync { readable: false },
        Format::Dbsync { readable: true },
    ] {
        let mut options = EncoderOptions::new(Selection::tables(["treehole.*"]));
        options.format = format;
        let mut new = hole();
        new[1] = Value::Text("new".into());
        let mut encoder = Encoder::new(options, SourceIdentity("x".into()));
        let mut out = Vec::new();
        encoder.begin(Transaction {
            id: "1".into(),
            at: 0,
            after: SourcePoint::Lsn(0),
        });
        let change = RowChange {
            table: holes(),
            op: RowOp::Update,
            before: Some(hole()),
            after: Some(new),
            index: 0,
        };
        encoder.row(change, &mut out).unwrap();
        encoder.commit(&SourcePoint::Lsn(1), &mut out);
        let message = &out[0].message;
        let info = ChangeInfo::from_message(message, &()).await.unwrap();
        assert_eq!(info.table, "holes");
        seen.push(
            Change::<serde_json::Value>::from_message(message, &())
                .await
                .unwrap(),
        );
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
    assert_eq!(seen[0].after().unwrap()["mood"], "<bad>");
}
