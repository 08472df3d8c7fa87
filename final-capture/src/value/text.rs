//! Texts of dates and times in canonical form, for the sources and for reading by SELECT.
//!
//! Input: what a server prints, or numbers that a binary log holds. Output: the canonical text, in UTC where it is a
//! moment. `None` for what is neither: the source then says that it cannot read the value.

use std::fmt::Write;

/// Seconds of a day.
const DAY: i64 = 86_400;

/// The day as `2024-02-29`. `None` if there is no such day.
pub(crate) fn date(year: i64, month: u32, day: u32) -> Option<String> {
    (valid(year, month, day)).then(|| format!("{year:04}-{month:02}-{day:02}"))
}

/// Whether the calendar has that day.
pub(crate) fn valid(year: i64, month: u32, day: u32) -> bool {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    };
    (1..=days).contains(&day)
}

/// A day and a time as a server prints them, `2024-02-29 12:00:00.5`, in ISO form: `2024-02-29T12:00:00.5`.
/// PostgreSQL's `… BC` and `infinity` stay.
pub(crate) fn iso_datetime(printed: &str) -> Option<String> {
    if is_infinite(printed) {
        return Some(printed.to_owned());
    }
    let (day, time) = printed.split_once(' ')?;
    if day.is_empty() || !time.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    Some(format!("{day}T{time}"))
}

/// A moment as PostgreSQL prints it, `2024-02-29 14:00:00.5+02`, in UTC: `2024-02-29T12:00:00.5Z`.
pub(crate) fn iso_timestamp(printed: &str) -> Option<String> {
    if is_infinite(printed) {
        return Some(printed.to_owned());
    }
    let (rest, era) = match printed.strip_suffix(" BC") {
        Some(rest) => (rest, " BC"),
        None => (printed, ""),
    };
    let (day, time) = rest.split_once(' ')?;
    let at = time.find(['+', '-'])?;
    let (clock, offset) = time.split_at_checked(at)?;
    let seconds = offset_seconds(offset)?;
    if seconds == 0 {
        return Some(format!("{day}T{clock}Z{era}"));
    }
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, fraction)) => (clock, format!(".{fraction}")),
        None => (clock, String::new()),
    };
    let mut parts = day.splitn(3, '-');
    let mut number = || parts.next()?.parse::<i32>().ok().map(i64::from);
    let (year, month, day) = (number()?, number()?, number()?);
    // The year before 1 AD is 1 BC, and counts as 0.
    let year = if era.is_empty() { year } else { 1 - year };
    let mut parts = clock.splitn(3, ':');
    let mut number = || parts.next()?.parse::<i32>().ok().map(i64::from);
    let of_day = number()? * 3600 + number()? * 60 + number()?;
    if !(1..=12).contains(&month) {
        return None;
    }
    let moment = days_from(year, month, day) * DAY + of_day - seconds;
    let (year, month, day) = day_of(moment.div_euclid(DAY));
    let (year, era) = if year > 0 {
        (year, "")
    } else {
        (1 - year, " BC")
    };
    let of_day = moment.rem_euclid(DAY);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    Some(format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z{era}"
    ))
}

/// A moment of microseconds since 1970 in UTC, with so many digits behind the point, at most 6.
pub(crate) fn unix_micros(micros: i64, digits: usize) -> String {
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (year, month, day) = day_of(seconds.div_euclid(DAY));
    let (year, era) = if year > 0 {
        (year, "")
    } else {
        (1 - year, " BC")
    };
    let second = seconds.rem_euclid(DAY);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    let digits = digits.min(6);
    if digits > 0 {
        let all = format!("{fraction:06}");
        // Writing into a text cannot fail.
        let _ = write!(text, ".{}", all.get(..digits).unwrap_or(&all));
    }
    text.push('Z');
    text.push_str(era);
    text
}

/// The bytes of PostgreSQL's `\xff00`.
pub(crate) fn hex_bytes(printed: &str) -> Option<Vec<u8>> {
    let digits = printed.strip_prefix("\\x")?.as_bytes();
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    let digit = |c: u8| (c as char).to_digit(16);
    pairs
        .iter()
        .map(|[high, low]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok())
        .collect()
}

fn is_infinite(printed: &str) -> bool {
    matches!(printed, "infinity" | "-infinity")
}

