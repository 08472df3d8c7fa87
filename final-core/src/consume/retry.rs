//! Retries: whether a failed message is tried again, and when.
//!
//! Input: how often the message has failed, the pause that its handler asks for, and how long this process has held
//! it. Output: the pause before the next attempt, or none; and how long it may wait in memory. It keeps no state.
//!
//! ```text
//! attempt ─ retry_count times: quick, doubling ─▶ later_retries: one pause each ─▶ dead letter
//! ```

use std::{sync::Arc, time::Duration};

use crate::runtime::backoff::Backoff;

/// How long a message is kept in memory for retries.
///
/// RabbitMQ closes the channel of a consumer that has not acked within 30 min (`consumer_timeout`), and
/// requeues every delivery in flight on it. This leaves 10 min for the last attempt.
pub(super) const MAX_HOLD: Duration = Duration::from_secs(20 * 60);

/// A message that would wait for longer than this before its next attempt is held, if its route holds what fails.
const QUICK: Duration = Duration::from_secs(1);

/// The longest pause. The end of a longer one could not be computed.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// How often a failed message is tried again, and how long it waits before.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    count: u32,
    backoff: Backoff,
    /// The pauses of the retries after these.
    later: Arc<[Duration]>,
}

impl Retry {
    pub(super) fn new(count: u32, backoff: Backoff, later: &[Duration]) -> Self {
        Self {
            count,
            backoff,
            later: later.into(),
        }
    }

    /// The pause before the next attempt of a message that has failed `failures` times. `None` if no attempt is
    /// left. A handler may have asked for another pause.
    pub(super) fn next(&self, failures: u32, asked: Option<Duration>) -> Option<Duration> {
        if self.left(failures) == 0 {
            return None;
        }
        let later = failures.checked_sub(self.count.saturating_add(1));
        let pause = asked.or_else(
            || match later.and_then(|later| usize::try_from(later).ok()) {
                Some(later) => self.later.get(later).copied(),
                None => Some(self.backoff.pause(failures)),
            },
        );
        pause.map(|pause| pause.min(LONGEST))
    }

    /// The pause before the next attempt of a message that is held after its last quick retry. `None` if it is held
    /// now: no quick retry is left, or the pause is longer than the first one of a held message.
    pub(super) fn quick(&self, failures: u32, asked: Option<Duration>) -> Option<Duration> {
        let pause = asked.unwrap_or_else(|| self.backoff.pause(failures));
        (failures <= self.count && pause < QUICK).then_some(pause)
    }

    /// How long a message can wait in memory, if its pause is `pause` and it has been held for `held`. `None` if it
    /// was held for too long.
    ///
    /// Many or long retries are moved closer together, so that all take place while the message may be held.
    /// If the attempts themselves take long, fewer take place.
    pub(super) fn in_memory(
        &self,
        pause: Duration,
        failures: u32,
        held: Duration,
    ) -> Option<Duration> {
        let time = MAX_HOLD.saturating_sub(held);
        let left = self.left(failures);
        (left > 0 && !time.is_zero()).then(|| pause.min(time / left))
    }

