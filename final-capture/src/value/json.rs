//! A value as JSON.
//!
//! Input: a [`Value`]. Output: JSON at the end of a buffer, and whether the value could be written as it is.
//! [`Value::Absent`] has no JSON: the caller leaves the column out.

use final_core::payload::check_json;
use serde::Serialize;

use super::Value;

/// The last whole number up to which a reader that knows only floating-point numbers, such as JavaScript, has all of
/// them.
const SAFE: u64 = (1 << 53) - 1;

/// How whole numbers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Integers {
    /// Always as numbers.
    #[default]
    Numbers,
    /// As text where JavaScript would lose digits.
    TextIfBig,
}

/// Appends the JSON of a value. Returns false if the value is none that JSON or a calendar has: `null` is then
/// written, and the caller names the column.
pub(crate) fn write(out: &mut Vec<u8>, value: &Value, integers: Integers) -> bool {
    match value {
        Value::Null | Value::Absent => out.extend(b"null"),
        Value::Invalid(_) => {
            out.extend(b"null");
            return false;
        }
        Value::Bool(value) => out.extend(if *value { &b"true"[..] } else { b"false" }),
        Value::Int(number) if big(number.unsigned_abs(), integers) => quoted(out, number),
        Value::Int(number) => scalar(out, number),
        Value::UInt(number) | Value::Bits(number) if big(*number, integers) => quoted(out, number),
        Value::UInt(number) | Value::Bits(number) => scalar(out, number),
        Value::Float(number) if number.is_finite() => scalar(out, number),
        Value::Float(number) => text(out, not_finite((*number).into())),
        Value::Double(number) if number.is_finite() => scalar(out, number),
        Value::Double(number) => text(out, not_finite(*number)),
        Value::Text(value) | Value::Enum(_, value) => text(out, value),
        Value::Bytes(bytes) => {
            out.push(b'"');
            base64(out, bytes);
            out.push(b'"');
        }
        Value::Json(json) => {
            // A server may hold a text in such a column that is no JSON, or that no reader takes. It would make the whole
            // message unreadable.
            if check_json(json.as_bytes()).is_err() {
                out.extend(b"null");
                return false;
            }
            out.extend(json.as_bytes());
        }
        Value::Set(_, texts) => {
            out.push(b'"');
            for (at, one) in texts.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                unquoted(out, one);
            }
            out.push(b'"');
        }
    }
    true
}

/// Appends a text in quotes.
pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    scalar(out, text);
}

/// Appends a text as it stands between quotes.
fn unquoted(out: &mut Vec<u8>, text: &str) {
    let start = out.len();
    scalar(out, text);
    out.pop();
    if start < out.len() {
        out.remove(start);
    }
}

/// Appends bytes in base64, without quotes.
pub(crate) fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let start = out.len();
    // Four characters for each three bytes.
    let length = bytes.len().div_ceil(3) * 4;
    out.resize(start + length, 0);
    if let Some(place) = out.get_mut(start..) {
        // The place has the length that it needs.
        let written = STANDARD.encode_slice(bytes, place).unwrap_or(0);
        out.truncate(start + written);
    }
}

/// Appends a number or a text.
fn scalar<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Writing a number or a text into memory cannot fail.
    let _ = serde_json::to_writer(out, value);
}

fn quoted<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    out.push(b'"');
    scalar(out, value);
    out.push(b'"');
}

fn big(size: u64, integers: Integers) -> bool {
    size > SAFE && integers == Integers::TextIfBig
}

/// The text of a number that is none or has no end, as PostgreSQL writes it.
pub(crate) fn not_finite(number: f64) -> &'static str {
    if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(value: Value) -> String {
        json_with(value, Integers::Numbers).0
    }

    fn json_with(value: Value, integers: Integers) -> (String, bool) {
        let mut out = b"before ".to_vec();
        let whole = write(&mut out, &value, integers);
        let text = String::from_utf8(out).unwrap();
        (text.strip_prefix("before ").unwrap().to_owned(), whole)
    }

    #[test]
    fn each_kind_of_value_has_its_json() {
        for (value, expected) in [
            (Value::Null, "null"),
            (Value::Bool(true), "true"),
            (Value::Int(i64::MIN), "-9223372036854775808"),
            (Value::UInt(u64::MAX), "18446744073709551615"),
            (Value::Float(0.1), "0.1"),
            (Value::Double(-1.5), "-1.5"),
            (Value::Double(f64::NAN), r#""NaN""#),
            (Value::Float(f32::INFINITY), r#""Infinity""#),
            (Value::Double(f64::NEG_INFINITY), r#""-Infinity""#),
            (Value::Text("a\"\n\0é".into()), "\"a\\\"\\n\\u0000é\""),
            (Value::Bytes(vec![0xff, 0, 1].into()), r#""/wAB""#),
            (Value::Bytes(vec![0xff].into()), r#""/w==""#),
            (Value::Bytes(Vec::new().into()), r#""""#),
            (Value::Json(r#"{"a": [1.10]}"#.into()), r#"{"a": [1.10]}"#),
            (Value::Enum(2, "red".into()), r#""red""#),
            (Value::Set(3, vec!["a".into(), "b\"".into()]), r#""a,b\"""#),
            (Value::Set(0, Vec::new()), r#""""#),
            (Value::Bits(5), "5"),
        ] {
            assert_eq!(json(value.clone()), expected, "{value:?}");
        }
    }

    #[test]
    fn a_value_that_json_cannot_hold_is_null_and_told() {
        let zero = Value::Invalid("0000-00-00".into());
        assert_eq!(json_with(zero, Integers::Numbers), ("null".into(), false));
        for broken in ["{", "", "1 2", "{\"a\":1}}", "nul", "\u{1}"] {
            let (text, whole) = json_with(Value::Json(broken.into()), Integers::Numbers);
            assert_eq!((text.as_str(), whole), ("null", false), "{broken:?}");
        }
    }

    #[test]
    fn big_integers_are_text_if_asked_for() {
        let big = |value| json_with(value, Integers::TextIfBig).0;
        assert_eq!(big(Value::Int(9_007_199_254_740_991)), "9007199254740991");
        assert_eq!(
            big(Value::Int(-9_007_199_254_740_992)),
            r#""-9007199254740992""#
        );
        assert_eq!(big(Value::UInt(u64::MAX)), r#""18446744073709551615""#);
    }

    proptest! {
        #[test]
        fn floats_are_read_back_as_they_were(bits: u64, short: u32) {
            let double = f64::from_bits(bits);
            if double.is_finite() {
                prop_assert_eq!(json(Value::Double(double)).parse::<f64>().unwrap().to_bits(), bits);
            }
            let float = f32::from_bits(short);
            if float.is_finite() {
                prop_assert_eq!(json(Value::Float(float)).parse::<f32>().unwrap().to_bits(), short);
            }
        }

        #[test]
        fn bytes_are_read_back_as_they_were(bytes: Vec<u8>) {
            use ::base64::{Engine, engine::general_purpose::STANDARD};
            let text: String = serde_json::from_str(&json(Value::Bytes(bytes.clone().into()))).unwrap();
            prop_assert_eq!(STANDARD.decode(text).unwrap(), bytes);
        }
    }
}
