//! Pauses between tries, which grow.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);

/// Pauses that double with each failure in a row, up to half a minute.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    failures: u32,
}

impl Pauses {
    /// How often it has failed in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn next(&mut self) -> Duration {
        let pause = FIRST.saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1).min(30);
        pause.min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_have_an_end() {
        let mut pauses = Pauses::default();
        let all: Vec<Duration> = (0..100).map(|_| pauses.next()).collect();
        assert_eq!(all[..3], [200, 400, 800].map(Duration::from_millis));
        assert_eq!(all[99], LONGEST);
    }
}
