//! A time as text.
//!
//! Input: seconds since 1970 in UTC, and nanoseconds. Output: RFC 3339, as `2024-02-29T12:00:00Z`.

/// A time, counted from 1970 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timestamp {
    pub(crate) seconds: i64,
    /// Less than a second, and always forward.
    pub(crate) nanos: u32,
}

impl Timestamp {
    /// The time in UTC, with nine digits behind the point if there is a fraction. `None` outside of the years 0
    /// to 9999, which RFC 3339 cannot write.
    pub(crate) fn rfc3339(self) -> Option<String> {
        const DAY: i64 = 86_400;
        let (year, month, day) = date(self.seconds.div_euclid(DAY))?;
        let second = self.seconds.rem_euclid(DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let fraction = match self.nanos {
            0 => String::new(),
            nanos => format!(".{nanos:09}"),
        };
        Some(format!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z"
        ))
    }
}

/// The date so many days after 1970-01-01, in the Gregorian calendar. `None` outside of the years 0 to 9999.
///
/// The year is counted from March, so that the leap day is the last one ("chrono-Compatible Low-Level Date
/// Algorithms", Howard Hinnant).
fn date(days: i64) -> Option<(i64, i64, i64)> {
    const FIRST: i64 = -719_528;
    const LAST: i64 = 2_932_896;
    /// From 0000-03-01 to 1970-01-01.
    const TO_1970: i64 = 719_468;
    /// Days in 400 years.
    const ERA: i64 = 146_097;
    if !(FIRST..=LAST).contains(&days) {
        return None;
    }
    let days = days + TO_1970;
    let era = days.div_euclid(ERA);
    let of_era = days.rem_euclid(ERA);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    Some((400 * era + year + i64::from(month <= 2), month, day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seconds: i64, text: Option<&str>) {
        let time = Timestamp { seconds, nanos: 0 };
        assert_eq!(time.rfc3339().as_deref(), text, "{seconds}");
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        check(0, Some("1970-01-01T00:00:00Z"));
        check(-1, Some("1969-12-31T23:59:59Z"));
        check(951_782_400, Some("2000-02-29T00:00:00Z"));
        check(951_868_800, Some("2000-03-01T00:00:00Z"));
        check(4_107_542_399, Some("2100-02-28T23:59:59Z"));
        check(4_107_542_400, Some("2100-03-01T00:00:00Z"));
        check(1_735_689_599, Some("2024-12-31T23:59:59Z"));
    }

    #[test]
    fn a_year_that_cannot_be_written_has_no_text() {
        check(-62_167_219_200, Some("0000-01-01T00:00:00Z"));
        check(-62_167_219_201, None);
        check(253_402_300_799, Some("9999-12-31T23:59:59Z"));
        check(253_402_300_800, None);
        check(i64::MIN, None);
        check(i64::MAX, None);
    }
}
