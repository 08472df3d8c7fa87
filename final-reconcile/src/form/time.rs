//! Days and times that SQLite keeps as texts, in canonical form.
//!
//! Input: a text such as `2024-02-29T12:00:00.5+02:00`. Output: `2024-02-29 10:00:00.500000`, as the servers print it.
//! None if the text is no time; then it equals no other value.

use std::time::Duration;

/// A day: `2024-02-29`.
pub(super) fn date(text: &str) -> Option<String> {
    let (year, month, day) = read_date(text)?;
    Some(format!("{year:04}-{month:02}-{day:02}"))
}

/// A time of day with so many digits of a second.
pub(super) fn time(text: &str, digits: u32) -> Option<String> {
    let (hour, minute, second, micros) = read_time(text)?;
    Some(format!(
        "{hour:02}:{minute:02}:{second:02}{}",
        fraction(micros, digits)
    ))
}

/// A day and a time, in UTC where the text has a zone.
pub(super) fn date_time(text: &str, digits: u32) -> Option<String> {
    let day = text.get(..10)?;
    let (year, month, day) = read_date(day)?;
    let rest = text.get(10..)?;
    let rest = match rest {
        "" => "00:00:00",
        rest => rest.strip_prefix(['T', ' '])?,
    };
    let zone = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
    let (clock, zone) = (rest.get(..zone)?.trim_end(), rest.get(zone..)?);
    let (hour, minute, second, micros) = read_time(clock)?;
    let minutes = i64::from(hour) * 60 + i64::from(minute) - offset(zone)?;
    let days = days_of(year, month, day) + minutes.div_euclid(24 * 60);
    let minutes = minutes.rem_euclid(24 * 60);
    let (year, month, day) = date_of(days);
    Some(format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{second:02}{}",
        minutes / 60,
        minutes % 60,
        fraction(micros, digits)
    ))
}

/// The microseconds since 1970 of a day and a time.
pub(crate) fn micros(text: &str) -> Option<i64> {
    let utc = date_time(text, 6)?;
    let (day, clock) = utc.split_once(' ')?;
    let (year, month, day) = read_date(day)?;
    let (hour, minute, second, micros) = read_time(clock)?;
    let seconds = days_of(year, month, day) * 86_400
        + i64::from(hour) * 3_600
        + i64::from(minute) * 60
        + i64::from(second);
    Some(seconds * 1_000_000 + i64::from(micros))
}

/// A span of time in microseconds.
pub(crate) fn micros_of(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4)
}

/// The day and the time of microseconds since 1970. None if they are too far away.
pub(crate) fn of_micros(micros: i64) -> Option<String> {
    let second = of_seconds(micros.div_euclid(1_000_000), 0)?;
    Some(format!("{second}.{:06}", micros.rem_euclid(1_000_000)))
}

/// The same moment from seconds since 1970.
pub(super) fn of_seconds(seconds: i64, digits: u32) -> Option<String> {
    const FAR: i64 = 250_000_000_000;
    if !(-FAR..FAR).contains(&seconds) {
        return None;
    }
    let (year, month, day) = date_of(seconds.div_euclid(86_400));
    let rest = seconds.rem_euclid(86_400);
    Some(format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}{}",
        rest / 3600,
        rest / 60 % 60,
        rest % 60,
        fraction(0, digits)
    ))
}

/// The point and the digits of a second; what is finer is cut off.
fn fraction(micros: u32, digits: u32) -> String {
    if digits == 0 {
        return String::new();
    }
    let all = format!(".{micros:06}");
    let length = usize::try_from(digits).unwrap_or(6) + 1;
    all.get(..length).unwrap_or(&all).to_owned()
}

fn read_date(text: &str) -> Option<(i64, u32, u32)> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if year.len() != 4 || month.len() != 2 || day.len() != 2 || parts.next().is_some() {
        return None;
    }
    let date = (number(year)?.into(), number(month)?, number(day)?);
    let is_date = (1..=12).contains(&date.1) && (1..=31).contains(&date.2);
    is_date.then_some(date)
}

