use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::table::{Column, TableName};

fn table() -> Table {
    let column = |name: &str, kind| Column {
        name: name.into(),
        kind,
        declared: "".into(),
    };
    Table {
        name: TableName {
            schema: "shop".into(),
            table: "orders".into(),
        },
        columns: vec![
            column(
                "id",
                ColumnKind::Integer {
                    bytes: 8,
                    unsigned: false,
                },
            ),
            column("status", ColumnKind::Text),
            column("amount", ColumnKind::Decimal),
            column("raw", ColumnKind::Bytes),
        ],
        key: vec![0],
    }
}

fn row(id: i64, status: Value, amount: &str) -> Vec<Value> {
    vec![
        Value::Int(id),
        status,
        Value::Text(amount.into()),
        Value::Null,
    ]
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

#[track_caller]
fn fit(filter: &str, row: &[Value]) -> Fit {
    Filter::new(filter)
        .unwrap()
        .of_table(&table())
        .unwrap()
        .fit(row)
}

#[test]
fn conditions_are_joined_by_and() {
    let paid = row(7, text("paid"), "12.50");
    for (filter, expected) in [
        ("status = 'paid'", Fit::Yes),
        ("status != 'paid'", Fit::No),
        ("status <> 'open' AND id = 7", Fit::Yes),
        ("id in (1, 7) and status in ('open','paid')", Fit::Yes),
        ("id not in (1, 7)", Fit::No),
        ("amount = 12.5", Fit::Yes),
        ("amount > 12.49999999999999999999", Fit::Yes),
        ("amount >= 100", Fit::No),
        ("id < -3", Fit::No),
        ("`status` = 'paid' and \"id\" <= 7", Fit::Yes),
        ("status = 'Paid'", Fit::No),
        ("raw is null and status is not null", Fit::Yes),
        ("id = '7'", Fit::Yes),
    ] {
        assert_eq!(fit(filter, &paid), expected, "{filter}");
    }
    assert_eq!(
        fit("status = 'it''s'", &row(1, text("it's"), "0")),
        Fit::Yes
    );
}

#[test]
fn a_comparison_with_null_is_not_true() {
    let null = row(7, Value::Null, "0");
    for filter in [
        "status = 'paid'",
        "status != 'paid'",
        "status not in ('paid')",
    ] {
        assert_eq!(fit(filter, &null), Fit::No, "{filter}");
    }
    assert_eq!(fit("status is null", &null), Fit::Yes);
}

#[test]
fn a_column_that_was_not_sent_leaves_the_answer_open_unless_another_decides() {
    let part = row(7, Value::Absent, "0");
    assert_eq!(fit("status = 'paid'", &part), Fit::Unknown);
    assert_eq!(fit("status is null and id = 7", &part), Fit::Unknown);
    assert_eq!(fit("status = 'paid' and id = 8", &part), Fit::No);
}

#[test]
fn what_is_no_filter_is_refused_with_the_reason() {
    for (filter, why) in [
        ("", "a column is expected at the end"),
        ("status", "a comparison is expected behind `status`"),
        ("status = ", "a value is expected at the end"),
        ("status = null", "write `is null`"),
        ("status = 'paid", "does not end"),
        ("status = 'a' or id = 1", "`or` is not there"),
        ("status = 'a' id = 1", "`and` is expected before `id`"),
        ("id in ()", "is expected in place of `)`"),
        ("id in (1", "`,` or `)` is expected"),
        ("id = 1.2.3", "`1.2.3` is no number"),
        (
            "lower(status) = 'a'",
            "a comparison is expected in place of `(`",
        ),
        ("id = status", "is expected in place of `status`"),
        ("id = 1; drop", "`;` is not expected"),
    ] {
        let error = Filter::new(filter).unwrap_err().to_string();
        assert!(error.contains(why), "{filter}: {error}");
    }
}

#[test]
fn columns_that_are_not_there_or_have_bytes_are_refused() {
    let of_table = |filter| {
        Filter::new(filter)
            .unwrap()
            .of_table(&table())
            .unwrap_err()
            .to_string()
    };
    assert!(of_table("nope = 1").contains("`nope`"));
    assert!(of_table("raw = 'x'").contains("bytes"));
    let columns: Vec<_> = Filter::new("id = 1 and status is null")
        .unwrap()
        .columns()
        .map(str::to_owned)
        .collect();
    assert_eq!(columns, ["id", "status"]);
}

#[test]
fn set_and_enum_are_compared_as_texts() {
    let set = Value::Set(3, vec![Arc::from("a"), Arc::from("b")]);
    assert!(is_equal(&set, &Literal::Text("a,b".into())));
    assert!(is_equal(
        &Value::Enum(1, "red".into()),
        &Literal::Text("red".into())
    ));
    assert!(!is_equal(
        &Value::Enum(1, "red".into()),
        &Literal::Number("1".into())
    ));
}

proptest! {
    #[test]
    fn numbers_are_compared_as_numbers(left: i32, right: i32, zeros in 0_usize..3) {
        let text = |number: i32| format!("{number}.{}", "0".repeat(zeros));
        prop_assert_eq!(decimals(&text(left), &right.to_string()), Some(left.cmp(&right)));
    }

    #[test]
    fn hostile_text_is_no_panic(text in ".{0,60}") {
        let _ = Filter::new(&text);
    }
}
