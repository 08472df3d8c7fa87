//! Which form a pair of columns has.
//!
//! Input: both columns with their databases, and a wish. Output: a [`Form`], or what to do about a pair that has none.
//! The table in docs/reconcile.md is this module in words.

use super::{Form, Fraction, Rounding};
use crate::table::{ColumnClass, Family, SideColumn};

/// What the caller wants a pair to be compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Rounded to so many digits behind the point.
    Decimal(u32),
    /// In so many digits.
    Digits(u32),
    /// To so many digits of a second.
    Precision(u32),
    /// As UUIDs.
    Uuid,
    /// As the texts that the servers print.
    Text,
    /// As texts without spaces at their end.
    Trimmed,
}

/// The digits that two doubles, or a double and a float, have in common.
const DOUBLE: u32 = 15;
const SINGLE: u32 = 7;

/// The most digits behind the point that MySQL can give a number.
const MOST_SCALE: u32 = 30;

/// The form of a pair. The error is what to do.
pub(crate) fn agree(
    (source_family, source): (Family, &SideColumn),
    (target_family, target): (Family, &SideColumn),
    wish: Option<Wish>,
) -> Result<Form, String> {
    let natural = natural((source_family, source), (target_family, target));
    let Some(wish) = wish else {
        return natural.ok_or_else(|| {
            "give the column a rule (`text` compares what both servers print), or leave it out"
                .into()
        });
    };
    let both = [source.class, target.class];
    let is_number = |class: &ColumnClass| {
        use ColumnClass::*;
        matches!(class, Integer { .. } | Decimal { .. } | Float { .. })
    };
    match (wish, natural) {
        (Wish::Uuid, _) if both.iter().all(may_be_uuid) => Ok(Form::Uuid),
        (Wish::Uuid, _) => Err("`uuid` is for columns with UUIDs, as 16 bytes or as text".into()),
        (Wish::Text | Wish::Trimmed, _)
            if both
                .iter()
                .any(|class| matches!(class, ColumnClass::Bytes { .. })) =>
        {
            Err("bytes are no text".into())
        }
        (Wish::Text, _) => Ok(Form::Text { trim: false }),
        (Wish::Trimmed, _) => Ok(Form::Text { trim: true }),
        (Wish::Decimal(scale), _) if scale > MOST_SCALE => Err(format!(
            "a number has at most {MOST_SCALE} digits behind the point"
        )),
        (Wish::Decimal(scale), _) if both.iter().all(is_number) => Ok(Form::Decimal { scale }),
        (Wish::Digits(digits), _)
            if both.iter().all(is_number) && (1..=DOUBLE).contains(&digits) =>
        {
            Ok(Form::Float { digits })
        }
        (Wish::Digits(_), _) if both.iter().all(is_number) => Err(format!(
            "a float has 1 to {DOUBLE} digits that can be compared"
        )),
        (Wish::Precision(digits), Some(Form::Time(fraction))) if digits <= 6 => {
            Ok(Form::Time(Fraction {
                digits: fraction.digits.min(digits),
                ..fraction
            }))
        }
        (Wish::Precision(digits), Some(Form::DateTime(fraction))) if digits <= 6 => {
            Ok(Form::DateTime(Fraction {
                digits: fraction.digits.min(digits),
                ..fraction
            }))
        }
        (Wish::Precision(digits), _) if digits > 6 => Err("a second has at most 6 digits".into()),
        (Wish::Precision(_), _) => Err("`precision` is for columns with a time".into()),
        (Wish::Decimal(_) | Wish::Digits(_), _) => {
            Err("`decimal` and `digits` are for columns with numbers".into())
        }
    }
}

