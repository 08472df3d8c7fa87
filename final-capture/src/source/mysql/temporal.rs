//! Dates and times as the binary log stores them, as canonical texts.
//!
//! Input: the bytes and how many digits the column has behind the point. Output: a text, or
//! [`Value::Invalid`] with the text that SELECT gives if no calendar has that day.

use super::{
    short::Short,
    wire::{CannotRead, Wire},
};
use crate::value::Value;

/// The part behind the point.
#[derive(Clone, Copy)]
struct Fraction {
    micros: u32,
    digits: u8,
}

impl Fraction {
    /// How many bytes it takes.
    const fn size(digits: u8) -> usize {
        digits.div_ceil(2) as usize
    }

    /// Micros of what was stored: two digits in one byte, four in two, six in three.
    const fn micros(stored: u64, digits: u8) -> u64 {
        match digits {
            0 => 0,
            1 | 2 => stored * 10_000,
            3 | 4 => stored * 100,
            _ => stored,
        }
    }

    fn read(wire: &mut Wire<'_>, digits: u8) -> Result<Self, CannotRead> {
        let micros = Self::micros(wire.high_first(Self::size(digits))?, digits);
        match u32::try_from(micros) {
            Ok(micros) if micros < 1_000_000 => Ok(Self { micros, digits }),
            _ => Err(CannotRead::new("a time has more than a second of micros")),
        }
    }

    fn write(self, text: &mut Short) {
        if self.digits > 0 {
            text.push(b'.');
            let left_out = 10_u32.pow(6_u32.saturating_sub(u32::from(self.digits)));
            text.digits(u64::from(self.micros / left_out), usize::from(self.digits));
        }
    }
}

/// Appends a day.
fn write_day(text: &mut Short, (year, month, day): (u64, u64, u64)) {
    text.digits(year, 4);
    text.push(b'-');
    text.digits(month, 2);
    text.push(b'-');
    text.digits(day, 2);
}

/// Appends a time.
fn write_time(text: &mut Short, hour: u64, minute: u64, second: u64) {
    text.digits(hour, if hour > 99 { 3 } else { 2 });
    text.push(b':');
    text.digits(minute, 2);
    text.push(b':');
    text.digits(second, 2);
}

/// The text as a value: one that a calendar has, or what the server prints.
fn value(text: &Short, valid: bool) -> Value {
    let text = text.as_str().into();
    if valid {
        Value::Text(text)
    } else {
        Value::Invalid(text)
    }
}

/// How many bytes each type takes.
pub(super) const fn datetime_size(digits: u8) -> usize {
    5 + Fraction::size(digits)
}

/// See [`datetime_size`].
pub(super) const fn timestamp_size(digits: u8) -> usize {
    4 + Fraction::size(digits)
}

/// See [`datetime_size`].
pub(super) const fn time_size(digits: u8) -> usize {
    3 + Fraction::size(digits)
}

/// Reads a DATE.
pub(super) fn date(wire: &mut Wire<'_>) -> Result<Value, CannotRead> {
    let packed = wire.low_first(3)?;
    let day = (packed >> 9, packed >> 5 & 15, packed & 31);
    let mut text = Short::default();
    write_day(&mut text, day);
    Ok(value(&text, is_day(day)))
}

/// Reads a DATETIME.
pub(super) fn datetime(wire: &mut Wire<'_>, digits: u8) -> Result<Value, CannotRead> {
    let Some(packed) = wire.high_first(5)?.checked_sub(0x80_0000_0000) else {
        return Err(CannotRead::new("a DATETIME is before the year 0"));
    };
    let fraction = Fraction::read(wire, digits)?;
    let (days, time) = (packed >> 17, packed & 0x1_ffff);
    let (months, day) = (days >> 5, days & 31);
    let day = (months / 13, months % 13, day);
    let (hour, minute, second) = (time >> 12, time >> 6 & 63, time & 63);
    let valid = is_day(day) && hour < 24 && minute < 60 && second < 60;
    let mut text = Short::default();
    write_day(&mut text, day);
    text.push(if valid { b'T' } else { b' ' });
    write_time(&mut text, hour, minute, second);
    fraction.write(&mut text);
    Ok(value(&text, valid))
}

