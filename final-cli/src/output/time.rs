//! Lengths of time: those that a person writes, and those that a person reads.

use std::time::Duration;

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
