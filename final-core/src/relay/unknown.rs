//! Records of a COMMIT that was not answered.
//!
//! Input: the keys of the records, which may be committed, rolled back, or still on their way to the server.
//! Output: those that are visible are due at once, because a visible record is a committed one. A COMMIT that
//! takes place even later is found when the lease of its records is over.

use std::time::Duration;

use super::Relay;
use crate::{OutboxDatabase, outbox::RecordId};

/// The pause between two tries to reach the database.
const PAUSE: Duration = Duration::from_millis(200);

impl<DB: OutboxDatabase> Relay<DB> {
    /// Makes the visible ones of these records due, as soon as the database answers.
    pub(crate) async fn look_up(&self, records: Vec<RecordId>) {
        let Ok(table) = self.outbox.table() else {
            return;
        };
        let mut failures = 0_u32;
        loop {
            self.counters.statements.add(1);
            match table.release(&records, Duration::ZERO).await {
                Ok(_) => {
                    // The ring is also for records whose lease is over already: they are due, and were not
                    // released here.
                    self.bell.ring();
                    self.bell.due_in(self.outbox.lease());
                    return;
                }
                Err(error) => {
                    self.database_failed("looking up an unanswered COMMIT", &error, failures);
                    failures = failures.saturating_add(1);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.stopping.taking.cancelled() => return,
            }
        }
    }
}
