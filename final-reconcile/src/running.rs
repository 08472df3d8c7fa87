//! A reconciler that runs: its tasks, and their end.

use std::{fmt, time::Duration};

use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::scan::{
    room::Rooms,
    vitals::{ReconcilerHealth, SharedVitals},
};

/// How long a task that panicked rests.
const REST: Duration = Duration::from_secs(1);

/// Tasks that run until they are told to stop. One that panics begins again.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    stop: CancellationToken,
    all: Vec<JoinHandle<()>>,
}

impl Tasks {
    /// Begins a task. `make` makes it, and makes it anew after a panic.
    pub(crate) fn spawn<F>(
        &mut self,
        name: &'static str,
        make: impl Fn(CancellationToken) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.all.push(tokio::spawn(async move {
            while !stop.is_cancelled() {
                let mut task = AbortOnDrop(tokio::spawn(make(stop.clone())));
                if let Err(error) = (&mut task.0).await
                    && error.is_panic()
                {
                    tracing::error!(
                        target: "final::reconcile",
                        task = name,
                        %error,
                        "a task of the reconciler has panicked; it begins again"
                    );
                    sleep(REST).await;
                }
            }
        }));
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Scans and repairs that go on until they are told to stop.
#[must_use = "a dropped reconciler stops"]
pub struct RunningReconciler {
    tasks: Tasks,
    vitals: SharedVitals,
    rooms: Rooms,
}

impl RunningReconciler {
    pub(crate) fn new(tasks: Tasks, vitals: SharedVitals, rooms: Rooms) -> Self {
        Self {
            tasks,
            vitals,
            rooms,
        }
    }

    /// Whether scans do their work, and if not why.
    #[must_use]
    pub fn health(&self) -> ReconcilerHealth {
        self.vitals.health()
    }

    /// What this process has compared, as text for Prometheus.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.vitals.metrics() + &self.rooms.metrics()
    }

    /// Stops. Calls that are under way end first, within the time limit of their endpoint. The scans are given back, so
    /// that another process can go on at once.
    pub async fn shutdown(mut self) {
        self.tasks.stop.cancel();
        for task in self.tasks.all.drain(..) {
            // A task that was cut off has nothing to say.
            let _ = task.await;
        }
    }
}

impl Drop for RunningReconciler {
    /// Tells the tasks to stop, without waiting for them.
    fn drop(&mut self) {
        self.tasks.stop.cancel();
    }
}

impl fmt::Debug for RunningReconciler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningReconciler")
            .field("tasks", &self.tasks.all.len())
            .finish_non_exhaustive()
    }
}
