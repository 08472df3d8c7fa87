//! Canonical forms that are made in this process.
//!
//! Input: a [`Cell`] of SQLite, which has no digest; or the text of JSON from any database. Output: the bytes that a
//! server makes of an equal value.
//!
//! A column of SQLite can have values of another class than its type says. Such a value gets a mark, so that it equals
//! no value of a server.

use std::borrow::Cow;

use serde_json::Value;

use super::{Form, Row, number, time, uuid::dashed};
use crate::table::ColumnClass;

/// A value as SQLite stores it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

/// The canonical text of a value. None for NULL.
pub(crate) fn canonical(cell: &Cell, form: Form) -> Option<Vec<u8>> {
    if *cell == Cell::Null {
        return None;
    }
    if form == Form::Printed {
        return Some(printed(cell));
    }
    Some(strict(cell, form).unwrap_or_else(|| odd(cell)))
}

/// The canonical text of a value. None if the value is not of the form's class.
pub(crate) fn strict(cell: &Cell, form: Form) -> Option<Vec<u8>> {
    let text = text_of(cell);
    let text = text.as_deref();
    let made = match (form, cell) {
        (Form::Integer, Cell::Integer(value)) => value.to_string(),
        (Form::Decimal { scale }, Cell::Integer(_) | Cell::Real(_) | Cell::Text(_)) => {
            number::decimal(text?, scale)?
        }
        (Form::Number, Cell::Integer(_) | Cell::Real(_) | Cell::Text(_)) => number::plain(text?)?,
        (Form::Float { digits }, Cell::Integer(_) | Cell::Real(_)) => match text? {
            "inf" => "Infinity".into(),
            "-inf" => "-Infinity".into(),
            text => number::float(text, digits)?,
        },
        (Form::Text { trim }, Cell::Text(bytes)) => {
            let end = bytes
                .iter()
                .rposition(|byte| *byte != b' ')
                .map_or(0, |at| at + 1);
            return bytes
                .get(..if trim { end } else { bytes.len() })
                .map(<[u8]>::to_vec);
        }
        (Form::Bytes, Cell::Blob(bytes)) => hex(bytes),
        (Form::Date, Cell::Text(_)) => time::date(text?)?,
        (Form::Time(fraction), Cell::Text(_)) => time::time(text?, fraction.digits)?,
        (Form::DateTime(fraction), Cell::Text(_)) => time::date_time(text?, fraction.digits)?,
        (Form::DateTime(fraction), Cell::Integer(seconds)) => {
            time::of_seconds(*seconds, fraction.digits)?
        }
        (Form::Uuid, Cell::Text(_)) => text?.replace('-', "").to_lowercase(),
        (Form::Uuid, Cell::Blob(bytes)) => hex(bytes),
        (Form::Json { .. }, Cell::Text(bytes)) => return Some(bytes.clone()),
        _ => return None,
    };
    // A text that is no UUID may have the signs that end a field.
    (!made.contains(['~', ';'])).then(|| made.into_bytes())
}

/// A value as SQLite's own shell prints it.
fn printed(cell: &Cell) -> Vec<u8> {
    match cell {
        Cell::Null => Vec::new(),
        Cell::Integer(value) => value.to_string().into_bytes(),
        Cell::Real(value) => format!("{value:?}").into_bytes(),
        Cell::Text(bytes) | Cell::Blob(bytes) => bytes.clone(),
    }
}

fn text_of(cell: &Cell) -> Option<Cow<'_, str>> {
    match cell {
        Cell::Null | Cell::Blob(_) => None,
        Cell::Integer(value) => Some(value.to_string().into()),
        Cell::Real(value) => Some(format!("{value:e}").into()),
        Cell::Text(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
    }
}

/// A value of another class: a sign that no form begins with, the class, and the value.
fn odd(cell: &Cell) -> Vec<u8> {
    match cell {
        Cell::Null => "?null".into(),
        Cell::Integer(value) => format!("?integer {value}"),
        Cell::Real(value) => format!("?real {value:e}"),
        Cell::Text(bytes) => format!("?text {}", hex(bytes)),
        Cell::Blob(bytes) => format!("?blob {}", hex(bytes)),
    }
    .into_bytes()
}

/// How SQLite stores a value that comes as a text. What is left a text becomes a number by the affinity of its column.
pub(crate) fn stored(text: &[u8], form: Form, class: ColumnClass) -> Cell {
    use ColumnClass::*;
    let as_text = || Cell::Text(text.to_vec());
    let Ok(written) = std::str::from_utf8(text) else {
        return as_text();
    };
    let stored = match (form, class) {
        (Form::Integer, _) | (Form::Number, Bool | Integer { .. }) => {
            written.parse().ok().map(Cell::Integer)
        }
        (Form::Number | Form::Float { .. }, Float { .. }) => written.parse().ok().map(Cell::Real),
        (Form::Bytes, _) | (Form::Uuid, Bytes { .. }) => unhex(written).map(Cell::Blob),
        (Form::Uuid, _) => Some(Cell::Text(dashed(written).into_bytes())),
        _ => None,
    };
    stored.unwrap_or_else(as_text)
}

/// A canonical value as a database prints it.
pub(crate) fn readable(form: Form, value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    match form {
        Form::Uuid => dashed(&text),
        Form::Float { .. } => match text.parse::<f64>() {
            Ok(number) => number.to_string(),
            Err(_) => text.into_owned(),
        },
        _ => text.into_owned(),
    }
}

