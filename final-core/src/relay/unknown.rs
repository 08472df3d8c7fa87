//! Records of a COMMIT that was not answered.

use std::time::Duration;

use uuid::Uuid;

use super::Relay;
use crate::OutboxDatabase;

/// The pause between two tries to reach the database.
const PAUSE: Duration = Duration::from_millis(200);

impl<DB: OutboxDatabase> Relay<DB> {
    /// Looks records up as soon as the database answers: what is visible was committed, and is made
    /// due. A COMMIT that takes place even later is found when the lease is over.
    pub(crate) async fn look_up(&self, ids: Vec<Uuid>) {
        let Ok(table) = self.store.table() else {
            return;
        };
        let mut failures = 0_u32;
        loop {
            self.counters.statements.add(1);
            match table.release(&ids, Duration::ZERO).await {
                Ok(_) => {
                    // Also where their leases are over: they are due then.
                    self.ring();
                    self.due_in(self.store.lease());
                    return;
                }
                Err(error) => {
                    self.database_failed("looking up an unanswered COMMIT", &error, failures);
                    failures = failures.saturating_add(1);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.stop_scanner.cancelled() => return,
            }
        }
    }
}