fn read_time(text: &str) -> Option<(u32, u32, u32, u32)> {
    let (clock, behind) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.split(':');
    let (hour, minute) = (parts.next()?, parts.next()?);
    let second = parts.next().unwrap_or("00");
    if hour.len() != 2 || minute.len() != 2 || second.len() != 2 || parts.next().is_some() {
        return None;
    }
    let micros = match behind {
        "" => 0,
        behind => {
            number(behind)?;
            number(&format!("{behind:0<6}")[..6])?
        }
    };
    let time = (number(hour)?, number(minute)?, number(second)?, micros);
    (time.0 <= 24 && time.1 < 60 && time.2 <= 60).then_some(time)
}

/// The minutes that a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    let sign = match zone.as_bytes().first() {
        None | Some(b'Z') => return (zone.len() <= 1).then_some(0),
        Some(b'+') => 1,
        _ => -1,
    };
    let digits: String = zone
        .get(1..)?
        .chars()
        .filter(|letter| *letter != ':')
        .collect();
    let (hours, minutes) = match digits.len() {
        2 => (digits.as_str(), "0"),
        4 => digits.split_at(2),
        _ => return None,
    };
    Some(sign * (i64::from(number(hours)?) * 60 + i64::from(number(minutes)?)))
}

fn number(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.get(..9).unwrap_or(text).parse().ok())?
}

/// Days since 1970. Years begin in March here, so that a leap day is the last one.
fn days_of(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let month = i64::from((month + 9) % 12);
    let of_year = (153 * month + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_with_a_zone_is_told_in_utc() {
        let cases = [
            (
                "2024-02-29T12:00:00.5+02:00",
                6,
                "2024-02-29 10:00:00.500000",
            ),
            ("2024-03-01 00:30:00+0100", 0, "2024-02-29 23:30:00"),
            ("2023-12-31 23:59:59.999999Z", 3, "2023-12-31 23:59:59.999"),
            ("2024-02-29 12:00", 0, "2024-02-29 12:00:00"),
            ("2024-02-29", 0, "2024-02-29 00:00:00"),
            ("2024-02-29 12:00:00-05", 0, "2024-02-29 17:00:00"),
        ];
        for (text, digits, form) in cases {
            assert_eq!(date_time(text, digits).as_deref(), Some(form), "{text}");
        }
        for text in [
            "yesterday",
            "2024-13-01",
            "2024-02-29x",
            "2024-02-29 1:00:00",
            "é",
            "",
        ] {
            assert_eq!(date_time(text, 6), None, "{text}");
        }
    }

    #[test]
    fn seconds_since_1970_are_a_moment() {
        assert_eq!(of_seconds(0, 0).as_deref(), Some("1970-01-01 00:00:00"));
        assert_eq!(
            of_seconds(-1, 3).as_deref(),
            Some("1969-12-31 23:59:59.000")
        );
        assert_eq!(of_seconds(i64::MAX, 0), None);
    }

    proptest! {
        #[test]
        fn a_moment_comes_back(moment in -60_000_000_000_000_000_i64..250_000_000_000_000_000) {
            let text = of_micros(moment).unwrap();
            prop_assert_eq!(micros(&text), Some(moment), "{}", text);
        }

        #[test]
        fn a_day_comes_back(days in -1_000_000_i64..1_000_000) {
            let (year, month, day) = date_of(days);
            prop_assert_eq!(days_of(year, month as u32, day as u32), days);
        }

        #[test]
        fn whatever_the_text_is_there_is_no_panic(text in ".{0,30}", like in "[0-9]{4}-[0-9]{2}-[0-9]{2}.{0,20}") {
            for text in [text, like] {
                let _ = (date(&text), time(&text, 6), date_time(&text, 3));
            }
        }
    }
}