/// Hexadecimal digits in lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The bytes of hexadecimal digits. None if they are none.
pub(crate) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(nibble(*high)? * 16 + nibble(*low)?).ok(),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}

/// JSON as a value: keys in order, numbers as numbers, no spaces. A text that is no JSON stays as it is.
pub(crate) fn json(text: &[u8]) -> Cow<'_, [u8]> {
    match serde_json::from_slice::<Value>(text) {
        Ok(value) => {
            let mut canonical = String::with_capacity(text.len());
            write_json(&value, &mut canonical);
            Cow::Owned(canonical.into_bytes())
        }
        Err(_) => Cow::Borrowed(text),
    }
}

/// The depth is bounded by the reader.
fn write_json(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| name.as_str());
            text.push('{');
            for (at, (name, value)) in fields.into_iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write_json(value, text);
            }
            text.push('}');
        }
        Value::Array(values) => {
            text.push('[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write_json(value, text);
            }
            text.push(']');
        }
        Value::Number(value) => {
            let written = value.to_string();
            // A whole number stays exact; 1.0 and 1 are the same number.
            let whole = value.is_i64() || value.is_u64();
            let form = match whole {
                true => number::plain(&written),
                false => number::float(&written, 15).and_then(|form| number::plain(&form)),
            };
            text.push_str(form.as_deref().unwrap_or(&written));
        }
        other => text.push_str(&other.to_string()),
    }
}

/// Brings the fields to the form that is made here. None if the bytes are no such row.
pub(crate) fn finished(row: Row, forms: &[Form]) -> Option<Row> {
    if !forms.iter().any(|form| matches!(form, Form::Json { .. })) {
        return Some(row);
    }
    let mut finished = Row::default();
    for (form, field) in forms.iter().zip(row.fields(forms)?) {
        match form {
            Form::Json { .. } => finished.push(*form, field.map(json).as_deref()),
            _ => finished.push(*form, field),
        }
    }
    Some(finished)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json_text(text: &str) -> String {
        String::from_utf8(json(text.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn hexadecimal_digits_come_back() {
        assert_eq!(unhex(&hex(b"\x00\xffa")), Some(b"\x00\xffa".to_vec()));
        assert_eq!((unhex("0"), unhex("zz"), unhex("é")), (None, None, None));
    }

    #[test]
    fn json_is_compared_as_a_value() {
        assert_eq!(
            json_text(r#"{"b": [1.0, 2e2], "a": null}"#),
            r#"{"a":null,"b":[1,200]}"#
        );
        assert_eq!(json_text(r#""\u00e9""#), "\"é\"");
        assert_eq!(json_text("18446744073709551615"), "18446744073709551615");
        assert_eq!(json_text("no json"), "no json");
        assert_ne!(json_text("1"), json_text("\"1\""));
    }

    #[test]
    fn a_value_of_another_class_equals_no_value_of_a_server() {
        let integer = |cell| canonical(&cell, Form::Integer);
        assert_eq!(integer(Cell::Integer(7)), Some(b"7".to_vec()));
        assert_ne!(integer(Cell::Text(b"7".to_vec())), Some(b"7".to_vec()));
        assert_ne!(integer(Cell::Real(7.0)), Some(b"7".to_vec()));
        assert_eq!(integer(Cell::Null), None);
    }

    #[test]
    fn a_value_that_was_stored_has_its_form_again() {
        let integer = ColumnClass::Integer {
            unsigned: false,
            zerofill: false,
        };
        let real = ColumnClass::Float { single: false };
        let bytes = ColumnClass::Bytes { length: None };
        let text = ColumnClass::Text { padded: false };
        let cases = [
            ("-7", Form::Integer, integer),
            ("15e-8", Form::Float { digits: 17 }, real),
            ("00ff", Form::Bytes, bytes),
            ("00112233445566778899aabbccddeeff", Form::Uuid, bytes),
            ("00112233445566778899aabbccddeeff", Form::Uuid, text),
            ("12.5", Form::Number, text),
            (
                "2024-02-29 10:00:00.500000",
                Form::DateTime(super::super::given::EXACT),
                text,
            ),
        ];
        for (value, form, class) in cases {
            let cell = stored(value.as_bytes(), form, class);
            assert_eq!(canonical(&cell, form), Some(value.into()), "{cell:?}");
        }
    }

    #[test]
    fn a_uuid_is_its_digits() {
        let digits = Some(b"00112233445566778899aabbccddeeff".to_vec());
        let text = b"00112233-4455-6677-8899-AABBCCDDEEFF".to_vec();
        assert_eq!(canonical(&Cell::Text(text), Form::Uuid), digits);
        let bytes = (0..16).map(|byte| byte * 0x11).collect();
        assert_eq!(canonical(&Cell::Blob(bytes), Form::Uuid), digits);
    }

    proptest! {
        #[test]
        fn a_closed_form_never_has_the_signs_that_end_a_field(text in ".{0,12}") {
            for form in [Form::Uuid, Form::Integer, Form::Date, Form::Number, Form::Bytes] {
                let made = canonical(&Cell::Text(text.clone().into_bytes()), form).unwrap();
                prop_assert!(!made.contains(&b';') && !made.contains(&b'~'), "{:?}", made);
            }
        }
    }
}
