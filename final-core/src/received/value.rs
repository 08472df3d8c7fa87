//! The value of a header, with its type.
//!
//! Input: what a broker read. Output: the value, and its text if it has one.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::timestamp::Timestamp;

/// The value of a header, with the type that the producer gave it.
///
/// ```
/// # use final_core::received::HeaderValue;
/// let text = |value: HeaderValue| value.to_text().map(|text| text.into_owned());
///
/// assert_eq!(text(HeaderValue::Float(1.5)).as_deref(), Some("1.5"));
/// assert_eq!(text(HeaderValue::Bytes(b"acme".to_vec())).as_deref(), Some("acme"));
/// assert_eq!(text(HeaderValue::Decimal { value: -1250, scale: 2 }).as_deref(), Some("-12.50"));
/// assert_eq!(text(HeaderValue::Nil), None);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum HeaderValue {
    /// Nothing: `null` or `None` in other languages.
    Nil,
    /// True or false.
    Bool(bool),
    /// A whole number of any width.
    Int(i64),
    /// A number with a fraction. A float of four bytes becomes the number of eight bytes that is written the
    /// same.
    Float(f64),
    /// `value` divided by ten to the power of `scale`.
    Decimal {
        /// All digits.
        value: i64,
        /// How many of the digits stand behind the point.
        scale: u8,
    },
    /// A time, to the second.
    Time(SystemTime),
    /// A text.
    Text(String),
    /// Bytes, or a text that is not UTF-8.
    Bytes(Vec<u8>),
    /// Several values.
    List(Vec<HeaderValue>),
    /// Values with names.
    Table(BTreeMap<String, HeaderValue>),
}

impl HeaderValue {
    /// The text that [`Headers`](crate::Headers) has for the value: numbers in decimal, times as RFC 3339 in
    /// UTC, bytes if they are UTF-8. `None` for nil, other bytes, lists and tables.
    ///
    /// A time outside of the years 0 to 9999 is the number of seconds since 1970. A producer that counts
    /// milliseconds makes such times.
    pub fn to_text(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Bytes(bytes) => Cow::Borrowed(std::str::from_utf8(bytes).ok()?),
            Self::Bool(value) => Cow::Owned(value.to_string()),
            Self::Int(value) => Cow::Owned(value.to_string()),
            Self::Float(value) => Cow::Owned(float(*value)),
            Self::Decimal { value, scale } => Cow::Owned(decimal(*value, *scale)),
            Self::Time(time) => {
                let time = timestamp(*time);
                let text = time.rfc3339();
                Cow::Owned(text.unwrap_or_else(|| time.seconds.to_string()))
            }
            Self::Nil | Self::List(_) | Self::Table(_) => return None,
        })
    }
}

/// Very large and very small numbers get an exponent, in place of hundreds of zeros.
fn float(value: f64) -> String {
    let size = value.abs();
    if size.is_finite() && size != 0.0 && !(1e-5..1e16).contains(&size) {
        return format!("{value:e}");
    }
    value.to_string()
}

fn decimal(value: i64, scale: u8) -> String {
    let scale = usize::from(scale);
    let sign = if value < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    match fraction {
        "" => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{fraction}"),
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let seconds = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Timestamp {
            seconds: seconds(after.as_secs()),
            nanos: after.subsec_nanos(),
        },
        Err(before) => {
            let before = before.duration();
            let fraction = before.subsec_nanos();
            Timestamp {
                seconds: -seconds(before.as_secs()) - i64::from(fraction > 0),
                nanos: (1_000_000_000 - fraction) % 1_000_000_000,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[track_caller]
    fn check(value: HeaderValue, text: Option<&str>) {
        assert_eq!(value.to_text().as_deref(), text, "{value:?}");
    }

    #[test]
    fn a_number_is_written_as_people_write_it() {
        check(HeaderValue::Int(i64::MIN), Some("-9223372036854775808"));
        check(HeaderValue::Float(1.5), Some("1.5"));
        check(HeaderValue::Float(12.0), Some("12"));
        check(HeaderValue::Float(0.0), Some("0"));
        check(HeaderValue::Float(-2.5e-9), Some("-2.5e-9"));
        check(HeaderValue::Float(f64::MAX), Some("1.7976931348623157e308"));
        check(HeaderValue::Float(f64::NAN), Some("NaN"));
        check(HeaderValue::Float(f64::INFINITY), Some("inf"));
        check(HeaderValue::Decimal { value: 7, scale: 0 }, Some("7"));
        check(HeaderValue::Decimal { value: 5, scale: 3 }, Some("0.005"));
        check(
            HeaderValue::Decimal {
                value: i64::MIN,
                scale: 2,
            },
            Some("-92233720368547758.08"),
        );
    }

    #[test]
    fn a_time_is_written_in_utc() {
        let after = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        check(
            HeaderValue::Time(after(1_709_164_800)),
            Some("2024-02-29T00:00:00Z"),
        );
        check(
            HeaderValue::Time(UNIX_EPOCH - Duration::from_millis(500)),
            Some("1969-12-31T23:59:59.500000000Z"),
        );
        check(
            HeaderValue::Time(after(1_709_164_800_000)),
            Some("1709164800000"),
        );
    }

    #[test]
    fn what_has_no_text_has_none() {
        check(HeaderValue::Nil, None);
        check(HeaderValue::Bytes(vec![0xff]), None);
        check(HeaderValue::List(Vec::new()), None);
        check(HeaderValue::Table(BTreeMap::new()), None);
        check(HeaderValue::Bytes(Vec::new()), Some(""));
        check(HeaderValue::Bool(true), Some("true"));
    }
}
