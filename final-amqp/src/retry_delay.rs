//! How long to wait before the next attempt.
//!
//! State: the next delay. Output: delays that double up to a limit, each shortened at random so that a
//! fleet of processes does not return at one instant.

use std::time::Duration;

/// Delays between attempts, from a first one up to a longest one.
#[derive(Debug)]
pub(crate) struct RetryDelay {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl RetryDelay {
    /// For connections and channels: from 100 ms to 5 s.
    pub(crate) fn new() -> Self {
        Self::between(Duration::from_millis(100), Duration::from_secs(5))
    }

    pub(crate) fn between(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// The next delay: between half and all of what is due.
    pub(crate) fn next(&mut self) -> Duration {
        let due = self.next;
        self.next = (due * 2).min(self.longest);
        due.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Starts again with the first delay.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(5);

    #[test]
    fn stays_between_its_bounds() {
        let mut delay = RetryDelay::new();
        let delays: Vec<_> = std::iter::repeat_with(|| delay.next()).take(50).collect();

        assert!(delays[0] >= FIRST / 2 && delays[0] <= FIRST);
        assert!(delays.iter().all(|delay| *delay <= LONGEST));
        assert!(delays[49] >= LONGEST / 2);
        delay.reset();
        assert!(delay.next() <= FIRST);
    }
}
