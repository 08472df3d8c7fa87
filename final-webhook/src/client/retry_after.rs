//! How long an endpoint asks to be left alone.
//!
//! Input: the headers `Retry-After` and `Date` of an answer, and our own time. Output: a span, never longer than
//! [`LONGEST`]. It keeps no state.

use std::time::{Duration, SystemTime};

use hyper::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};

/// A longer wish is cut: an endpoint that means milliseconds, or writes nonsense, is not forgotten for days.
pub(crate) const LONGEST: Duration = Duration::from_secs(60 * 60);

/// The span, or none if the header is missing or says nothing that makes sense.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = text(headers.get(RETRY_AFTER)?)?;
    if !value.is_empty() && value.bytes().all(|sign| sign.is_ascii_digit()) {
        // More digits than a number holds are a long time as well.
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    // Both moments by the endpoint's clock, so that a wrong clock there or here does no harm.
    let sent = headers
        .get(DATE)
        .and_then(text)
        .and_then(|date| httpdate::parse_http_date(date).ok());
    let span = until
        .duration_since(sent.unwrap_or(now))
        .unwrap_or_default();
    Some(span.min(LONGEST))
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn read(value: &str, date: Option<&str>) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        retry_after(&headers, at(784_111_777)).map(|span| span.as_secs())
    }

    #[test]
    fn seconds_and_dates_are_read() {
        assert_eq!(read("120", None), Some(120));
        assert_eq!(read(" 0 ", None), Some(0));
        // The three forms of a date; now is 08:49:37.
        assert_eq!(read("Sun, 06 Nov 1994 08:50:37 GMT", None), Some(60));
        assert_eq!(read("Sunday, 06-Nov-94 08:50:37 GMT", None), Some(60));
        assert_eq!(read("Sun Nov  6 08:50:37 1994", None), Some(60));
    }

    #[test]
    fn a_date_is_judged_by_the_clock_that_made_it() {
        let date = Some("Sun, 06 Nov 2033 08:00:00 GMT");
        assert_eq!(read("Sun, 06 Nov 2033 08:00:07 GMT", date), Some(7));
    }

    #[test]
    fn an_absurd_wish_is_cut_and_nonsense_is_none() {
        assert_eq!(read("999999999", None), Some(3600));
        assert_eq!(read("99999999999999999999999999", None), Some(3600));
        assert_eq!(read("Fri, 31 Dec 9999 23:59:59 GMT", None), Some(3600));
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT", None), Some(0));
        for nonsense in ["-5", "+5", "1.5", "1e3", "soon", "", "5 seconds", "0x10"] {
            assert_eq!(read(nonsense, None), None, "{nonsense}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), at(0)), None);
    }
}
