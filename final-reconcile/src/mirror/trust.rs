//! Whether the time of a heartbeat is one of the source's clock as it is now.
//!
//! Input: each reading of the heartbeat and of the clock. State: the times that are not trusted. Output: whether this time is.
//!
//! A time that was ahead of the clock does not become true by waiting. After the source's clock was set back, a time from
//! before says nothing about changes since then. Both are over once the heartbeat goes back, or passes the times before.

/// What was read before.
#[derive(Debug, Default)]
pub(super) struct Trust {
    at: Option<i64>,
    now: Option<i64>,
    /// Times up to this one are not trusted.
    until: Option<i64>,
}

impl Trust {
    /// Takes a reading, in microseconds since 1970. Says whether the heartbeat's time is trusted.
    pub(super) fn takes(&mut self, at: i64, now: i64, is_ahead: bool) -> bool {
        self.until = self.until.max(self.now.filter(|before| now < *before));
        if self.at.is_some_and(|before| at < before) {
            self.until = None;
        }
        if is_ahead {
            self.until = self.until.max(Some(at));
        }
        (self.at, self.now) = (Some(at), Some(now));
        self.until.is_none_or(|until| at > until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(readings: &[(i64, i64)]) -> Vec<bool> {
        let mut trust = Trust::default();
        let readings = readings.iter();
        readings
            .map(|(at, now)| trust.takes(*at, *now, at > now))
            .collect()
    }

    #[test]
    fn a_time_that_was_ahead_is_not_trusted_until_the_heartbeat_moves() {
        let stands = trusted(&[(50, 10), (50, 60), (70, 71)]);
        assert_eq!(stands, [false, false, true]);
        let mended = trusted(&[(50, 10), (11, 12), (13, 14)]);
        assert_eq!(mended, [false, true, true]);
    }

    #[test]
    fn after_the_clock_was_set_back_the_times_before_are_not_trusted() {
        // The mirror is 30 behind, and brings the times of the old clock for so long.
        let old = trusted(&[(100, 130), (101, 111), (129, 139), (131, 141)]);
        assert_eq!(old, [true, false, false, true]);
        let new = trusted(&[(100, 130), (101, 111), (110, 140)]);
        assert_eq!(new, [true, false, false]);
        let back = trusted(&[(100, 130), (129, 139), (110, 141)]);
        assert_eq!(back, [true, true, true]);
    }
}