/// Reads a TIMESTAMP.
pub(super) fn timestamp(wire: &mut Wire<'_>, digits: u8) -> Result<Value, CannotRead> {
    let seconds = wire.high_first(4)?;
    let fraction = Fraction::read(wire, digits)?;
    let valid = seconds != 0 || fraction.micros != 0;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let mut text = Short::default();
    write_day(&mut text, if valid { civil(days) } else { (0, 0, 0) });
    text.push(if valid { b'T' } else { b' ' });
    write_time(&mut text, rest / 3600, rest / 60 % 60, rest % 60);
    fraction.write(&mut text);
    if valid {
        text.push(b'Z');
    }
    Ok(value(&text, valid))
}

/// Reads a TIME, which MariaDB uses for lengths of time as well: up to 838 hours, and negative.
pub(super) fn time(wire: &mut Wire<'_>, digits: u8) -> Result<Value, CannotRead> {
    // Seconds and fraction are one number, with the middle of its range for zero. So a negative fraction borrows from
    // the seconds.
    let fraction = Fraction::size(digits);
    let bits = 8 * u32::try_from(fraction).unwrap_or(0);
    let stored = wire.high_first(3 + fraction)?;
    let (negative, packed) = match stored.checked_sub(0x80_0000 << bits) {
        Some(packed) => (false, packed),
        None => (true, (0x80_0000 << bits) - stored),
    };
    let (time, stored) = (packed >> bits, packed & ((1 << bits) - 1));
    let fraction = Fraction {
        micros: u32::try_from(Fraction::micros(stored, digits)).unwrap_or(u32::MAX),
        digits,
    };
    let (hour, minute, second) = (time >> 12 & 0x3ff, time >> 6 & 63, time & 63);
    if fraction.micros >= 1_000_000 || minute > 59 || second > 59 {
        return Err(CannotRead::new(
            "a TIME has more than 59 minutes or seconds",
        ));
    }
    let mut text = Short::default();
    if negative {
        text.push(b'-');
    }
    write_time(&mut text, hour, minute, second);
    fraction.write(&mut text);
    Ok(value(&text, true))
}

fn is_day((year, month, day): (u64, u64, u64)) -> bool {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    };
    (1..=days).contains(&day)
}

/// Year, month and day of a number of days since 1970. The years are counted from March, so that the leap day is the
/// last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value {
        Value::Text(value.into())
    }

    #[test]
    fn a_moment_is_told_in_utc_with_the_digits_of_its_column() {
        let at = 1_709_208_000_u32.to_be_bytes();
        assert_eq!(
            timestamp(&mut Wire(&at), 0).unwrap(),
            text("2024-02-29T12:00:00Z")
        );
        let mut half = at.to_vec();
        half.extend([50]);
        assert_eq!(
            timestamp(&mut Wire(&half), 1).unwrap(),
            text("2024-02-29T12:00:00.5Z")
        );
        assert_eq!(
            timestamp(&mut Wire(&half), 2).unwrap(),
            text("2024-02-29T12:00:00.50Z")
        );
        assert_eq!(
            timestamp(&mut Wire(&[0; 4]), 0).unwrap(),
            Value::Invalid("0000-00-00 00:00:00".into())
        );
    }

    #[test]
    fn a_negative_time_borrows_from_its_seconds() {
        // -00:00:00.5 with one digit: one half below the middle.
        assert_eq!(
            time(&mut Wire(&[0x7f, 0xff, 0xff, 0xce]), 1).unwrap(),
            text("-00:00:00.5")
        );
        assert_eq!(
            time(&mut Wire(&[0x80, 0x10, 0x83]), 0).unwrap(),
            text("01:02:03")
        );
        assert_eq!(
            time(&mut Wire(&[0x7f, 0xef, 0x7d]), 0).unwrap(),
            text("-01:02:03")
        );
    }

    #[test]
    fn a_day_of_no_calendar_is_told_as_the_server_prints_it() {
        let day = |year: u32, month: u32, day: u32| {
            let packed = (year << 9 | month << 5 | day).to_le_bytes();
            date(&mut Wire(&packed)).unwrap()
        };
        assert_eq!(day(2024, 2, 29), text("2024-02-29"));
        assert_eq!(day(2023, 2, 29), Value::Invalid("2023-02-29".into()));
        assert_eq!(day(0, 0, 0), Value::Invalid("0000-00-00".into()));
        assert_eq!(day(2024, 0, 15), Value::Invalid("2024-00-15".into()));
    }
}