/// `+02`, `-05:30`, `+00:19:32` in seconds.
fn offset_seconds(offset: &str) -> Option<i64> {
    let (sign, rest) = match offset.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let mut parts = rest.split(':');
    let number = |text: &str| text.parse::<i32>().ok().map(i64::from);
    let hours = number(parts.next()?)?;
    let minutes = parts.next().map_or(Some(0), number)?;
    let seconds = parts.next().map_or(Some(0), number)?;
    Some(sign * (hours * 3600 + minutes * 60 + seconds))
}

/// Days from 1970-01-01 to a day of the Gregorian calendar.
///
/// The year is counted from March, so that the leap day is its last one ("chrono-Compatible Low-Level Date
/// Algorithms", Howard Hinnant).
fn days_from(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The day so many days after 1970-01-01: year, month, day.
fn day_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_server_prints_becomes_iso() {
        for (printed, iso) in [
            ("2024-02-29 12:00:00", "2024-02-29T12:00:00"),
            ("2024-02-29 12:00:00.500", "2024-02-29T12:00:00.500"),
            ("0044-03-15 12:00:00 BC", "0044-03-15T12:00:00 BC"),
            ("infinity", "infinity"),
        ] {
            assert_eq!(iso_datetime(printed).as_deref(), Some(iso));
        }
        assert_eq!(iso_datetime("2024-02-29"), None);
        assert_eq!(iso_datetime("soon or late"), None);
    }

    #[test]
    fn a_moment_is_told_in_utc() {
        for (printed, iso) in [
            ("2024-02-29 12:00:00+00", "2024-02-29T12:00:00Z"),
            ("2024-03-01 01:00:00.5+02", "2024-02-29T23:00:00.5Z"),
            ("2023-12-31 20:15:00-05:30", "2024-01-01T01:45:00Z"),
            ("1900-01-01 00:00:00+00:19:32", "1899-12-31T23:40:28Z"),
            ("0044-03-15 12:00:00+00 BC", "0044-03-15T12:00:00Z BC"),
            ("0001-12-31 23:00:00-02 BC", "0001-01-01T01:00:00Z"),
            ("0001-01-01 00:30:00+01", "0001-12-31T23:30:00Z BC"),
            ("12024-01-01 00:00:00+01", "12023-12-31T23:00:00Z"),
            ("-infinity", "-infinity"),
        ] {
            assert_eq!(iso_timestamp(printed).as_deref(), Some(iso), "{printed}");
        }
        assert_eq!(iso_timestamp("2024-02-29 12:00:00"), None);
        assert_eq!(iso_timestamp(""), None);
    }

    #[test]
    fn microseconds_have_as_many_digits_as_are_asked_for() {
        assert_eq!(unix_micros(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(unix_micros(-1, 6), "1969-12-31T23:59:59.999999Z");
        assert_eq!(
            unix_micros(951_782_400_120_000, 3),
            "2000-02-29T00:00:00.120Z"
        );
    }

    #[test]
    fn days_that_no_calendar_has_are_none() {
        assert_eq!(date(2024, 2, 29).as_deref(), Some("2024-02-29"));
        assert_eq!(date(2023, 2, 29), None);
        assert_eq!(date(0, 0, 0), None);
        assert_eq!(date(1900, 2, 29), None);
        assert_eq!(date(2024, 13, 1), None);
    }

    #[test]
    fn bytes_in_hex_are_read() {
        assert_eq!(hex_bytes("\\xFf00"), Some(vec![255, 0]));
        assert_eq!(hex_bytes("\\x"), Some(Vec::new()));
        assert_eq!(hex_bytes("\\x0"), None);
        assert_eq!(hex_bytes("\\x0g"), None);
        assert_eq!(hex_bytes("ff"), None);
    }

    proptest! {
        #[test]
        fn each_day_has_one_number(days in -2_000_000_i64..4_000_000) {
            let (year, month, day) = day_of(days);
            prop_assert_eq!(days_from(year, month, day), days);
            prop_assert!(valid(year, u32::try_from(month).unwrap(), u32::try_from(day).unwrap()));
        }

        #[test]
        fn hostile_text_is_no_panic(text in ".{0,40}") {
            let _ = (iso_datetime(&text), iso_timestamp(&text), hex_bytes(&text));
        }

        #[test]
        fn numbers_that_overflow_are_no_panic(text in "[0-9]{0,20}-[0-9]{0,20}-[0-9]{0,20} [0-9:]{0,30}[+-][0-9:]{0,20}") {
            let _ = iso_timestamp(&text);
        }
    }
}
