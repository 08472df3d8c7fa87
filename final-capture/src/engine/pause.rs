//! Pauses between tries, which grow.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// Pauses that double with each failure in a row, up to ten seconds, each a little different from the next, so that what
/// failed together is not tried again together.
#[derive(Debug)]
pub(crate) struct Pauses {
    failures: u32,
}

impl Pauses {
    pub(crate) fn new() -> Self {
        Self { failures: 0 }
    }

    /// Whether nothing has failed.
    pub(crate) fn is_first(&self) -> bool {
        self.failures == 0
    }

    pub(crate) fn next(&mut self) -> Duration {
        let doubled = FIRST.saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1).min(30);
        let pause = doubled.min(LONGEST);
        // The last bytes of a new id are random.
        let dice = uuid::Uuid::now_v7().as_u128() % 1_000;
        let dice = u32::try_from(dice).unwrap_or_default();
        pause.mul_f64(0.75 + f64::from(dice) / 2_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_have_an_end() {
        let mut pauses = Pauses::new();
        assert!(pauses.is_first());
        let all: Vec<Duration> = (0..200).map(|_| pauses.next()).collect();
        assert!(!pauses.is_first());
        assert!(all[0] < FIRST * 2 && all[0] > FIRST / 2);
        assert!(all.iter().all(|pause| *pause < LONGEST * 2));
        assert!(all[199] > LONGEST / 2);
    }
}
