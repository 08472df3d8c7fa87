//! The end of the way out, step by step.
//!
//! Input: the calls of [`Bus::shutdown`](crate::Bus::shutdown), in the order in which they stand here.
//! Output: everything that was sent is settled, or its lease is released within a second. A record whose
//! lease cannot be released is sent by another process when the lease has run out.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::Relay;
use crate::OutboxDatabase;

/// How often the relay looks whether something has ended.
const POLL: Duration = Duration::from_millis(2);

/// How long the last statements of a shutdown may take.
const LIMIT: Duration = Duration::from_secs(1);

/// How far the relay has been stopped.
///
/// ```text
///   running ── stop_taking ──▶ only settling ── finish ──▶ ending: ackers and failing statements end
/// ```
#[derive(Debug)]
pub(super) struct Stopping {
    /// Cancelled: from then on nothing is handed over or claimed.
    pub(super) taking: CancellationToken,
    /// Cancelled: the ackers settle the answers that are there, and end.
    pub(super) settling: CancellationToken,
    /// Cancelled: a statement that fails is not repeated.
    pub(super) retries: CancellationToken,
    /// Held by every write that has reserved and not yet handed over.
    writing: Arc<()>,
}

impl Stopping {
    /// Each step is also taken when `stop` is cancelled.
    pub(super) fn new(stop: &CancellationToken) -> Self {
        Self {
            taking: stop.child_token(),
            settling: stop.child_token(),
            retries: stop.child_token(),
            writing: Arc::default(),
        }
    }

    /// Marks a write as under way until the mark is dropped.
    pub(super) fn writing(&self) -> Arc<()> {
        Arc::clone(&self.writing)
    }
}

impl<DB: OutboxDatabase> Relay<DB> {
    /// Stops handing over and claiming. What commits from now on stays in the outbox.
    pub(crate) fn stop_taking(&self) {
        self.stopping.taking.cancel();
    }

    /// Waits until every write that reserved a slot has handed over or failed.
    pub(crate) async fn writes_ended(&self) {
        while Arc::strong_count(&self.stopping.writing) > 1 {
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until the answers to sent messages are settled, and lets the ackers end.
    ///
    /// Called after the link has closed, so every message has its answer by now. True if all were settled
    /// within `limit`.
    pub(crate) async fn finish(&self, limit: Duration) -> bool {
        let settled = async {
            while !self.flight.is_empty() {
                tokio::time::sleep(POLL).await;
            }
        };
        let in_time = tokio::time::timeout(limit, settled).await.is_ok();
        self.stopping.settling.cancel();
        self.stopping.retries.cancel();
        if !in_time {
            self.release_leases().await;
        }
        in_time
    }

    /// Finishes the claims, once all tasks have ended. A claim that stays runs out by itself.
    pub(crate) async fn end_claims(&self) {
        let _ = tokio::time::timeout(LIMIT, self.finish_claims(1)).await;
    }

    /// Releases the leases of the records in flight, so that other processes need not wait for their end.
    async fn release_leases(&self) {
        let ids = self.flight.ids();
        let Ok(table) = self.outbox.table() else {
            return;
        };
        if !matches!(
            tokio::time::timeout(LIMIT, table.release(&ids, Duration::ZERO)).await,
            Ok(Ok(_))
        ) {
            tracing::warn!(
                target: "final::relay",
                service = self.service.as_str(),
                records = ids.len(),
                "leases could not be released; they run out by themselves"
            );
        }
    }
}
