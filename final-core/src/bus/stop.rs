//! Shutting a bus down.
//!
//! The steps go the way of the data: no new deliveries, handlers, settlements, commits, confirms, acks,
//! leases, connections. Each has a limit. The result names the first step that was cut short.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{Bus, Inner, Phase};
use crate::{Error, OutboxDatabase};

/// How much time is left for the way out when the handlers have used up theirs.
const LEAST: Duration = Duration::from_secs(2);

impl<DB: OutboxDatabase> Bus<DB> {
    /// Stops taking messages, finishes what is in flight, and closes.
    ///
    /// It stops new deliveries, then waits for the running handlers, for their dead letters and acks, for
    /// transactions that are committing, for the confirms of sent messages, and for the acks of their records;
    /// then it releases the leases and closes the connections. What cannot be finished within
    /// `Options::shutdown_timeout` is left as it is: deliveries are requeued, records stay in the outbox. A
    /// start that is under way is waited for first.
    ///
    /// Publishing afterwards still writes to the outbox; the next start sends it. Asking for stats or
    /// failed records is an error then. Calling it again does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] tells what had to be cut short. The bus is shut down all the same.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the shutdown.
    pub async fn shutdown(&self) -> Result<(), Error> {
        let inner = Arc::clone(&self.inner);
        // Not in the crew: it waits for the crew.
        let task = tokio::spawn(async move { inner.stop().await });
        task.await.unwrap_or(Err(Error::ShutDown))
    }
}

impl<DB: OutboxDatabase> Inner<DB> {
    /// Waits for a start under way, and shuts down what it has started.
    async fn stop(&self) -> Result<(), Error> {
        let limit = self.options.shutdown_timeout;
        let end = tokio::time::Instant::now() + limit;
        loop {
            let start_ended = self.start_ended.notified();
            match self.advance(Phase::Running, Phase::Stopping) {
                Ok(()) => return self.shut_down().await,
                Err(Phase::New) if self.advance(Phase::New, Phase::Stopped).is_ok() => {
                    return Ok(());
                }
                Err(Phase::Stopping | Phase::Stopped) => return Ok(()),
                Err(Phase::New | Phase::Starting | Phase::Running) => {}
            }
            let is_late = tokio::time::timeout_at(end, start_ended).await.is_err();
            if is_late && self.advance(Phase::Starting, Phase::Stopped).is_ok() {
                self.crew.abort();
                let _ = self.crew.join(LEAST).await;
                // The start may have ended in the same instant.
                if let Some(running) = self.running.get() {
                    running.link.close(LEAST).await;
                }
                self.outbox.close().await;
                let what = "the start";
                return Err(Error::Timeout { what, limit });
            }
        }
    }

    /// How long running handlers may go on: most of the limit, but not the part that the way out needs.
    pub(super) fn handlers_limit(&self) -> Duration {
        let limit = self.options.shutdown_timeout;
        limit - LEAST.min(limit / 4)
    }

    async fn shut_down(&self) -> Result<(), Error> {
        let limit = self.options.shutdown_timeout;
        let end = Instant::now() + limit;
        let left = || end.saturating_duration_since(Instant::now());
        let left_at_least = || left().max(LEAST.min(limit));
        let Some(running) = self.running.get() else {
            return Ok(());
        };
        let (relay, link) = (&running.relay, &running.link);
        let mut late = None;

        self.handlers_stop.cancel();
        link.stop_consuming(left_at_least()).await;
        let patience = self.handlers_limit() + LEAST;
        let ended = tokio::time::timeout(patience, self.handlers_ended.cancelled()).await;
        if ended.is_err() || left() < limit.saturating_sub(self.handlers_limit()) {
            late = Some("the running handlers");
        }
        link.finish_consuming(left_at_least()).await;

        // A message that commits from now on stays in the outbox. One that was reserved before is handed over.
        relay.stop_taking();
        if tokio::time::timeout(left_at_least(), relay.writes_ended())
            .await
            .is_err()
        {
            late = late.or(Some("a transaction that is committing"));
        }
        link.close(left_at_least()).await;
        if !relay.finish(left_at_least()).await {
            late = late.or(Some("the acks of confirmed messages"));
        }
        self.crew.stop();
        let idle = self.crew.join(left_at_least()).await;
        if !idle.is_empty() {
            late = late.or(Some("a background task"));
        }
        relay.end_claims().await;
        self.outbox.close().await;
        self.phase.store(Phase::Stopped as u8, Ordering::Release);
        tracing::info!(target: "final::bus", service = self.name, late, "the bus is shut down");
        late.map_or(Ok(()), |what| Err(Error::Timeout { what, limit }))
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test says what it expects")]
impl<DB: OutboxDatabase> Bus<DB> {
    /// Ends the tasks and settles nothing, as if the process stood still.
    pub(crate) fn stop_renewing(&self) {
        self.inner.crew.stop();
    }

    /// The way out, for tests of its parts.
    pub(crate) fn relay(&self) -> Arc<crate::relay::Relay<DB>> {
        Arc::clone(&self.inner.running().expect("it is started").relay)
    }
}
