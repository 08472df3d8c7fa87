//! Times and sizes as a person writes them.
//!
//! Input: `"1h 30m"`, `"64 KiB"`. Output: a [`Period`], a [`ByteSize`]. A time without a unit is refused, because
//! nobody remembers whether it was seconds or milliseconds.

use std::{fmt, str::FromStr, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

/// A length of time, written as `"250ms"`, `"30s"` or `"1h 30m"`.
///
/// Units: `ms`, `s`, `m` or `min`, `h`, `d`, `w`.
///
/// ```
/// # use final_cli::config::Period;
/// let period: Period = "1h 30m".parse()?;
/// assert_eq!(period.0.as_secs(), 5_400);
/// assert_eq!(period.to_string(), "1h 30m");
/// # Ok::<_, String>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// A number of bytes, written as `"64 KiB"`, `"10 MB"` or `1000000`.
///
/// ```
/// # use final_cli::config::ByteSize;
/// let size: ByteSize = "64 KiB".parse()?;
/// assert_eq!(size.0, 65_536);
/// # Ok::<_, String>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Units of time in milliseconds, the largest first.
const TIMES: [(&str, u64); 7] = [
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("min", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Units of size in bytes, the largest first.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

const PERIOD: &str =
    "this is no time; write a number and a unit, as \"250ms\", \"30s\" or \"1h 30m\"";
const SIZE: &str = "this is no size; write a number and a unit, as \"64 KiB\" or \"10 MB\"";

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut rest, mut milliseconds) = (text.trim(), 0_u64);
        if rest.is_empty() {
            return Err(PERIOD.to_owned());
        }
        while !rest.is_empty() {
            let (number, unit, after) = number_and_unit(rest).ok_or(PERIOD)?;
            let (_, each) = TIMES.iter().find(|(name, _)| *name == unit).ok_or(PERIOD)?;
            milliseconds = number
                .checked_mul(*each)
                .and_then(|more| milliseconds.checked_add(more))
                .ok_or("this time is too long; write a shorter one")?;
            rest = after;
        }
        Ok(Self(Duration::from_millis(milliseconds)))
    }
}

impl fmt::Display for Period {
    /// As it is written: the largest units first, and what is below a millisecond left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        let mut space = "";
        for (unit, each) in TIMES.iter().filter(|(unit, _)| *unit != "min") {
            if rest >= *each {
                write!(f, "{space}{}{unit}", rest / each)?;
                (rest, space) = (rest % each, " ");
            }
        }
        Ok(())
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit, after) = number_and_unit(text.trim()).ok_or(SIZE)?;
        if !after.is_empty() {
            return Err(SIZE.to_owned());
        }
        // KB means 1,000 to some and 1,024 to others.
        let (_, each) = SIZES.iter().find(|(name, _)| *name == unit).ok_or(SIZE)?;
        let bytes = number
            .checked_mul(*each)
            .ok_or("this size is too large; write a smaller one")?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for ByteSize {
    /// In the largest unit that gives a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = SIZES
            .iter()
            .find(|(_, each)| self.0 > 0 && self.0.is_multiple_of(*each));
        let (unit, each) = whole.unwrap_or(&("B", 1));
        write!(f, "{} {unit}", self.0 / each)
    }
}

/// The number at the front, the letters after it, and the rest without its leading spaces.
fn number_and_unit(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, rest) = text.split_at(digits);
    let rest = rest.trim_start_matches(' ');
    let end = rest
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(rest.len());
    let (unit, after) = rest.split_at(end);
    // A number that is too large is told by the unit's product; here it only has to be one.
    let number = match number.is_empty() {
        true => return None,
        false => number.parse().unwrap_or(u64::MAX),
    };
    Some((number, unit, after.trim_start_matches(' ')))
}

/// Reads a value from text, or a size from a number.
struct UnitVisitor<T>(fn(&str) -> Result<T, String>, fn(u64) -> Result<T, String>);

impl<T> Visitor<'_> for UnitVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number and a unit in quotes, as \"30s\" or \"64 KiB\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        u64::try_from(number)
            .map_err(|_| SIZE.to_owned())
            .and_then(self.1)
            .map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        (self.1)(number).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let no_unit = |_| Err("this time has no unit; write it in quotes, as \"30s\"".to_owned());
        deserializer.deserialize_any(UnitVisitor(str::parse, no_unit))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UnitVisitor(str::parse, |bytes| Ok(Self(bytes))))
    }
}
