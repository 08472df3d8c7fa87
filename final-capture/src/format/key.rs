//! The key of a message: a text that two changes of one row share.
//!
//! Input: the values of the key's columns. Output: a text of at most [`MOST`] bytes.
//!
//! The text may be coarser than the key, never finer: rows that share a text are only handed over one after the other.
//! So texts are folded, because MariaDB counts `Ann` and `ann ` as one key unless the collation is binary.

use std::{borrow::Cow, fmt::Write};

use uuid::Uuid;

use crate::{
    table::ColumnKind,
    value::{Value, json::not_finite},
};

/// A longer key is cut and gets a hash, so that it fits into a header and into a column of each database.
const MOST: usize = 255;

/// Appends the text of one value of a key. False if the source did not send it.
pub(super) fn append(key: &mut String, value: &Value, first: bool) -> bool {
    if !first {
        key.push(',');
    }
    // Writing into a text cannot fail.
    let _ = match value {
        Value::Absent => return false,
        Value::Null => write!(key, "\\N"),
        Value::Bool(value) => write!(key, "{value}"),
        Value::Int(number) => {
            decimal(key, *number < 0, number.unsigned_abs());
            Ok(())
        }
        Value::UInt(number) | Value::Bits(number) => {
            decimal(key, false, *number);
            Ok(())
        }
        Value::Float(number) if number.is_finite() => write!(key, "{number}"),
        Value::Double(number) if number.is_finite() => write!(key, "{number}"),
        Value::Float(number) => write!(key, "{}", not_finite((*number).into())),
        Value::Double(number) => write!(key, "{}", not_finite(*number)),
        Value::Text(text) | Value::Enum(_, text) => {
            folded(key, text);
            Ok(())
        }
        Value::Json(text) | Value::Invalid(text) => {
            escaped(key, text);
            Ok(())
        }
        Value::Set(bits, _) => write!(key, "{bits}"),
        Value::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(key, "{byte:02x}")),
    };
    true
}

/// The value as an index compares it: an exact number without zeros at its end, and one zero without a sign.
pub(super) fn plain<'a>(kind: &ColumnKind, value: &'a Value) -> Cow<'a, Value> {
    match value {
        Value::Text(text) if *kind == ColumnKind::Decimal && text.contains('.') => {
            let short = text.trim_end_matches('0').trim_end_matches('.');
            let short = if short == "-0" { "0" } else { short };
            Cow::Owned(Value::Text(short.into()))
        }
        // Adding zero makes a positive zero of a negative one.
        Value::Float(number) => Cow::Owned(Value::Float(number + 0.0)),
        Value::Double(number) => Cow::Owned(Value::Double(number + 0.0)),
        value => Cow::Borrowed(value),
    }
}

/// Shortens a text that is too long for a key.
pub(super) fn shortened(mut key: String) -> String {
    if key.len() <= MOST {
        return key;
    }
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, key.as_bytes());
    let mut end = MOST - 37;
    while !key.is_char_boundary(end) {
        end -= 1;
    }
    key.truncate(end);
    let _ = write!(key, "#{hash}");
    key
}

/// Keys are mostly numbers, and `write!` takes several times as long.
fn decimal(key: &mut String, negative: bool, mut number: u64) {
    if negative {
        key.push('-');
    }
    let mut digits = [0_u8; 20];
    let mut count = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        count += 1;
        if number == 0 {
            break;
        }
    }
    let written = digits.get(20 - count..).unwrap_or_default();
    key.extend(written.iter().map(|digit| char::from(*digit)));
}

fn folded(key: &mut String, text: &str) {
    let text = text.trim_end_matches(' ');
    if text
        .bytes()
        .all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase() && b != b',' && b != b'\\')
    {
        key.push_str(text);
        return;
    }
    escaped(key, &text.to_lowercase());
}

/// Without the comma between values, and without control characters, which PostgreSQL's texts cannot all hold.
fn escaped(key: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            ',' | '\\' => key.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(key, "\\u{{{:x}}}", u32::from(c));
            }
            c => key.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(values: &[Value]) -> String {
        let mut key = String::new();
        for (at, value) in values.iter().enumerate() {
            assert!(append(&mut key, value, at == 0));
        }
        shortened(key)
    }

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn numbers_that_an_index_takes_as_one_have_one_key() {
        let key_of = |kind: &ColumnKind, value: Value| key(&[plain(kind, &value).into_owned()]);
        for (number, shared) in [
            ("1.0", "1"),
            ("1.00", "1"),
            ("1.50", "1.5"),
            ("100", "100"),
            ("-0.0", "0"),
            ("0.000", "0"),
            ("NaN", "nan"),
        ] {
            assert_eq!(key_of(&ColumnKind::Decimal, text(number)), shared);
        }
        assert_eq!(key_of(&ColumnKind::Text, text("1.0")), "1.0");
        let double = ColumnKind::Float { bytes: 8 };
        assert_eq!(key_of(&double, Value::Double(-0.0)), "0");
    }

    #[test]
    fn a_key_is_the_text_of_its_values() {
        assert_eq!(key(&[Value::Int(-42)]), "-42");
        assert_eq!(key(&[Value::Int(0)]), "0");
        assert_eq!(
            key(&[Value::Int(i64::MIN), Value::UInt(u64::MAX)]),
            "-9223372036854775808,18446744073709551615"
        );
        assert_eq!(
            key(&[Value::Bytes(vec![0, 255].into()), Value::Null]),
            "00ff,\\N"
        );
        assert_eq!(key(&[text("a,b"), text("c\\\0")]), "a\\,b,c\\\\\\u{0}");
    }

    #[test]
    fn keys_that_a_collation_takes_as_one_share_a_text() {
        assert_eq!(key(&[text("Ann ")]), key(&[text("ann")]));
        assert_eq!(key(&[text("ÄRGER")]), key(&[text("ärger")]));
    }

    #[test]
    fn keys_of_several_columns_are_not_mixed_up() {
        assert_ne!(
            key(&[text("a,b"), text("c")]),
            key(&[text("a"), text("b,c")])
        );
        assert_ne!(key(&[text("\\N")]), key(&[Value::Null]));
    }

    #[test]
    fn a_long_key_is_cut_and_stays_apart_from_others() {
        let long = |end: &str| key(&[text(&format!("{}{end}", "é".repeat(2_000)))]);

        assert!(long("a").len() <= MOST);
        assert_ne!(long("a"), long("b"));
        assert_eq!(long("a"), long("a"));
    }

    #[test]
    fn a_value_that_was_not_sent_is_told() {
        assert!(!append(&mut String::new(), &Value::Absent, true));
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_they_are(number: i64, unsigned: u64) {
            prop_assert_eq!(key(&[Value::Int(number)]), number.to_string());
            prop_assert_eq!(key(&[Value::UInt(unsigned)]), unsigned.to_string());
        }

        #[test]
        fn keys_of_any_text_fit(texts in proptest::collection::vec(".{0,200}", 1..4)) {
            let values: Vec<Value> = texts.iter().map(|one| text(one)).collect();
            prop_assert!(key(&values).len() <= MOST);
        }
    }
}
