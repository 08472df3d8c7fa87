//! What is written is read back as it was, whatever the values are.

use proptest::{collection::vec, prelude::*};
use serde_json::{Value as JsonValue, json as as_json};

use super::*;
use crate::change::{Change, Changes};

fn any_value() -> impl Strategy<Value = Value> {
    let set = (any::<u64>(), "[a-z\"]{0,3}", "[a-z\\\\]{0,3}");
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::UInt),
        any::<f64>().prop_map(Value::Double),
        any::<f32>().prop_map(Value::Float),
        ".{0,20}".prop_map(|text| Value::Text(text.into())),
        vec(any::<u8>(), 0..20).prop_map(|bytes| Value::Bytes(bytes.into())),
        Just(Value::Json(r#"{"a":[1,{"b":null}],"c":"é"}"#.into())),
        (any::<u32>(), ".{0,5}").prop_map(|(index, text)| Value::Enum(index, text.into())),
        set.prop_map(|(bits, a, b)| Value::Set(bits, vec![a.into(), b.into()])),
        any::<u64>().prop_map(Value::Bits),
        Just(Value::Invalid("0000-00-00".into())),
    ]
}

/// What a reader should see.
fn expected(value: &Value) -> JsonValue {
    use base64::{Engine, engine::general_purpose::STANDARD};
    match value {
        Value::Null | Value::Absent | Value::Invalid(_) => JsonValue::Null,
        Value::Bool(value) => as_json!(value),
        Value::Int(number) => as_json!(number),
        Value::UInt(number) | Value::Bits(number) => as_json!(number),
        Value::Double(number) if number.is_nan() => as_json!("NaN"),
        Value::Double(number) if *number == f64::INFINITY => as_json!("Infinity"),
        Value::Double(number) if *number == f64::NEG_INFINITY => as_json!("-Infinity"),
        Value::Double(number) => as_json!(number),
        // Several texts can be the shortest one that reads back as these 4 bytes.
        Value::Float(number) if number.is_finite() => {
            serde_json::from_str(&serde_json::to_string(number).unwrap()).unwrap()
        }
        Value::Float(number) => expected(&Value::Double(f64::from(*number))),
        Value::Text(text) | Value::Enum(_, text) => as_json!(&**text),
        Value::Bytes(bytes) => as_json!(STANDARD.encode(bytes)),
        Value::Json(text) => serde_json::from_str(text).unwrap(),
        Value::Set(_, texts) => as_json!(texts.join(",")),
    }
}

fn any_row() -> impl Strategy<Value = Row> {
    let rest = vec(any_value(), 3);
    (any::<i64>(), rest)
        .prop_map(|(id, rest)| std::iter::once(Value::Int(id)).chain(rest).collect())
}

type Rows = (Option<Row>, Option<Row>);

fn any_change() -> impl Strategy<Value = Rows> {
    prop_oneof![
        any_row().prop_map(|row| (None, Some(row))),
        any_row().prop_map(|row| (Some(row), None)),
        (any_row(), any_row()).prop_map(|(before, after)| (Some(before), Some(after))),
    ]
}

/// With names that JSON must escape.
fn table() -> Arc<Table> {
    let other = || ColumnKind::Other;
    table_of(
        "t\"1",
        &[
            ("id", INT),
            ("a\"", other()),
            ("b\\\n", other()),
            ("é", other()),
        ],
        &[0],
    )
}

fn changes(rows: &[Rows]) -> Vec<RowChange> {
    let table = table();
    let of = |((before, after), index): (&Rows, u64)| {
        change(&table, before.clone(), after.clone(), index)
    };
    rows.iter().zip(0..).map(of).collect()
}

fn object(row: &Row) -> JsonValue {
    let table = table();
    let columns = table.columns.iter().zip(row);
    let pairs = columns.map(|(column, value)| (column.name.to_string(), expected(value)));
    JsonValue::Object(pairs.collect())
}

fn read(encoded: &Encoded) -> Change<JsonValue> {
    Change::from_json(encoded.message.payload()).unwrap()
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(rows in vec(any_change(), 1..5)) {
        let table_order = with(|options| options.order = Order::Table);
        let out = encoded(table_order, changes(&rows));
        prop_assert_eq!(out.len(), rows.len());
        for (message, (before, after)) in out.iter().zip(&rows) {
            let read = read(message);
            prop_assert_eq!(read.before().cloned(), before.as_ref().map(object));
            prop_assert_eq!(read.after().cloned(), after.as_ref().map(object));
            if let (Change::Update { changed, .. }, Some(before), Some(after)) = (read, before, after) {
                for (column, (old, new)) in table().columns.iter().zip(before.iter().zip(after)) {
                    prop_assert_eq!(changed.contains(&column.name), old != new);
                }
            }
        }
    }

    /// Wherever they are cut.
    #[test]
    fn parts_have_what_the_whole_has(rows in vec(any_change(), 1..12), most in 1_usize..3_000) {
        let read = |most_bytes| {
            let options = with(|options| options.order = Order::Transaction { most_bytes });
            let out = encoded(options, changes(&rows));
            let parts = out.iter().map(|one| Changes::<JsonValue>::from_json(one.message.payload()).unwrap());
            let all = parts.flatten().map(|(info, change)| (info.transaction.unwrap().index, change));
            // NaN in a debug text is equal to itself.
            all.map(|change| format!("{change:?}")).collect::<Vec<_>>()
        };
        prop_assert_eq!(read(usize::MAX), read(most));
    }

    #[test]
    fn both_halves_of_a_moved_row_say_what_the_update_would(before in any_row(), after in any_row()) {
        let out = encoded(options(), changes(&[(Some(before.clone()), Some(after.clone()))]));
        let read: Vec<_> = out.iter().map(read).collect();
        if before[0] == after[0] {
            prop_assert_eq!(read.len(), 1);
        } else {
            let halves = [Change::Delete { before: object(&before) }, Change::Insert { after: object(&after) }];
            prop_assert_eq!(&read[..], &halves);
        }
    }
}
