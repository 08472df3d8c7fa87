//! When a sweep begins, and how fast it goes.
//!
//! Input: the time at which the last one began, how long a chunk took. Output: whether one is due; how long to rest.

use std::time::Duration;

use crate::error::{ReconcileError, Reconciled};

/// What a day has, in microseconds.
const DAY: i64 = 86_400_000_000;

/// A chunk that takes longer than this shows that the databases are busy.
const CALM: Duration = Duration::from_millis(500);

/// The longest rest after one chunk.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// When the whole table is compared, and how fast.
///
/// ```
/// use std::time::Duration;
///
/// use final_reconcile::Sweep;
///
/// let nightly = Sweep::daily_at(3, 0).rows_per_second(20_000);
/// let often = Sweep::every(Duration::from_secs(15 * 60));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sweep {
    pace: SweepPace,
    rows_per_second: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum SweepPace {
    Every(Duration),
    DailyAt { hour: u32, minute: u32 },
}

impl Sweep {
    /// A sweep begins so long after the last one has begun, but not before that one is over. The first begins at once.
    #[must_use]
    pub fn every(pause: Duration) -> Self {
        Self {
            pace: SweepPace::Every(pause),
            rows_per_second: None,
        }
    }

    /// A sweep begins each day at this time, in UTC. One that was missed begins when a process runs again.
    #[must_use]
    pub fn daily_at(hour: u32, minute: u32) -> Self {
        Self {
            pace: SweepPace::DailyAt { hour, minute },
            rows_per_second: None,
        }
    }

    /// At most so many rows of the source are compared within a second. Without it, a sweep only rests while the databases
    /// are slow.
    #[must_use]
    pub fn rows_per_second(mut self, rows: u32) -> Self {
        self.rows_per_second = Some(rows.max(1));
        self
    }

    /// # Errors
    ///
    /// Fails if there is no such time, or no pause.
    pub(crate) fn check(&self, job: &str) -> Reconciled<()> {
        let problem = match self.pace {
            SweepPace::DailyAt { hour, minute } if hour > 23 || minute > 59 => {
                format!("`{hour:02}:{minute:02}` is no time of day for a sweep")
            }
            SweepPace::Every(pause) if pause < Duration::from_secs(1) => {
                "sweeps begin a second after each other, or later".to_owned()
            }
            _ => return Ok(()),
        };
        Err(ReconcileError::Job {
            job: job.to_owned(),
            problem,
        })
    }

    /// Whether a sweep is due, if the last one began at that time. Both are microseconds since 1970.
    pub(crate) fn is_due(&self, last: Option<i64>, now: i64) -> bool {
        match (&self.pace, last) {
            (SweepPace::Every(_), None) => true,
            (SweepPace::Every(pause), Some(last)) => {
                let pause = i64::try_from(pause.as_micros()).unwrap_or(i64::MAX);
                now.saturating_sub(last) >= pause
            }
            // The caller writes down when the job was first seen.
            (SweepPace::DailyAt { .. }, None) => false,
            (SweepPace::DailyAt { hour, minute }, Some(last)) => {
                let at = i64::from(hour * 60 + minute) * 60_000_000;
                let day = |time: i64| (time - at).div_euclid(DAY);
                day(now) > day(last)
            }
        }
    }

    /// The most rows of a chunk.
    pub(crate) fn most_rows(&self) -> u64 {
        self.rows_per_second.map_or(u64::MAX, u64::from)
    }

    /// How long to rest after a chunk of so many rows that took so long.
    pub(crate) fn rest(&self, rows: u64, took: Duration) -> Duration {
        let by_rate = match self.rows_per_second {
            Some(most) => {
                let micros = rows.saturating_mul(1_000_000) / u64::from(most.max(1));
                Duration::from_micros(micros).saturating_sub(took)
            }
            None => Duration::ZERO,
        };
        by_rate.max(took.saturating_sub(CALM)).min(LONGEST_REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    #[test]
    fn a_sweep_begins_again_when_its_pause_is_over() {
        let sweep = Sweep::every(Duration::from_secs(3_600));
        assert!(sweep.is_due(None, 0));
        assert!(!sweep.is_due(Some(5), HOUR));
        assert!(sweep.is_due(Some(5), HOUR + 5));
    }

    #[test]
    fn a_daily_sweep_begins_once_a_day_at_its_time_or_when_it_was_missed() {
        let sweep = Sweep::daily_at(3, 0);
        let seen = Some(HOUR);
        assert!(!sweep.is_due(None, 3 * HOUR), "not before the job was seen");
        assert!(!sweep.is_due(seen, 3 * HOUR - 1));
        assert!(sweep.is_due(seen, 3 * HOUR));
        assert!(sweep.is_due(seen, 40 * HOUR), "late");
        assert!(!sweep.is_due(Some(3 * HOUR), 26 * HOUR));
        assert!(sweep.is_due(Some(3 * HOUR), 27 * HOUR));
    }

    #[test]
    fn a_sweep_rests_until_its_rows_fit_into_their_seconds() {
        let sweep = Sweep::every(Duration::from_secs(60)).rows_per_second(1_000);
        let rest = |rows, took| sweep.rest(rows, Duration::from_millis(took)).as_millis();
        assert_eq!(rest(500, 100), 400);
        assert_eq!(rest(500, 500), 0);
        assert_eq!(sweep.most_rows(), 1_000);
    }

    #[test]
    fn a_sweep_rests_while_the_databases_are_slow() {
        let sweep = Sweep::every(Duration::from_secs(60));
        let rest = |took| sweep.rest(1, Duration::from_secs(took)).as_millis();
        assert_eq!([rest(0), rest(3), rest(600)], [0, 2_500, 60_000]);
    }

    #[test]
    fn a_time_that_is_none_is_refused() {
        assert!(Sweep::daily_at(24, 0).check("users").is_err());
        assert!(Sweep::every(Duration::ZERO).check("users").is_err());
        assert!(Sweep::daily_at(23, 59).check("users").is_ok());
    }
}
