//! How soon something that failed is tried again.
//!
//! Input: how often it was tried. Output: how long to wait.

use std::time::Duration;

/// The pauses between tries: the first ones are quick, and later ones grow up to the slow one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) quick: Duration,
    pub(crate) slow: Duration,
}

/// How often something is tried at the quick pace.
pub(crate) const QUICK: i64 = 3;

impl Pace {
    /// How long to wait after so many tries. `chance` is from 0 to 1, so that repairs do not come in crowds.
    pub(crate) fn after(self, attempts: i64, chance: f64) -> Duration {
        if attempts <= QUICK {
            return self.quick;
        }
        let doublings = u32::try_from(attempts - QUICK).unwrap_or(u32::MAX).min(16);
        let longer = self.quick.saturating_mul(1 << doublings).min(self.slow);
        longer.mul_f64(0.8 + 0.2 * chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repair_is_tried_three_times_soon_and_then_more_slowly_for_ever() {
        let pace = Pace {
            quick: Duration::from_secs(10),
            slow: Duration::from_secs(600),
        };
        let after = |attempts| pace.after(attempts, 1.0).as_secs();
        assert_eq!([1, 2, 3, 4, 5].map(after), [10, 10, 10, 20, 40]);
        assert_eq!([9, 100, i64::MAX].map(after), [600, 600, 600]);
        assert_eq!(pace.after(9, 0.0).as_secs(), 480);
    }
}
