//! How long the stream may be silent before its connection is given up.
//!
//! Input: streams that ended without a sign of life, and transactions that came. State: how many such ends there were in a
//! row. Output: the limit.
//!
//! ```text
//!   three heartbeats ─ silent end ─▶ twice as long ─ silent end ─▶ … 64 times at most
//!        ▲                                │
//!        └───── a transaction has come ───┘
//! ```
//!
//! The client library gives an event once all of it is there, and the server sends no heartbeat in the middle of one. A large
//! event on a slow line is silence. With one limit the stream would begin again before each such event, for ever.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// How often the limit is doubled at most: half an hour for heartbeats of 10 s.
const DOUBLINGS: u32 = 6;

/// The limit of all streams of a source.
#[derive(Clone, Debug, Default)]
pub(super) struct Patience(Arc<AtomicU32>);

impl Patience {
    /// How long the stream may be silent now.
    pub(super) fn limit(&self, heartbeat: Duration) -> Duration {
        let doublings = self.0.load(Ordering::Relaxed).min(DOUBLINGS);
        heartbeat.saturating_mul(3 << doublings)
    }

    /// A stream was silent for that long.
    pub(super) fn is_at_its_end(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// A whole transaction has come.
    pub(super) fn is_restored(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_silent_end_doubles_the_limit_until_a_transaction_comes() {
        let patience = Patience::default();
        let limit = || patience.limit(Duration::from_secs(10)).as_secs();
        let seen: Vec<_> = (0..9)
            .map(|_| {
                let limit = limit();
                patience.is_at_its_end();
                limit
            })
            .collect();
        assert_eq!(seen, [30, 60, 120, 240, 480, 960, 1920, 1920, 1920]);
        patience.is_restored();
        assert_eq!(limit(), 30);
    }
}
