//! The canonical form of a pair of columns: a text that is the same on both sides if the values are equal.
//!
//! Input: the classes of two columns, and a wish of the caller's. Output: a [`Form`].
//!
//! | part | has |
//! | --- | --- |
//! | [`agree`](mod@agree) | which form a pair of columns has |
//! | [`encode`] | how a row is put together from its fields, and taken apart |
//! | [`given`](mod@given) | the form in which a whole value goes from the source to the target |
//! | [`here`] | forms that are made in this process: from values of SQLite, and of JSON |
//! | [`number`] | decimals and floats |
//! | [`time`] | days and times |
//! | [`uuid`] | how a UUID is written |
//!
//! The servers make the same texts by SQL (`crate::sql`).

pub(crate) mod agree;
pub(crate) mod encode;
mod given;
pub(crate) mod here;
mod number;
pub(crate) mod time;
pub(crate) mod uuid;

use std::fmt;

#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) use self::encode::is_open;
pub(crate) use self::{
    agree::{Wish, agree},
    encode::{Hash, Row, RowHash, split},
    given::given,
};

/// What a pair of columns is compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A whole number; a truth value is 0 or 1.
    Integer,
    /// An exact number with so many digits behind the point.
    Decimal { scale: u32 },
    /// An exact number without zeros at its end.
    Number,
    /// A number in so many digits.
    Float { digits: u32 },
    /// Text; without the spaces at its end if one side pads.
    Text { trim: bool },
    /// Bytes, as hexadecimal digits.
    Bytes,
    /// A day.
    Date,
    /// A time of day.
    Time(Fraction),
    /// A day and a time, in UTC where there is a zone.
    DateTime(Fraction),
    /// The 32 digits of a UUID.
    Uuid,
    /// JSON, compared as a value.
    Json {
        /// Whether both sides print equal values mostly the same, so that the servers can hash the text.
        as_text: bool,
    },
    /// So many bits.
    Bits { length: u32 },
    /// A value of any type as its server prints it. It is shown to others, and never compared.
    Printed,
}

/// The digits of a second that count, and what the coarser side did to the others when it stored the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fraction {
    pub(crate) digits: u32,
    pub(crate) rounding: Rounding,
}

/// What a database does to digits of a second that a column has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// Cuts them off (MariaDB).
    Cut,
    /// Rounds a half up (MySQL).
    Up,
    /// Rounds a half away from the year 2000 (PostgreSQL).
    From2000,
}

impl Form {
    /// Whether servers can make the form, so that digests are made there.
    pub(crate) fn is_made_by_servers(self) -> bool {
        !matches!(self, Self::Json { as_text: false })
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer => f.write_str("whole number"),
            Self::Decimal { scale: 0 } => f.write_str("number, rounded to a whole one"),
            Self::Decimal { scale } => write!(f, "number with {scale} digits behind the point"),
            Self::Number => f.write_str("exact number"),
            Self::Float { digits } => write!(f, "number in {digits} digits"),
            Self::Text { trim: false } => f.write_str("text"),
            Self::Text { trim: true } => f.write_str("text without spaces at its end"),
            Self::Bytes => f.write_str("bytes"),
            Self::Date => f.write_str("day"),
            Self::Time(fraction) => write!(f, "time of day, {fraction}"),
            Self::DateTime(fraction) => write!(f, "day and time in UTC, {fraction}"),
            Self::Uuid => f.write_str("UUID"),
            Self::Json { as_text: true } => f.write_str("JSON, its text hashed, then as a value"),
            Self::Json { as_text: false } => f.write_str("JSON as a value, read here"),
            Self::Bits { length } => write!(f, "{length} bits"),
            Self::Printed => f.write_str("as it is printed"),
        }
    }
}

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.digits {
            0 => f.write_str("to the second"),
            digits => write!(f, "{digits} digits of a second"),
        }
    }
}
