//! Values as PostgreSQL prints them become canonical values.
//!
//! Input: the text of a value, printed with the settings of [`PRINTED`](super::wire::PRINTED). Output: a [`Value`].

use std::{str::FromStr, sync::Arc};

use super::{pgoutput::Malformed, types::Reading};
use crate::value::{
    Value,
    text::{hex_bytes, iso_datetime, iso_timestamp},
};

/// Reads the text of a value.
pub(super) fn read(reading: Reading, text: &[u8]) -> Result<Value, Malformed> {
    let text = std::str::from_utf8(text).map_err(|_| {
        Malformed(
            "its text is not UTF-8; a database with the encoding SQL_ASCII cannot be captured"
                .to_owned(),
        )
    })?;
    Ok(match reading {
        Reading::Bool => match text {
            "t" => Value::Bool(true),
            "f" => Value::Bool(false),
            _ => return Err(wrong("true or false")),
        },
        Reading::Int => Value::Int(number(text)?),
        Reading::UInt => Value::UInt(number(text)?),
        Reading::Float => Value::Float(number(text)?),
        Reading::Double => Value::Double(number(text)?),
        Reading::Text => Value::Text(text.into()),
        Reading::Bytes => {
            let bytes = hex_bytes(text).ok_or_else(|| wrong("bytes in hexadecimal digits"))?;
            Value::Bytes(bytes.into())
        }
        Reading::Json => Value::Json(text.into()),
        Reading::DateTime => Value::Text(moment(iso_datetime(text))?),
        Reading::Timestamp => Value::Text(moment(iso_timestamp(text))?),
    })
}

fn number<T: FromStr>(text: &str) -> Result<T, Malformed> {
    text.parse().map_err(|_| wrong("a number"))
}

/// Its text is not repeated: values do not go into errors.
fn wrong(what: &str) -> Malformed {
    Malformed(format!("its text is not {what}"))
}

fn moment(text: Option<String>) -> Result<Arc<str>, Malformed> {
    text.map(Into::into).ok_or_else(|| wrong("a moment"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn value(reading: Reading, text: &str) -> Value {
        read(reading, text.as_bytes()).unwrap()
    }

    #[test]
    fn each_reading_gives_its_value() {
        assert_eq!(value(Reading::Bool, "t"), Value::Bool(true));
        assert_eq!(
            value(Reading::Int, "-9223372036854775808"),
            Value::Int(i64::MIN)
        );
        assert_eq!(
            value(Reading::UInt, "4294967295"),
            Value::UInt(4_294_967_295)
        );
        assert_eq!(value(Reading::Float, "1e-45"), Value::Float(1e-45));
        assert_eq!(
            value(Reading::Double, "-Infinity"),
            Value::Double(f64::NEG_INFINITY)
        );
        assert!(matches!(value(Reading::Double, "NaN"), Value::Double(it) if it.is_nan()));
        assert_eq!(
            value(Reading::Bytes, "\\x00ff1a"),
            Value::Bytes(Bytes::from_static(b"\0\xff\x1a"))
        );
        assert_eq!(value(Reading::Bytes, "\\x"), Value::Bytes(Bytes::new()));
    }

    #[test]
    fn moments_are_in_iso_form_and_eternity_is_not() {
        let at = |reading, text| match value(reading, text) {
            Value::Text(text) => text.to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(
            at(Reading::DateTime, "2024-02-29 12:00:00.5"),
            "2024-02-29T12:00:00.5"
        );
        assert_eq!(
            at(Reading::Timestamp, "2024-02-29 12:00:00.5+00"),
            "2024-02-29T12:00:00.5Z"
        );
        assert_eq!(
            at(Reading::Timestamp, "0044-03-15 12:00:00+00 BC"),
            "0044-03-15T12:00:00Z BC"
        );
        assert_eq!(
            at(Reading::DateTime, "0044-03-15 12:00:00 BC"),
            "0044-03-15T12:00:00 BC"
        );
        assert_eq!(at(Reading::Timestamp, "-infinity"), "-infinity");
    }

    #[test]
    fn a_text_that_its_type_cannot_have_is_an_error_without_the_text() {
        for (reading, text) in [
            (Reading::Bool, "geheim"),
            (Reading::Int, "geheim"),
            (Reading::Int, "9223372036854775808"),
            (Reading::UInt, "-1"),
            (Reading::Double, "geheim"),
            (Reading::Bytes, "geheim"),
            (Reading::Bytes, "\\x0"),
            (Reading::Bytes, "\\xgg"),
        ] {
            let error = read(reading, text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("its text is not"), "{error}");
            assert!(!error.contains("geheim"), "{error}");
        }
        assert!(read(Reading::Text, b"\xff").is_err());
    }
}