    /// How many retries are left after so many failures.
    fn left(&self, failures: u32) -> u32 {
        let later = u32::try_from(self.later.len()).unwrap_or(u32::MAX);
        let retries = self.count.saturating_add(later);
        retries.saturating_sub(failures.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Options;

    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(30));

    impl Retry {
        /// The pause of a message that stays in memory.
        fn pause(&self, failures: u32, held: Duration) -> Option<Duration> {
            self.in_memory(self.next(failures, None)?, failures, held)
        }
    }

    #[test]
    fn later_retries_follow_the_quick_ones() {
        let minutes = [1, 10, 60].map(|minutes| Duration::from_secs(minutes * 60));
        let retry = Retry::new(2, BACKOFF, &minutes);

        assert!(retry.next(2, None) < Some(Duration::from_secs(1)));
        assert_eq!(retry.next(3, None), Some(minutes[0]));
        assert_eq!(retry.next(5, None), Some(minutes[2]));
        assert_eq!(retry.next(6, None), None);
    }

    #[test]
    fn a_message_that_can_be_held_has_only_quick_retries() {
        let hour = Duration::from_secs(3600);
        let retry = Retry::new(2, BACKOFF, &[hour]);

        assert!(retry.quick(2, None) < Some(QUICK));
        assert_eq!(retry.quick(3, None), None);
        assert_eq!(retry.quick(1, Some(hour)), None);
        let slow = Retry::new(2, Backoff::new(QUICK * 3, hour), &[]);
        assert_eq!(slow.quick(1, None), None);
    }

    #[test]
    fn a_pause_that_the_handler_asks_for_takes_the_place_of_another() {
        let hour = Duration::from_secs(3600);
        let retry = Retry::new(1, BACKOFF, &[]);

        assert_eq!(retry.next(1, Some(hour)), Some(hour));
        assert_eq!(retry.next(2, Some(hour)), None);
        assert_eq!(retry.next(1, Some(Duration::MAX)), Some(LONGEST));
    }

    /// The number of attempts and the mean time until a message is dead-lettered, in seconds.
    fn survives(options: &Options) -> (u32, f64) {
        let backoff = Backoff::new(options.retry_interval, options.max_retry_interval);
        let retry = Retry::new(options.retry_count, backoff, &options.later_retries);
        let (mut attempts, mut time) = (0, 0.0);
        for _ in 0..500 {
            attempts = 1;
            while let Some(pause) = retry.next(attempts, None) {
                time += pause.as_secs_f64() / 500.0;
                attempts += 1;
            }
        }
        (attempts, time)
    }

    #[test]
    fn the_table_of_what_the_retries_survive_is_right() {
        let minutes = [1, 10, 60].map(|minutes| Duration::from_secs(minutes * 60));
        let rows = [
            ("`Options::default()`", Options::default()),
            (
                "`Options::default().retry_count(12)`",
                Options::default().retry_count(12),
            ),
            ("`Options::patient()`", Options::patient()),
            (
                "`Options::default().later_retries([1 min, 10 min, 1 h])`",
                Options::default().later_retries(minutes),
            ),
        ];
        let docs = include_str!("../../../docs/consuming.md");
        for (name, options) in rows {
            let row = docs
                .lines()
                .find(|line| line.starts_with(&format!("| {name} |")));
            let cells: Vec<_> = row.unwrap().split('|').map(str::trim).collect();
            let (number, unit) = cells[3].split_once(' ').unwrap();
            let unit = match unit {
                "ms" => 0.001,
                "s" => 1.0,
                _ => 60.0,
            };
            let said = number.parse::<f64>().unwrap() * unit;
            let (attempts, time) = survives(&options);
            assert_eq!(cells[2], attempts.to_string(), "{name}");
            assert!((time / said - 1.0).abs() < 0.1, "{name}: {time} s");
        }
    }

    #[test]
    fn there_are_as_many_retries_as_asked_for() {
        let retry = Retry::new(3, BACKOFF, &[]);

        assert!(retry.pause(3, Duration::ZERO).is_some());
        assert_eq!(retry.pause(4, Duration::ZERO), None);
        assert_eq!(Retry::new(0, BACKOFF, &[]).pause(1, Duration::ZERO), None);
    }

    #[test]
    fn message_held_too_long_is_not_retried() {
        assert_eq!(Retry::new(3, BACKOFF, &[]).pause(1, MAX_HOLD), None);
    }

    proptest! {
        #[test]
        fn all_retries_fit_into_the_time_a_message_is_held(count in 1_u32..2_000, first: Duration, cap: Duration) {
            let retry = Retry::new(count, Backoff::new(first, cap), &[]);
            let (mut held, mut failures) = (Duration::ZERO, 1);
            while let Some(pause) = retry.pause(failures, held) {
                held += pause;
                failures += 1;
            }

            prop_assert!(held <= MAX_HOLD);
            // The last pause may use the time up to its last moment.
            prop_assert!(failures >= count);
        }
    }
}
