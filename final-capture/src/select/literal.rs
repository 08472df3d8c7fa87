//! The values that row filters compare with.
//!
//! Input: a literal of a filter, and the kind of its column. Output: the literal in the form that the column's values
//! have, or how to write it; then how a value compares with it. A literal that no value of the column could ever be
//! compared with would leave rows out, or let them in, and nobody would see it.

use std::cmp::Ordering;

use crate::{table::ColumnKind, value::Value};

/// A value of a filter.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Text(String),
    Number(String),
    Bool(bool),
    /// A day with a time: without a zone, and without zeros at the end of its fraction.
    Moment(String),
}

impl Literal {
    /// The literal for a column of this kind. The error says how to write it.
    pub(super) fn of_kind(&self, kind: &ColumnKind) -> Result<Self, &'static str> {
        match (kind, self) {
            (ColumnKind::Bytes | ColumnKind::Blob | ColumnKind::Geometry, _) => {
                Err("the column has bytes, which a filter cannot compare")
            }
            (ColumnKind::Bool, Self::Bool(_)) => Ok(self.clone()),
            (ColumnKind::Bool, Self::Number(number)) if ["0", "1"].contains(&&**number) => {
                Ok(Self::Bool(number == "1"))
            }
            (ColumnKind::Bool, _) => Err("the column is true or false; write `true` or `false`"),
            // MariaDB has no type for true and false but the integer.
            (ColumnKind::Integer { .. } | ColumnKind::Bits(_), Self::Bool(_)) => Ok(self.clone()),
            (
                ColumnKind::Integer { .. }
                | ColumnKind::Bits(_)
                | ColumnKind::Year
                | ColumnKind::Float { .. }
                | ColumnKind::Decimal,
                literal,
            ) => match literal {
                Self::Text(number) | Self::Number(number) if Decimal::new(number).is_some() => {
                    Ok(Self::Number(number.clone()))
                }
                _ => Err("the column has numbers; write digits, as in `12.5`"),
            },
            (ColumnKind::Date, Self::Text(text)) if is_endless(text) || has_form(text, DAY) => {
                Ok(self.clone())
            }
            (ColumnKind::Date, _) => Err("the column has days; write `'2024-02-29'`"),
            (ColumnKind::DateTime, Self::Text(text)) => moment_of(text, false)
                .ok_or("the column has days with times; write `'2024-02-29T12:00:00'`"),
            (ColumnKind::Timestamp, Self::Text(text)) => moment_of(text, true)
                .ok_or("the column has moments; write them in UTC, as in `'2024-02-29T12:00:00Z'`"),
            (ColumnKind::DateTime | ColumnKind::Timestamp, _) => {
                Err("the column has days with times; write `'2024-02-29T12:00:00'`")
            }
            (ColumnKind::Uuid, Self::Text(text)) if has_form(&text.to_ascii_lowercase(), UUID) => {
                Ok(Self::Text(text.to_ascii_lowercase()))
            }
            (ColumnKind::Uuid, _) => {
                Err("the column has UUIDs; write `'0192f7a0-5c4e-7cc1-8d3f-0a1b2c3d4e5f'`")
            }
            (_, Self::Text(_)) => Ok(self.clone()),
            (ColumnKind::Enum(_) | ColumnKind::Set(_), _) => {
                Err("the column has texts of a list; write the text in single quotes")
            }
            _ => Err("the column has texts; write the value in single quotes"),
        }
    }
}

const DAY: &str = "0000-00-00";
const SECOND: &str = "0000-00-00T00:00:00";
const UUID: &str = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

/// Whether a text has the form of an example: a digit for `0`, a hexadecimal one for `x`, the same character else.
fn has_form(text: &str, example: &str) -> bool {
    text.len() == example.len()
        && text.bytes().zip(example.bytes()).all(|(c, of)| match of {
            b'0' => c.is_ascii_digit(),
            b'x' => c.is_ascii_hexdigit(),
            of => c == of,
        })
}

/// PostgreSQL's ends of time. Byte for byte, the one is greater than all digits, and the other less.
fn is_endless(text: &str) -> bool {
    matches!(text, "infinity" | "-infinity")
}

