//! Where a mirror stands.
//!
//! Input: the time of its heartbeat, and the source's clock. Output: what it has passed, how far it is behind, and what is
//! wrong.

use std::time::Duration;

use crate::{form::time::of_micros, side::Clock};

/// Where a mirror stands. Times are microseconds since 1970, by the source's clock.
#[derive(Clone, Debug)]
pub(crate) struct Stand {
    /// The time of the heartbeat. None if there is none yet.
    pub(crate) at: Option<i64>,
    /// The source's clock, which was read after it.
    pub(crate) now: i64,
    pub(crate) clock: Clock,
    /// Whether the time is one of the clock as it is now.
    pub(crate) is_trusted: bool,
}

impl Stand {
    /// The time that the mirror has passed. None if the heartbeat proves nothing: there is none, or it is ahead of the clock.
    pub(crate) fn passed(&self) -> Option<i64> {
        let passed = self.at.map(earlier).filter(|_| self.is_trusted)?;
        (passed <= self.now).then_some(passed)
    }

    /// Whether the time of the heartbeat is ahead of the clock.
    pub(super) fn is_ahead(&self) -> bool {
        self.at.is_some_and(|at| earlier(at) > self.now)
    }

    /// How much later the source is than what the mirror has passed.
    pub(crate) fn behind(&self) -> Option<Duration> {
        let passed = self.passed()?;
        Some(span(self.now.saturating_sub(passed)))
    }

    /// How far the mirror is behind. None if the heartbeat proves nothing.
    pub(crate) fn lag(&self) -> Option<Duration> {
        self.passed()?;
        Some(span(self.now.saturating_sub(self.at?)))
    }

    /// The time of the heartbeat, for people.
    pub(crate) fn shown(&self) -> Option<String> {
        let text = of_micros(self.at?)?;
        Some(text.trim_end_matches('0').trim_end_matches('.').to_owned())
    }

    /// Why rows are not judged. None if the mirror is not farther behind than it may be.
    pub(crate) fn trouble(&self, target: &str, limit: Duration) -> Option<String> {
        let Some(at) = self.at else {
            return Some(format!(
                "the heartbeat of the mirror of {target} has no row or no time yet; rows that differ are not judged until \
                 it has one; look whether the source beats and the mirror runs"
            ));
        };
        let shown = self.shown().unwrap_or_default();
        let lag = span(self.now.saturating_sub(at));
        match self.lag() {
            None if !self.is_ahead() => (lag > limit).then(|| {
                format!(
                    "the heartbeat of the mirror of {target} says {shown} UTC; that was ahead of the source's clock, or the clock \
                     was set back, so it proves nothing until it goes on; look whether the source beats and the mirror runs"
                )
            }),
            None => Some(format!(
                "the heartbeat of the mirror of {target} says {shown} UTC, which is {} s ahead of the source's clock, so it \
                 proves nothing; it has to be a time of the source's clock, in UTC if it has no zone",
                at.saturating_sub(self.now) / 1_000_000
            )),
            Some(lag) if lag > limit => Some(format!(
                "the mirror of {target} stands at {shown} UTC, {} s behind the source; rows that differ since then are not \
                 judged until it has passed them; look whether the source beats and the mirror runs",
                lag.as_secs()
            )),
            Some(_) => None,
        }
    }
}

/// The earliest time that a time may stand for. A column with fewer digits may have rounded it.
fn earlier(at: i64) -> i64 {
    at.saturating_sub(unit(at))
}

/// The latest time that a time may stand for. A clock may have fewer digits.
pub(crate) fn later(at: i64) -> i64 {
    at.saturating_add(unit(at))
}

/// How fine a time is written, in microseconds: a second at most.
fn unit(at: i64) -> i64 {
    let units = (0..=6).map(|digits| 10_i64.pow(digits));
    let fits = units.take_while(|unit| at % unit == 0);
    fits.last().unwrap_or(1)
}

