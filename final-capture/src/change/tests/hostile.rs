//! Bytes of anybody.

use proptest::prelude::*;

use super::*;

fn read_all(bytes: &[u8]) {
    let _ = Change::<Value>::from_json(bytes);
    let _ = Change::<Hole>::from_json(bytes);
    let _ = Changes::<Value>::from_json(bytes);
}

#[test]
fn deep_nesting_is_an_answer_and_no_overflow() {
    let deep = "[".repeat(1_000_000);
    read_all(deep.as_bytes());
    let row = format!(
        r#"{{"op":"insert","table":"t","after":{{"a":{}{}}}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    read_all(row.as_bytes());
    let error = Change::<Value>::from_json(row.as_bytes()).unwrap_err();
    assert!(error.to_string().len() < 1_000);
}

#[test]
fn numbers_of_dbsync_that_fit_no_type_are_no_panic() {
    for (kind, number) in [
        (3, "0"),
        (3, "99999999999999999999"),
        (4, "-1"),
        (4, "18446744073709551615"),
    ] {
        let message = format!(
            r#"{{"Table":"t","Action":"insert","Column":[{{"Name":"a","Type":{kind},"EnumValues":["x"],"SetValues":["y"]}}],"AfterData":[{number}]}}"#
        );
        Change::<Value>::from_json(message.as_bytes()).unwrap();
    }
}

#[test]
fn a_column_that_stands_twice_is_refused_whatever_type_the_row_has() {
    let row = r#"{"id":1,"i\u0064":2}"#;
    let messages = [
        format!(r#"{{"op":"insert","table":"t","after":{row}}}"#),
        format!(r#"{{"op":"delete","table":"t","before":{row}}}"#),
        format!(
            r#"{{"op":"update","table":"t","partial":true,"before":{row},"after":{{"id":1}}}}"#
        ),
        format!(r#"{{"op":"insert","table":"t","key":{row},"after":{{"id":1}}}}"#),
        format!(r#"{{"op":"insert","table":"t","moved_from":{row},"after":{{"id":1}}}}"#),
        r#"{"Table":"t","Action":"insert","Column":[{"Name":"id","Type":1},{"Name":"id","Type":1}],"AfterData":[1,2]}"#
            .to_owned(),
    ];
    for message in &messages {
        let error = Change::<Value>::from_json(message.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("twice"), "{message}: {error}");
        let error = Changes::<Value>::from_json(message.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("twice"), "{message}: {error}");
    }
}

proptest! {
    #[test]
    fn whatever_comes_is_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    #[test]
    fn whatever_is_cut_or_turned_is_an_answer(cut in 0_usize..400, byte: u8) {
        let mut bytes = update(json!({})).to_string().into_bytes();
        let at = cut % bytes.len();
        bytes[at] = byte;
        read_all(&bytes);
        bytes.truncate(at);
        read_all(&bytes);
    }
}
