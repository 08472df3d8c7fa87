//! Shutting a bus down.
//!
//! The steps go the way of the data: no new deliveries, handlers, settlements, commits, confirms, acks,
//! leases, connections. Each has a limit. The result names the first step that was cut short. `ending` sees to
//! it that they run once.

use std::time::{Duration, Instant};

use super::{Bus, Inner, Phase, ending::End};
use crate::{Error, OutboxDatabase, runtime::inside::Inside};

/// How much time is left for the way out when the handlers have used up theirs.
const LEAST: Duration = Duration::from_secs(2);

/// How much longer than its limit a step of a link may take.
const LINK_EXTRA: Duration = Duration::from_secs(10);

impl<DB: OutboxDatabase> Bus<DB> {
    /// Stops taking messages, finishes what is in flight, and closes.
    ///
    /// It stops new deliveries, then waits for the running handlers, for their dead letters and acks, for
    /// transactions that are committing, for the confirms of sent messages, and for the acks of their records;
    /// then it releases the leases and closes the connections. What cannot be finished within
    /// `Options::shutdown_timeout` is left as it is: deliveries are requeued, records stay in the outbox. A
    /// start that is under way is waited for first.
    ///
    /// It may be called by several tasks, on any runtime, and again later. There is one shutdown: every call
    /// waits for its end and returns its result.
    ///
    /// Publishing afterwards still writes to the outbox; the next start sends it. Asking for stats or
    /// failed records is an error then.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] tells what had to be cut short. The bus is shut down all the same.
    ///
    /// [`Error::InsideHandler`] if one of the bus's own handlers or layers calls it, or a hook of the log,
    /// because the shutdown would wait for its own caller. Nothing is stopped then. A handler that ends the
    /// service spawns a task for the shutdown, does not wait for that task, and returns.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the shutdown. If its runtime ends before the shutdown does, the next
    /// call goes on with it, and so does a call that waits on another runtime.
    pub async fn shutdown(&self) -> Result<(), Error> {
        if Inside::is_awaited_by(self.inner.number) {
            return Err(Error::InsideHandler);
        }
        let end = self.inner.end().await;
        end.told(self.inner.options.shutdown_timeout)
    }
}

impl<DB: OutboxDatabase> Inner<DB> {
    /// Waits for a start under way, and shuts down what it has started. Goes on where a run before it was cut
    /// off.
    pub(super) async fn stop(&self) -> End {
        let limit = self.options.shutdown_timeout;
        if self.advance(Phase::New, Phase::Stopped).is_ok() {
            return End::InTime;
        }
        let end = tokio::time::Instant::now() + limit;
        loop {
            let start_ended = self.start_ended.notified();
            match self.advance(Phase::Running, Phase::Stopping) {
                Ok(()) | Err(Phase::Stopping) => return self.shut_down().await,
                Err(Phase::New) if self.advance(Phase::New, Phase::Stopped).is_ok() => {
                    return End::InTime;
                }
                Err(Phase::Stopped) => return End::InTime,
                Err(Phase::New | Phase::Starting | Phase::Running) => {}
            }
            let is_late = tokio::time::timeout_at(end, start_ended).await.is_err();
            if is_late && self.advance(Phase::Starting, Phase::Stopped).is_ok() {
                self.crew.abort();
                let _ = self.crew.join(LEAST).await;
                // The start may have ended in the same instant.
                if let Some(running) = self.running.get() {
                    within(LEAST, running.link.close(LEAST)).await;
                }
                self.outbox.close().await;
                return End::Late("the start");
            }
        }
    }

    /// How long running handlers may go on: most of the limit, but not the part that the way out needs.
    pub(super) fn handlers_limit(&self) -> Duration {
        let limit = self.options.shutdown_timeout;
        limit - LEAST.min(limit / 4)
    }

    async fn shut_down(&self) -> End {
        let limit = self.options.shutdown_timeout;
        let end = Instant::now() + limit;
        let left = || end.saturating_duration_since(Instant::now());
        let left_at_least = || left().max(LEAST.min(limit));
        let Some(running) = self.running.get() else {
            return End::InTime;
        };
        let (relay, link) = (&running.relay, &running.link);
        let mut late = None;

        self.handlers_stop.cancel();
        within(left_at_least(), link.stop_consuming(left_at_least())).await;
        let patience = self.handlers_limit() + LEAST;
        let ended = tokio::time::timeout(patience, self.handlers_ended.cancelled()).await;
        if ended.is_err() || left() < limit.saturating_sub(self.handlers_limit()) {
            late = Some("the running handlers");
        }
        // What it cannot store in time stays with the broker.
        let _ = tokio::time::timeout(left_at_least(), running.collecting_ended()).await;
        within(left_at_least(), link.finish_consuming(left_at_least())).await;

        // A message that commits from now on stays in the outbox. One that was reserved before is handed over.
        relay.stop_taking();
        if tokio::time::timeout(left_at_least(), relay.writes_ended())
            .await
            .is_err()
        {
            late = late.or(Some("a transaction that is committing"));
        }
        within(left_at_least(), link.close(left_at_least())).await;
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
        tracing::info!(target: "final::bus", service = self.name, late, "the bus is shut down");
        late.map_or(End::InTime, End::Late)
    }
}

/// Waits for a step that has a limit of its own, and for a link that does not keep to it only a while longer.
///
/// The tasks of a link cannot keep to a limit when no thread runs their runtime.
async fn within(limit: Duration, step: impl Future<Output = ()>) {
    let _ = tokio::time::timeout(limit + LINK_EXTRA, step).await;
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test says what it expects")]
impl<DB: OutboxDatabase> Bus<DB> {
    /// Ends the tasks and settles nothing, as if the process stood still.
    pub(crate) fn stop_renewing(&self) {
        self.inner.crew.stop();
    }

    /// The way out, for tests of its parts.
    pub(crate) fn relay(&self) -> std::sync::Arc<crate::relay::Relay<DB>> {
        std::sync::Arc::clone(&self.inner.running().expect("it is started").relay)
    }
}