fn span(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        form::{Row, RowHash},
        pair::judge::{Looks, Verdict, needed},
        side::Found,
    };

    const SECOND: i64 = 1_000_000;

    pub(crate) fn stand(at: Option<i64>, now: i64) -> Stand {
        let text = of_micros(now).unwrap();
        Stand {
            at,
            now,
            clock: Clock {
                utc: text.clone(),
                local: text,
            },
            is_trusted: true,
        }
    }

    #[test]
    fn a_time_with_few_digits_counts_as_the_earliest_that_it_may_stand_for() {
        for (at, passed) in [
            (5 * SECOND, 4 * SECOND),
            (5 * SECOND + 120_000, 5 * SECOND + 110_000),
            (5 * SECOND + 123_000, 5 * SECOND + 122_000),
            (5 * SECOND + 123_456, 5 * SECOND + 123_455),
        ] {
            assert_eq!(stand(Some(at), 9 * SECOND).passed(), Some(passed));
        }
    }

    #[test]
    fn a_mirror_that_is_farther_behind_than_it_may_be_is_a_trouble() {
        let limit = Duration::from_secs(60);
        let trouble = |at, now| stand(at, now).trouble("`b`", limit);
        let at = 36_003 * SECOND;
        assert_eq!(trouble(Some(at), at + 60 * SECOND), None);
        let told = trouble(Some(at), at + 95 * SECOND).unwrap();
        assert!(
            told.contains("`b` stands at 1970-01-01 10:00:03 UTC, 95 s behind the source"),
            "{told}"
        );
    }

    #[test]
    fn a_heartbeat_that_is_ahead_of_the_clock_or_not_there_proves_nothing() {
        let ahead = stand(Some(3_600 * SECOND), 5);
        assert_eq!((ahead.passed(), ahead.lag()), (None, None));
        let told = ahead.trouble("`b`", Duration::MAX).unwrap();
        assert!(told.contains("3599 s ahead"), "{told}");
        let none = stand(None, 5);
        assert_eq!(none.passed(), None);
        assert!(none.trouble("`b`", Duration::MAX).is_some());
    }

    /// A source whose row changes at these times, and a mirror that brings the changes and heartbeats later.
    #[derive(Debug)]
    struct World {
        /// When the row was changed.
        changes: Vec<i64>,
        /// Whether the row changes between two values. Otherwise each change has a value of its own.
        repeats: bool,
        /// When the source beats.
        beats: Vec<i64>,
        /// How late the mirror is.
        lag: i64,
        /// The digits of a second that a heartbeat has.
        digits: u32,
        /// Whether a hand has changed the copy.
        is_damaged: bool,
    }

    impl World {
        fn in_source(&self, at: i64) -> u8 {
            let count = self.changes.iter().filter(|change| **change <= at).count();
            let value = u8::try_from(count).unwrap();
            if self.repeats { value % 2 } else { value }
        }

        fn in_target(&self, at: i64) -> u8 {
            match self.is_damaged {
                true => u8::MAX,
                false => self.in_source(at - self.lag),
            }
        }

        /// What the heartbeat says, rounded.
        fn beat(&self, at: i64) -> Option<i64> {
            let came = self.beats.iter().filter(|beat| **beat <= at - self.lag);
            let unit = 10_i64.pow(6 - self.digits);
            came.max().map(|beat| (beat + unit / 2) / unit * unit)
        }
    }

    /// How often a row changes between two values at most. One change more, and each of the three looks could find both rows
    /// as the look before, with the copy at the other value each time.
    const REPEATS: usize = 4;

    fn found(value: u8) -> Found {
        Found {
            key: Row(vec![1]),
            hash: RowHash(vec![value]),
            row: None,
            bytes: 1,
        }
    }

    fn world() -> impl Strategy<Value = World> {
        let times = |count| prop::collection::vec(0..20 * SECOND, count);
        let parts = (times(0..8), 200_000..3 * SECOND, 0..5 * SECOND, 0..=6_u32);
        let flags = (any::<bool>(), any::<bool>());
        (parts, flags).prop_map(
            |((mut changes, every, lag, digits), (repeats, is_damaged))| {
                if repeats {
                    changes.truncate(REPEATS);
                }
                World {
                    changes,
                    repeats,
                    beats: (0..90 * SECOND / every)
                        .map(|beat| beat * every + 17)
                        .collect(),
                    lag,
                    digits,
                    is_damaged,
                }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn a_difference_counts_once_the_mirror_has_passed_it_and_never_before(
            world in world(),
            first in 0..20 * SECOND,
            settle in 0..SECOND,
            apart in 1_000..400_000_i64,
            gap in 1_000..2 * SECOND,
        ) {
            let mut looks = Looks::default();
            // Rows are read first, and then the clock.
            let mut due = later(first + gap) + settle;
            let (source, target) = (world.in_source(first), world.in_target(first));
            looks.judge(Some(&found(source)), Some(&found(target)), needed(Duration::ZERO, true));
            let mut seen = Some(source).filter(|source| *source != target);
            let (mut now, mut rested) = (first + gap, 0);
            while now < 80 * SECOND {
                now += apart;
                let Some(before) = seen else { break };
                let stand = stand(world.beat(now), now + apart);
                if stand.passed().is_none_or(|passed| passed < due) {
                    continue;
                }
                // The target is read before the source.
                let target = world.in_target(now);
                let source = world.in_source(now + apart);
                let verdict =
                    looks.judge(Some(&found(source)), Some(&found(target)), needed(Duration::ZERO, true));
                match verdict {
                    Verdict::Equal => seen = None,
                    Verdict::Differs => {
                        prop_assert!(world.is_damaged, "only late: {world:?} at {now}");
                        return Ok(());
                    }
                    Verdict::Again | Verdict::Restless => {
                        rested = if before == source { rested + 1 } else { 0 };
                        prop_assert!(!world.is_damaged || rested < 2, "it has waited too long: {world:?}");
                        seen = Some(source);
                        due = later(now + apart) + settle;
                    }
                }
            }
            prop_assert!(!world.is_damaged, "never found: {world:?}");
        }
    }
}
