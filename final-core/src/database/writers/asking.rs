//! A writer that asks SQLite without a turn, or beside writers that have none.
//!
//! Input: an error of the database. State: until when it asks. Output: whether to ask again, after a while.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::line::Line;
use crate::database::Driver;

/// How long a writer asks SQLite at least, where the connection waits for the lock for less.
const ASKING: Duration = Duration::from_secs(5);

/// After how long such a writer asks again, if the bus sees no transaction end before.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// A writer that asks SQLite for the lock until its time is over.
pub(crate) struct Asking<'a> {
    line: Option<&'a Line>,
    until: Instant,
}

impl<'a> Asking<'a> {
    pub(super) fn from_now(line: Option<&'a Line>) -> Self {
        Self {
            line,
            until: Instant::now() + ASKING,
        }
    }

    /// Whether to ask again after an error, after a while.
    pub(crate) async fn again<DB: Driver>(&self, error: &sqlx::Error) -> bool {
        match self.line {
            Some(line) if DB::is_busy(error) && Instant::now() < self.until => {
                let _ = timeout(ASK_AGAIN, line.lock.freed.notified()).await;
                true
            }
            _ => false,
        }
    }
}
