//! The end of the way out.

use std::{sync::Arc, time::Duration};

use super::Relay;
use crate::OutboxDatabase;

/// How often the end of something is looked for.
const LOOK: Duration = Duration::from_millis(2);

/// How long it may take to tell the database that nothing is ours any more.
const LIMIT: Duration = Duration::from_secs(1);

impl<DB: OutboxDatabase> Relay<DB> {
    /// From now on nothing is claimed and nothing handed over; what commits stays in the outbox.
    pub(crate) fn stop_taking(&self) {
        self.stop_scanner.cancel();
    }

    /// Waits until every write that reserved a slot has handed over or failed.
    pub(crate) async fn writes_ended(&self) {
        while Arc::strong_count(&self.writing) > 1 {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the answers to what was sent are settled, and lets the ackers end.
    ///
    /// Called after the link has closed, which has settled everything. True if it all came to its
    /// end within `limit`.
    pub(crate) async fn finish(&self, limit: Duration) -> bool {
        let settled = async {
            while !self.flight.is_empty() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let in_time = tokio::time::timeout(limit, settled).await.is_ok();
        self.stop_ackers.cancel();
        self.give_up.cancel();
        if !in_time {
            self.release_leases().await;
        }
        in_time
    }

    /// Ends the claims, once nothing is at work any more. What is not ended runs out by itself.
    pub(crate) async fn end_claims(&self) {
        let _ = tokio::time::timeout(LIMIT, self.finish_claims(1)).await;
    }

    /// Lets go of what is still ours, so that nobody has to wait for the leases to run out.
    async fn release_leases(&self) {
        let ids = self.flight.ids();
        let Ok(table) = self.store.table() else {
            return;
        };
        if !matches!(
            tokio::time::timeout(LIMIT, table.release(&ids, Duration::ZERO)).await,
            Ok(Ok(_))
        ) {
            tracing::warn!(
                service = self.service.as_str(),
                records = ids.len(),
                "leases could not be released; they run out by themselves"
            );
        }
    }
}
