//! Backoff: how long to wait before something is tried again.
//!
//! Input: how often it has failed in a row. Output: a pause. It keeps no state.

use std::time::Duration;

/// Pauses that double with each failure, vary at random, and never exceed a cap.
///
/// Without jitter, everything that failed together would be tried again together, and fail together again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    first: Duration,
    cap: Duration,
}

impl Backoff {
    /// Pauses around `first` after one failure, around twice that after two, never above `cap`.
    pub(crate) const fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap }
    }

    /// The pause after that many failures in a row, counted from 1.
    pub(crate) fn pause(self, failures: u32) -> Duration {
        self.pause_at(failures, fastrand::f64())
    }

    /// The pause for a random number `dice` from 0 to 1.
    ///
    /// It lies between half and one and a half of the doubled pause. The range is cut at the cap before the
    /// random number decides, so pauses at the cap vary too.
    fn pause_at(self, failures: u32, dice: f64) -> Duration {
        let doubled = self.doubled(failures);
        let low = doubled / 2;
        let high = doubled.saturating_add(low).min(self.cap);
        let above_low = high.saturating_sub(low).mul_f64(dice);
        // `mul_f64` rounds.
        low.saturating_add(above_low).min(high)
    }

    fn doubled(self, failures: u32) -> Duration {
        const NANOS: u128 = 1_000_000_000;
        let first = self.first.as_nanos();
        // Shifting by the number of leading zeros does not overflow, and gives more than any cap.
        let doublings = failures.saturating_sub(1).min(first.leading_zeros());
        let nanos = first
            .checked_shl(doublings)
            .unwrap_or(0)
            .min(self.cap.as_nanos());
        // Both fit: the pause is at most the cap, which came from a `Duration`.
        Duration::new((nanos / NANOS) as u64, (nanos % NANOS) as u32)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pause_doubles_up_to_its_cap() {
        #[track_caller]
        fn check(failures: u32, low_ms: u64, high_ms: u64) {
            let backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(100));
            assert_eq!(backoff.pause_at(failures, 0.0), ms(low_ms));
            assert_eq!(backoff.pause_at(failures, 1.0), ms(high_ms));
        }

        check(0, 5, 15);
        check(1, 5, 15);
        check(2, 10, 30);
        check(3, 20, 60);
        check(4, 40, 100);
        check(5, 50, 100);
        check(u32::MAX, 50, 100);
    }

    #[test]
    fn smallest_first_pause_reaches_the_largest_cap() {
        let backoff = Backoff::new(Duration::from_nanos(1), Duration::MAX);

        assert_eq!(backoff.pause_at(u32::MAX, 1.0), Duration::MAX);
    }

    #[test]
    fn no_first_pause_means_no_pause_at_all() {
        let backoff = Backoff::new(Duration::ZERO, Duration::from_secs(30));

        assert_eq!(backoff.pause(1000), Duration::ZERO);
    }

    #[test]
    fn pauses_at_the_cap_still_vary() {
        let backoff = Backoff::new(ms(10), ms(1000));
        let pauses: Vec<_> = (0..100).map(|_| backoff.pause(50)).collect();

        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
    }

    proptest! {
        #[test]
        fn pause_never_exceeds_the_cap(first: Duration, cap: Duration, failures: u32, dice in 0.0..=1.0) {
            prop_assert!(Backoff::new(first, cap).pause_at(failures, dice) <= cap);
        }

        #[test]
        fn pause_never_falls_with_more_failures(first: Duration, cap: Duration, failures: u32, dice in 0.0..=1.0) {
            let backoff = Backoff::new(first, cap);

            prop_assert!(backoff.doubled(failures) <= backoff.doubled(failures.saturating_add(1)));
            prop_assert!(backoff.pause_at(failures, 0.0) <= backoff.pause_at(failures, dice));
        }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
