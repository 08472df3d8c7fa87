//! The parameters of a query: names that are known, each at most as often as it may be, and times as text.
//!
//! Input: a URI. Output: texts, numbers and times, or a problem that names the parameter.

use std::time::Duration;

use axum::{extract::Query, http::Uri};

use super::problem::Problem;

/// The parameters of a request.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads a query that has only these parameters. A misspelled one would otherwise change nothing, silently.
    pub(super) fn strict(uri: &Uri, known: &[&'static str]) -> Result<Self, Problem> {
        let params = Self::loose(uri);
        match params.0.iter().find(|(name, _)| !known.contains(&&**name)) {
            None => Ok(params),
            Some((name, _)) => Err(Problem::bad(
                "unknown_parameter",
                format!(
                    "there is no parameter {name:?} here; there are {}",
                    known.join(", ")
                ),
            )),
        }
    }

    pub(super) fn loose(uri: &Uri) -> Self {
        let Query(params) = Query::try_from_uri(uri).unwrap_or_default();
        Self(params)
    }

    /// All values of a parameter.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let mine = self.0.iter().filter(move |(known, _)| known == name);
        mine.map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that may be there once.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.0.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.as_str());
        match values.next() {
            None => Ok(value),
            Some(_) => Err(bad(name, "it is there more than once")),
        }
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, Problem> {
        self.one(name)?.ok_or_else(|| bad(name, "it is missing"))
    }

    /// A number within limits.
    pub(super) fn number(&self, name: &str, default: u32, most: u32) -> Result<u32, Problem> {
        let Some(text) = self.one(name)? else {
            return Ok(default);
        };
        let number = text
            .parse()
            .ok()
            .filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| bad(name, &format!("it has to be a number from 1 to {most}")))
    }

    /// A time within limits.
    pub(super) fn time(
        &self,
        name: &str,
        default: Duration,
        least: Duration,
        most: Duration,
    ) -> Result<Duration, Problem> {
        match self.one(name)? {
            None => Ok(default),
            Some(text) => time(text, least, most).map_err(|why| bad(name, &why)),
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, Problem> {
        match self.one(name)? {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(bad(name, "it has to be true or false")),
        }
    }
}

fn bad(name: &str, why: &str) -> Problem {
    Problem::bad("bad_parameter", format!("parameter {name:?}: {why}"))
}

/// Reads `500ms`, `30s`, `5m`, `1h`, or a number of seconds.
pub(super) fn time(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => Some(1),
        "" | "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let read = millis.and_then(|millis: u64| number.parse::<u64>().ok()?.checked_mul(millis));
    read.map(Duration::from_millis)
        .filter(|time| (least..=most).contains(time))
        .ok_or_else(|| {
            let (least, most) = (least.as_secs_f64(), most.as_secs_f64());
            format!("it has to be a time as 500ms, 30s or 5m, from {least} s to {most} s")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_or_is_in_seconds() {
        let read = |text| time(text, Duration::ZERO, Duration::from_secs(3600)).ok();
        for (text, millis) in [
            ("0", 0),
            ("7", 7000),
            ("250ms", 250),
            ("5m", 300_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(read(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "s",
            "-1s",
            "1.5s",
            "1 s",
            "2h",
            "1d",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
