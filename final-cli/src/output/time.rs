//! Times: lengths that a person writes, lengths that a person reads, and moments in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const UNITS: [(&str, u64); 5] = [
    ("d", 86_400),
    ("h", 3_600),
    ("m", 60),
    ("s", 1),
    ("w", 604_800),
];

/// Reads `90s`, `15m`, `1h30m`, `2d` or `500ms`. A number needs its unit.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("{text:?} is no length of time; write `90s`, `15m`, `1h30m`, `2d` or `500ms`");
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let after = &rest[digits..];
        let end = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let unit = &after[..end];
        let part = if unit == "ms" {
            Duration::from_millis(number)
        } else {
            let (_, seconds) = UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .ok_or_else(wrong)?;
            Duration::from_secs(number.checked_mul(*seconds).ok_or_else(wrong)?)
        };
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = &after[end..];
    }
    Ok(total)
}

/// A length of time in its two largest units: `850ms`, `42s`, `3m 12s`, `2h 5m`, `4d 3h`.
pub(crate) fn shown(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds == 0 {
        return match time.subsec_millis() {
            0 => "0s".into(),
            millis => format!("{millis}ms"),
        };
    }
    let [(_, day), (_, hour), (_, minute), ..] = UNITS;
    let (large, small) = if seconds >= day {
        ((seconds / day, "d"), (seconds % day / hour, "h"))
    } else if seconds >= hour {
        ((seconds / hour, "h"), (seconds % hour / minute, "m"))
    } else if seconds >= minute {
        ((seconds / minute, "m"), (seconds % minute, "s"))
    } else {
        ((seconds, "s"), (0, "s"))
    };
    match small {
        (0, _) => format!("{}{}", large.0, large.1),
        (number, unit) => format!("{}{} {number}{unit}", large.0, large.1),
    }
}

/// A moment in UTC, to the microsecond: `2026-02-28T12:00:00.000000Z`. All have the same length, so their order as
/// texts is their order in time.
pub(crate) fn utc(moment: SystemTime) -> String {
    let micros = match moment.duration_since(UNIX_EPOCH) {
        Ok(since) => i128::try_from(since.as_micros()).unwrap_or(i128::MAX),
        Err(before) => -i128::try_from(before.duration().as_micros()).unwrap_or(i128::MAX),
    };
    let (seconds, micros) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Counted from 0000-03-01, so that a leap day is the last day of its year, in eras of 400 years.
    let day = day + 719_468;
    let (era, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month < 10 {
        true => (era * 400 + year, month + 3),
        false => (era * 400 + year + 1, month - 9),
    };
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Milliseconds, for JSON.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_with_its_units() {
        let times = [
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("500ms", 500),
            ("1w", 604_800_000),
        ];
        for (text, millis) in times {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "5",
            "h",
            "5x",
            "-1h",
            "1.5h",
            "99999999999999999999s",
            "9999999999999999999d",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_moment_is_shown_in_utc() {
        let moments = [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399_999_999, "2000-02-28T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_709_251_200_000_001, "2024-03-01T00:00:00.000001Z"),
            (4_102_444_800_000_000, "2100-01-01T00:00:00.000000Z"),
        ];
        for (micros, text) in moments {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_micros(micros)), text);
        }
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(utc(before), "1969-12-31T23:59:59.000000Z");
    }

    #[test]
    fn a_time_is_shown_in_two_units() {
        let times = [
            (0, "0s"),
            (850, "850ms"),
            (42_000, "42s"),
            (192_000, "3m 12s"),
            (7_500_000, "2h 5m"),
            (356_400_000, "4d 3h"),
            (60_000, "1m"),
        ];
        for (millis, text) in times {
            assert_eq!(shown(Duration::from_millis(millis)), text);
        }
    }
}
