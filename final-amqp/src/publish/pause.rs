//! `connection.blocked`: for a while the broker takes no messages and confirms none.
//!
//! Input: whether the connection is blocked. State: when the last pause ended. Output: deadlines that count from
//! the end of the pause.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Whether there is a pause, and when the last one ended.
#[derive(Debug)]
pub(crate) struct Pause {
    blocked: watch::Receiver<bool>,
    over: Instant,
}

impl Pause {
    pub(crate) fn new(blocked: watch::Receiver<bool>) -> Self {
        Self {
            blocked,
            over: Instant::now(),
        }
    }

    /// Whether there is a pause now.
    pub(crate) fn is_on(&mut self) -> bool {
        let changed = self.blocked.has_changed().unwrap_or(false);
        let is_on = *self.blocked.borrow_and_update();
        if changed || is_on {
            self.over = Instant::now();
        }
        is_on
    }

    /// Returns when a pause begins or ends.
    pub(crate) async fn changed(&mut self) {
        // An error means that the link is gone. The caller is told to stop in another way.
        if self.blocked.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.over = Instant::now();
    }

    /// Until when a message that was sent then must be answered.
    pub(crate) fn deadline(&self, sent: Instant, limit: Duration) -> Instant {
        sent.max(self.over) + limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn deadlines_begin_anew_after_a_pause() {
        let blocked = watch::Sender::new(false);
        let mut pause = Pause::new(blocked.subscribe());
        let sent = Instant::now();
        assert!(!pause.is_on());
        assert!(pause.deadline(sent, LIMIT) <= sent + LIMIT);

        blocked.send_replace(true);
        pause.changed().await;
        assert!(pause.is_on());
        // `is_on` is not called meanwhile.
        tokio::time::sleep(LIMIT).await;
        blocked.send_replace(false);

        let ended = Instant::now();
        assert!(!pause.is_on());
        assert!(pause.deadline(sent, LIMIT) >= ended + LIMIT);
    }

    #[tokio::test]
    async fn a_pause_too_short_to_be_seen_counts_too() {
        let blocked = watch::Sender::new(false);
        let mut pause = Pause::new(blocked.subscribe());
        let sent = Instant::now();
        tokio::time::sleep(LIMIT).await;
        blocked.send_replace(true);
        blocked.send_replace(false);

        let ended = Instant::now();
        assert!(!pause.is_on());
        assert!(pause.deadline(sent, LIMIT) >= ended + LIMIT);
    }
}
