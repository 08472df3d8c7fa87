//! A capture that runs, and its end.
//!
//! ```text
//!   shutdown ─▶ the stream ends ─▶ the target takes what was read, within a limit ─▶ the position is saved
//!            ─▶ the lease is given back ─▶ the target closes
//! ```

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{CaptureHealth, CaptureState, CaptureStats, StopReason, health, metrics, stats};
use crate::{
    engine::{Engine, supervise, vitals::Vitals},
    position::Position,
};

/// How long the last steps may take: the lease, the stream, the links.
const LAST: Duration = Duration::from_secs(15);

/// How long closing the target may take.
const CLOSING: Duration = Duration::from_secs(5);

/// A capture that runs. Call [`shutdown`](Self::shutdown) before the process ends. Dropped without it, the capture stops
/// where it is: nothing is lost, and another reader takes over once the lease is over.
#[must_use = "a dropped capture stops"]
pub struct RunningCapture {
    engine: Arc<Engine>,
    vitals: Arc<Vitals>,
    stop: CancellationToken,
    /// Taken by the shutdown.
    task: Mutex<Option<JoinHandle<()>>>,
}

impl RunningCapture {
    pub(super) fn start(engine: Engine) -> Self {
        let engine = Arc::new(engine);
        let vitals = Arc::new(Vitals::new());
        let stop = CancellationToken::new();
        let run = supervise::run(Arc::clone(&engine), Arc::clone(&vitals), stop.clone());
        let task = tokio::spawn(watched(run, Arc::clone(&vitals)));
        Self {
            engine,
            vitals,
            stop,
            task: Mutex::new(Some(task)),
        }
    }

    /// How it is, and every change of that.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<CaptureState> {
        self.vitals.state()
    }

    /// The saved position, and every change of it. `None` until this process has read one.
    #[must_use]
    pub fn position(&self) -> watch::Receiver<Option<Position>> {
        self.vitals.position()
    }

    /// What it has done, and how far it is.
    #[must_use]
    pub fn stats(&self) -> CaptureStats {
        stats::of(&self.vitals)
    }

    /// Whether it does its work, and if not why.
    #[must_use]
    pub fn health(&self) -> CaptureHealth {
        health::of(&self.vitals, self.stop.is_cancelled())
    }

    /// The numbers of [`stats`](Self::stats) as text for Prometheus.
    #[must_use]
    pub fn metrics(&self) -> String {
        metrics::text(&self.engine.name, &self.stats())
    }

    /// Waits until only a restart helps, and says why: a task of the capture has panicked. A capture that was
    /// [stopped](CaptureState::Stopped) by its source is none: after a restart it would stop again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn died(&self) -> String {
        let mut state = self.state();
        loop {
            if let CaptureState::Stopped(StopReason::Panicked(why)) = &*state.borrow_and_update() {
                return why.clone();
            }
            if state.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Ends the capture: the stream ends, what was read reaches the target or is read again, the position is saved, the
    /// lease is given back. Each step has its limit. A second call waits for nothing.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts off what is left, as dropping the capture does.
    pub async fn shutdown(&self) {
        self.vitals.set_state(CaptureState::Stopping);
        self.stop.cancel();
        let Some(mut task) = self.task.lock().await.take() else {
            return;
        };
        let limit = self.engine.shutdown_within + LAST;
        if timeout(limit, &mut task).await.is_err() {
            task.abort();
            tracing::warn!(
                target: "final::capture",
                capture = &*self.engine.name, ?limit,
                "the capture did not end in time and is cut off"
            );
        }
        self.engine.outlet.close(CLOSING).await;
    }
}

impl Drop for RunningCapture {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.get_mut().take() {
            task.abort();
        }
    }
}

/// Runs the engine. A panic stops the capture, and is seen.
async fn watched(run: impl Future<Output = ()> + Send + 'static, vitals: Arc<Vitals>) {
    if let Err(error) = AbortOnDropHandle::new(tokio::spawn(run)).await
        && error.is_panic()
    {
        let why = format!("the task of the capture: {error}");
        tracing::error!(
            target: "final::capture",
            error = why,
            "a task of the capture has panicked; restart the process"
        );
        vitals.stop(StopReason::Panicked(why));
    }
}

impl fmt::Debug for RunningCapture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningCapture")
            .field("name", &self.engine.name)
            .field("state", &*self.vitals.state().borrow())
            .finish_non_exhaustive()
    }
}
