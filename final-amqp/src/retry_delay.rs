//! How long to wait before the next attempt.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Doubles from 100 ms to 5 s, each pause with jitter so that a fleet does not return at once.
#[derive(Debug)]
pub(crate) struct RetryDelay {
    next: Duration,
}

impl RetryDelay {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The next pause: between half and all of what is due.
    pub(crate) fn next(&mut self) -> Duration {
        let due = self.next;
        self.next = (due * 2).min(LONGEST);
        due.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_between_its_bounds() {
        let mut delay = RetryDelay::new();
        let pauses: Vec<_> = std::iter::repeat_with(|| delay.next()).take(50).collect();

        assert!(pauses[0] >= FIRST / 2 && pauses[0] <= FIRST);
        assert!(pauses.iter().all(|pause| *pause <= LONGEST));
        assert!(pauses[49] >= LONGEST / 2);
    }
}
