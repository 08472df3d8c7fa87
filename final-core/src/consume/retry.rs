//! Retries: whether a failed message is tried again, and when.
//!
//! Input: how often the message has failed, and how long this process has held it. Output: the pause before
//! the next attempt, or none. It keeps no state.

use std::time::Duration;

use crate::runtime::backoff::Backoff;

/// How long a message is kept for retries.
///
/// RabbitMQ closes the channel of a consumer that has not acked within 30 min (`consumer_timeout`), and
/// requeues every delivery in flight on it. This leaves 10 min for the last attempt.
const MAX_HOLD: Duration = Duration::from_secs(20 * 60);

/// How often a failed message is tried again, and how long it waits before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    count: u32,
    backoff: Backoff,
}

impl Retry {
    pub(super) const fn new(count: u32, backoff: Backoff) -> Self {
        Self { count, backoff }
    }

    /// The pause before the next attempt of a message that has failed `failures` times and has been held for
    /// `held`. `None` if no attempt is left.
    ///
    /// Many or long retries are moved closer together, so that all take place while the message may be held.
    /// If the attempts themselves take long, fewer take place.
    pub(super) fn pause(self, failures: u32, held: Duration) -> Option<Duration> {
        let left = self.count.saturating_sub(failures.saturating_sub(1));
        let time = MAX_HOLD.saturating_sub(held);
        if left == 0 || time.is_zero() {
            return None;
        }
        Some(self.backoff.pause(failures).min(time / left))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(30));

    #[test]
    fn there_are_as_many_retries_as_asked_for() {
        let retry = Retry::new(3, BACKOFF);

        assert!(retry.pause(3, Duration::ZERO).is_some());
        assert_eq!(retry.pause(4, Duration::ZERO), None);
        assert_eq!(Retry::new(0, BACKOFF).pause(1, Duration::ZERO), None);
    }

    #[test]
    fn message_held_too_long_is_not_retried() {
        assert_eq!(Retry::new(3, BACKOFF).pause(1, MAX_HOLD), None);
    }

    proptest! {
        #[test]
        fn all_retries_fit_into_the_time_a_message_is_held(count in 1_u32..2_000, first: Duration, cap: Duration) {
            let retry = Retry::new(count, Backoff::new(first, cap));
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