fn natural(
    (source_family, source): (Family, &SideColumn),
    (target_family, target): (Family, &SideColumn),
) -> Option<Form> {
    use ColumnClass::*;
    let (a, b) = (source.class, target.class);
    let is_sqlite = |family| family == Family::Sqlite;
    // SQLite has no types for these, so they stand in columns of text.
    let (a, b) = match (a, b) {
        (Text { .. }, other) if is_sqlite(source_family) && is_kept_as_text(other) => {
            (other, other)
        }
        (other, Text { .. }) if is_sqlite(target_family) && is_kept_as_text(other) => {
            (other, other)
        }
        both => both,
    };
    let coarser = |a: u32, b: u32| {
        let family = match (is_sqlite(source_family), is_sqlite(target_family)) {
            (true, false) => {
                return Fraction {
                    digits: b,
                    rounding: Rounding::Cut,
                };
            }
            (false, true) => {
                return Fraction {
                    digits: a,
                    rounding: Rounding::Cut,
                };
            }
            _ if a < b => source_family,
            _ => target_family,
        };
        let rounding = match family {
            Family::Postgres => Rounding::From2000,
            Family::MySql => Rounding::Up,
            Family::MariaDb | Family::Sqlite => Rounding::Cut,
        };
        Fraction {
            digits: a.min(b),
            rounding,
        }
    };
    Some(match (a, b) {
        (Bool | Integer { .. }, Bool | Integer { .. }) => Form::Integer,
        (Bits { length: a }, Bits { length: b }) if a == b => Form::Bits { length: a },
        (Bits { length }, Bool | Integer { .. }) | (Bool | Integer { .. }, Bits { length })
            if length <= 64 =>
        {
            Form::Integer
        }
        (Decimal { scale: Some(a) }, Decimal { scale: Some(b) }) if a.max(b) <= MOST_SCALE => {
            Form::Decimal { scale: a.max(b) }
        }
        (Decimal { .. }, Decimal { .. }) => Form::Number,
        (Decimal { .. }, Integer { .. }) | (Integer { .. }, Decimal { .. }) => Form::Number,
        // SQLite keeps a decimal as a double.
        (Decimal { .. }, Float { .. }) if is_sqlite(target_family) => Form::Number,
        (Float { .. }, Decimal { .. }) if is_sqlite(source_family) => Form::Number,
        (Float { single: a }, Float { single: b }) => Form::Float {
            digits: if a || b { SINGLE } else { DOUBLE },
        },
        (Float { single }, Decimal { .. } | Integer { .. })
        | (Decimal { .. } | Integer { .. }, Float { single }) => Form::Float {
            digits: if single { SINGLE } else { DOUBLE },
        },
        (Text { padded: a }, Text { padded: b }) => Form::Text { trim: a || b },
        (Words, Words) => Form::Text { trim: false },
        (Text { padded }, Words) | (Words, Text { padded }) => Form::Text { trim: padded },
        (Uuid, Uuid | Text { .. }) | (Text { .. }, Uuid) => Form::Uuid,
        (Uuid, Bytes { length }) | (Bytes { length }, Uuid)
            if length.is_none_or(|length| length == 16) =>
        {
            Form::Uuid
        }
        (Bytes { .. }, Bytes { .. }) => Form::Bytes,
        (Date, Date) => Form::Date,
        (Time { precision: a }, Time { precision: b }) => Form::Time(coarser(a, b)),
        (
            DateTime { precision: a } | Moment { precision: a },
            DateTime { precision: b } | Moment { precision: b },
        ) => Form::DateTime(coarser(a, b)),
        (Json, Json) => Form::Json {
            as_text: source_family == target_family
                && source.declared == target.declared
                && !is_sqlite(source_family),
        },
        (Json, Text { .. }) | (Text { .. }, Json) => Form::Json { as_text: false },
        (Other, Other) if source_family == target_family && source.declared == target.declared => {
            Form::Text { trim: false }
        }
        _ => return None,
    })
}

fn may_be_uuid(class: &ColumnClass) -> bool {
    use ColumnClass::*;
    match class {
        Uuid | Text { .. } => true,
        Bytes { length } => length.is_none_or(|length| length == 16),
        _ => false,
    }
}

fn is_kept_as_text(class: ColumnClass) -> bool {
    use ColumnClass::*;
    matches!(
        class,
        Date | Time { .. } | DateTime { .. } | Moment { .. } | Decimal { .. } | Uuid | Json
    )
}
