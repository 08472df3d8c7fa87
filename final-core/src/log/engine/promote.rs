//! Promotion: scheduled messages that are due move into the log.
//!
//! Input: messages of `final_log_scheduled` whose time has come, of any process. Output: rows of the log, and the
//! pause before the next promotion. A message that the log refuses stays scheduled, and is tried again every
//! minute; it does not hold up the others.

use std::time::{Duration, Instant};

use super::Engine;
use crate::{OutboxDatabase, log::tables::transfer::Moved};

/// The pause before due messages are looked for again where another process has them locked.
const LOCKED: Duration = Duration::from_millis(100);
/// The pause before due messages are looked for again after the database has failed.
const FAILED: Duration = Duration::from_secs(1);

impl<DB: OutboxDatabase> Engine<DB> {
    /// Moves due messages into the log. If that fails, reading and committing go on.
    pub(super) async fn promote(&mut self) {
        let service = &*self.member.group;
        let pause = match self.member.log.promote(&mut self.promotion).await {
            Ok(Some(Moved { moved, refused, .. })) => {
                for (seq, error) in &refused {
                    tracing::error!(
                        target: "final::log",
                        service, seq, %error,
                        "the log does not take a scheduled message; it is tried again every minute. Look at \
                         the triggers, constraints and columns of final_log"
                    );
                    self.member.hooks.commit(error);
                }
                if moved > 0 {
                    self.member.wakeups.committed();
                    Duration::ZERO
                } else {
                    LOCKED
                }
            }
            Ok(None) => {
                tracing::warn!(
                    target: "final::log",
                    service,
                    "moving scheduled messages into the log has taken too long; fewer are moved at once"
                );
                LOCKED
            }
            Err(error) => {
                tracing::warn!(
                    target: "final::log",
                    service, %error,
                    "scheduled messages wait; they are tried again"
                );
                FAILED
            }
        };
        self.schedule.promoted(Instant::now(), pause);
    }
}
