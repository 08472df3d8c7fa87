//! Row filters, and the message of a change that enters or leaves a filter.

use super::*;
use crate::select::ColumnRules;

const FILTER: &str = "content = 'in'";

fn filtering(filter: &str) -> EncoderOptions {
    let rules = ColumnRules::new().filter(filter);
    with(|options| options.selection = Selection::tables(["shop.*"]).columns("shop.holes", rules))
}

fn ops(changes: impl IntoIterator<Item = RowChange>) -> Vec<String> {
    let of = |one: &Encoded| {
        let json = parsed(one);
        format!("{} {}", json["op"].as_str().unwrap(), json["key"]["id"])
    };
    encoded(filtering(FILTER), changes).iter().map(of).collect()
}

#[test]
fn rows_outside_of_the_filter_make_no_message() {
    let ops = ops([
        change(&holes(), None, Some(hole(1, "in")), 0),
        change(&holes(), None, Some(hole(2, "out")), 1),
        change(&holes(), Some(hole(1, "in")), None, 2),
        change(&holes(), Some(hole(2, "out")), None, 3),
        change(&holes(), Some(hole(3, "out")), Some(hole(3, "also out")), 4),
        change(&holes(), Some(hole(4, "in")), Some(hole(4, "in")), 5),
    ]);
    assert_eq!(ops, ["insert 1", "delete 1", "update 4"]);
}

#[test]
fn a_row_that_enters_is_inserted_and_one_that_leaves_is_deleted() {
    let ops = ops([
        change(&holes(), Some(hole(1, "out")), Some(hole(1, "in")), 0),
        change(&holes(), Some(hole(1, "in")), Some(hole(1, "out")), 1),
    ]);
    assert_eq!(ops, ["insert 1", "delete 1"]);
}

#[test]
fn a_row_whose_past_is_unknown_is_updated_inside_and_deleted_outside() {
    let key_only = vec![Value::Int(1), Value::Absent, Value::Absent];
    let ops = ops([
        update_of(hole(1, "in"), 0),
        update_of(hole(1, "out"), 1),
        change(&holes(), Some(key_only), None, 2),
    ]);
    assert_eq!(ops, ["update 1", "delete 1", "delete 1"]);
}

#[test]
fn a_delete_that_a_filter_makes_names_the_key_at_least() {
    let out = encoded(filtering(FILTER), [update_of(hole(1, "out"), 0)]);
    let expected = r#""key":{"id":1},"before":{"id":1},"after":null,"partial":true"#;
    assert!(json(&out[0]).contains(expected), "{}", json(&out[0]));
}

#[test]
fn a_large_value_that_did_not_change_is_looked_up_in_the_old_row() {
    let after = |id| Some(vec![Value::Int(id), Value::Absent, text_of("new")]);
    let ops = ops([
        change(&holes(), Some(hole(1, "in")), after(1), 0),
        change(&holes(), Some(hole(2, "out")), after(2), 1),
    ]);
    assert_eq!(ops, ["update 1"]);
}

#[test]
fn a_filter_whose_column_is_gone_stops_the_capture() {
    let mut encoder = encoder(filtering("paid = true"));
    encoder.begin(transaction());
    let change = change(&holes(), None, Some(hole(1, "a")), 0);
    let error = encoder.row(change, &mut Vec::new()).unwrap_err();
    assert!(error.stops && error.why.contains("`paid`"), "{error}");
}

#[test]
fn a_row_that_enters_is_whole_if_its_old_row_came() {
    let after = vec![Value::Int(1), text_of("in"), Value::Absent];
    let out = encoded(
        filtering(FILTER),
        [change(&holes(), Some(hole(1, "out")), Some(after), 0)],
    );
    let json = json(&out[0]);
    assert!(
        json.contains(r#""op":"insert""#) && json.contains(r#""body":"b""#),
        "{json}"
    );
    assert!(!json.contains("unchanged"), "{json}");
}

#[test]
fn a_masked_column_that_is_renamed_stops_the_capture_and_does_not_leak() {
    let rules = ColumnRules::new().mask("content");
    let options =
        with(|options| options.selection = Selection::tables(["shop.*"]).columns("shop.*", rules));
    let columns = [
        ("id", INT),
        ("text", ColumnKind::Text),
        ("body", ColumnKind::Text),
    ];
    let renamed = table_of("holes", &columns, &[0]);
    let old = holes();
    let after = |table| change(table, None, Some(hole(1, "secret")), 0);
    let mut streams = [encoder(options.clone()), encoder(options)];
    streams[0].begin(transaction());
    streams[0].row(after(&old), &mut Vec::new()).unwrap();

    // The second stream is opened after the first one broke.
    for mut encoder in streams {
        let mut out = Vec::new();
        encoder.begin(transaction());
        let error = encoder.row(after(&renamed), &mut out).unwrap_err();
        assert!(error.stops && error.why.contains("`content`"), "{error}");
        encoder.commit(&point(), &mut out);
        assert!(out.is_empty());
    }
}