/// A day with a time as it is compared. A day alone is its midnight, and a blank may stand in place of the `T`.
fn moment_of(text: &str, in_utc: bool) -> Option<Literal> {
    if is_endless(text) {
        return Some(Literal::Moment(text.to_owned()));
    }
    if has_form(text, DAY) {
        return Some(Literal::Moment(format!("{text}T00:00:00")));
    }
    let text = text.replacen(' ', "T", 1);
    let local = match text.strip_suffix('Z') {
        Some(local) if in_utc => local,
        Some(_) => return None,
        None => &text,
    };
    let (second, fraction) = local.split_once('.').unwrap_or((local, "0"));
    let is_one = has_form(second, SECOND)
        && !fraction.is_empty()
        && fraction.bytes().all(|c| c.is_ascii_digit());
    is_one.then(|| Literal::Moment(moment(local).to_owned()))
}

/// Without the zone and the zeros behind the last digit: so a shorter fraction is not greater.
fn moment(text: &str) -> &str {
    let text = text.strip_suffix('Z').unwrap_or(text);
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

pub(super) fn is_equal(value: &Value, literal: &Literal) -> bool {
    compare(value, literal).is_some_and(Ordering::is_eq)
}

/// None if they cannot be compared.
pub(super) fn compare(value: &Value, literal: &Literal) -> Option<Ordering> {
    match (value, literal) {
        (Value::Bool(value), Literal::Bool(literal)) => Some(value.cmp(literal)),
        (Value::Int(value), Literal::Bool(literal)) => Some(value.cmp(&i64::from(*literal))),
        (Value::UInt(value) | Value::Bits(value), Literal::Bool(literal)) => {
            Some(value.cmp(&u64::from(*literal)))
        }
        (Value::Int(value), Literal::Number(number)) => decimals(&value.to_string(), number),
        (Value::UInt(value) | Value::Bits(value), Literal::Number(number)) => {
            decimals(&value.to_string(), number)
        }
        (Value::Float(value), Literal::Number(_)) if value.is_nan() => Some(Ordering::Greater),
        (Value::Float(value), Literal::Number(number)) => {
            value.partial_cmp(&number.parse::<f32>().ok()?)
        }
        (Value::Double(value), Literal::Number(_)) if value.is_nan() => Some(Ordering::Greater),
        (Value::Double(value), Literal::Number(number)) => {
            value.partial_cmp(&number.parse::<f64>().ok()?)
        }
        (Value::Text(value), Literal::Number(number)) => match &**value {
            // PostgreSQL counts what is no number as the greatest one.
            "NaN" | "Infinity" => Some(Ordering::Greater),
            "-Infinity" => Some(Ordering::Less),
            value => decimals(value, number),
        },
        (Value::Text(value) | Value::Invalid(value), Literal::Moment(literal)) => {
            Some(moment(value).cmp(literal))
        }
        (
            Value::Text(value) | Value::Json(value) | Value::Enum(_, value) | Value::Invalid(value),
            Literal::Text(text),
        ) => Some((**value).cmp(text.as_str())),
        (Value::Set(_, texts), Literal::Text(text)) => Some(texts.join(",").as_str().cmp(text)),
        _ => None,
    }
}

/// Compares two numbers that are written with digits, exactly. None if one is no such number.
pub(super) fn decimals(left: &str, right: &str) -> Option<Ordering> {
    let (left, right) = (Decimal::new(left)?, Decimal::new(right)?);
    let sizes = || {
        let whole = (left.whole.len(), left.whole).cmp(&(right.whole.len(), right.whole));
        whole.then(left.fraction.cmp(right.fraction))
    };
    Some(match (left.negative, right.negative) {
        (false, true) => Ordering::Greater,
        (true, false) => Ordering::Less,
        (false, false) => sizes(),
        (true, true) => sizes().reverse(),
    })
}

/// The digits of a number: those before the point without leading zeros, those behind it without trailing ones.
pub(super) struct Decimal<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
}

impl<'a> Decimal<'a> {
    pub(super) fn new(text: &'a str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        if !whole
            .bytes()
            .chain(fraction.bytes())
            .all(|b| b.is_ascii_digit())
        {
            return None;
        }
        let (whole, fraction) = (
            whole.trim_start_matches('0'),
            fraction.trim_end_matches('0'),
        );
        let zero = whole.is_empty() && fraction.is_empty();
        Some(Self {
            negative: negative && !zero,
            whole,
            fraction,
        })
    }
}
