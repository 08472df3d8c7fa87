use std::sync::Arc;

use proptest::prelude::*;

use super::{super::literal::decimals, *};
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
            column("active", ColumnKind::Bool),
            column("score", ColumnKind::Float { bytes: 8 }),
            column("state", ColumnKind::Enum(Arc::from([Arc::from("new")]))),
            column("born", ColumnKind::Date),
            column("local", ColumnKind::DateTime),
            column("at", ColumnKind::Timestamp),
            column("tag", ColumnKind::Uuid),
            column("note", ColumnKind::Text),
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

/// The one value of that column against the filter.
#[track_caller]
fn one(column: &str, value: Value, filter: &str) -> bool {
    let table = table();
    let at = table.columns.iter().position(|one| *one.name == *column);
    let mut row = vec![Value::Null; table.columns.len()];
    row[at.unwrap()] = value;
    fit(filter, &row) == Fit::Yes
}

#[test]
fn a_literal_that_no_value_can_be_compared_with_is_refused_with_how_to_write_it() {
    for (filter, how) in [
        ("active = 't'", "write `true` or `false`"),
        ("active != 2", "write `true` or `false`"),
        ("id = 'seven'", "write digits"),
        ("score > 'high'", "write digits"),
        ("score = true", "write digits"),
        ("amount in (1, '1 000')", "write digits"),
        ("amount != false", "write digits"),
        ("status = 3", "in single quotes"),
        ("note not in ('a', true)", "in single quotes"),
        ("state = 3", "write the text in single quotes"),
        ("born > 20240101", "write `'2024-02-29'`"),
        ("born > '01.02.2024'", "write `'2024-02-29'`"),
        ("local > 20240101", "write `'2024-02-29T12:00:00'`"),
        (
            "local > '2024-02-29T12:00:00Z'",
            "write `'2024-02-29T12:00:00'`",
        ),
        ("at > '2024-02-29T12:00:00+02'", "write them in UTC"),
        ("tag = '0192f7a05c4e7cc18d3f0a1b2c3d4e5f'", "has UUIDs"),
    ] {
        let error = Filter::new(filter).unwrap().of_table(&table()).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains(how) && error.contains(filter),
            "{filter}: {error}"
        );
        assert!(error.contains("shop.orders"), "{filter}: {error}");
    }
}

#[test]
fn decimals_are_compared_as_numbers_in_quotes_as_well() {
    let amount = |amount, filter| one("amount", text(amount), filter);
    assert!(amount("10.00", "amount > '9'"));
    assert!(amount("10.00", "amount = '10'"));
    assert!(amount("10.00", "amount in ('10', 11)"));
    assert!(amount("Infinity", "amount > 9"));
    assert!(amount("NaN", "amount > 9"));
    assert!(amount("-Infinity", "amount < -9"));
}

#[test]
fn floating_points_are_compared_with_the_number_of_their_size_that_is_nearest() {
    let score = |score, filter| one("score", Value::Double(score), filter);
    assert!(score(0.1, "score = 0.1"));
    assert!(score(10.0, "score > '9'"));
    assert!(score(f64::INFINITY, "score > 9"));
    assert!(score(f64::NAN, "score > 9 and score != 9"));
    assert!(one("score", Value::Float(0.1), "score = 0.1"));
}

#[test]
fn true_and_false_may_be_one_and_zero() {
    assert!(one("active", Value::Bool(true), "active = 1"));
    assert!(one("active", Value::Bool(false), "active in (0)"));
    assert!(one("id", Value::Int(1), "id = true"));
}

#[test]
fn times_are_compared_in_order_however_they_are_written() {
    let local = |filter| one("local", text("2024-02-29T12:00:00.500"), filter);
    assert!(local("local = '2024-02-29 12:00:00.5'"));
    assert!(local("local > '2024-02-29T12:00:00'"));
    assert!(local("local > '2024-02-29' and local < '2024-03-01'"));
    let midnight = text("2024-02-29T00:00:00.000000");
    assert!(one("local", midnight, "local = '2024-02-29'"));
    let at = |filter| one("at", text("2024-02-29T12:00:00.5Z"), filter);
    assert!(at("at > '2024-02-29T12:00:00Z'"));
    assert!(at("at = '2024-02-29 12:00:00.50'"));
    assert!(one("at", text("infinity"), "at > '2024-02-29'"));
    assert!(one("born", text("2024-03-01"), "born > '2024-02-29'"));
}

#[test]
fn a_uuid_may_be_written_in_capitals() {
    let tag = "0192f7a0-5c4e-7cc1-8d3f-0a1b2c3d4e5f";
    let filter = format!("tag = '{}'", tag.to_uppercase());
    assert!(one("tag", text(tag), &filter));
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
