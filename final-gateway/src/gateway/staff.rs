//! The tasks of a gateway: each has a name, is watched, and is joined at the end.
//!
//! Input: work that goes on until it is told to stop. State: what runs. Output: the name of the first task that ended
//! by itself, and the end of all.

use std::{future::Future, time::Duration};

use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// Tasks that stop together.
pub(super) struct Staff {
    stop: CancellationToken,
    tasks: Vec<(&'static str, JoinHandle<()>)>,
    died: watch::Sender<Option<String>>,
}

impl Staff {
    /// Nobody yet. `died` hears of a task that ends before it is told to.
    pub(super) fn new(died: watch::Sender<Option<String>>) -> Self {
        Self {
            stop: CancellationToken::new(),
            tasks: Vec::new(),
            died,
        }
    }

    /// Runs work that ends soon after the token is cancelled.
    pub(super) fn hire<F>(&mut self, name: &'static str, work: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let work = work(self.stop.clone());
        let (stop, died) = (self.stop.clone(), self.died.clone());
        let task = tokio::spawn(async move {
            let ended = tokio::spawn(work).await;
            if stop.is_cancelled() && ended.is_ok() {
                return;
            }
            let why = match ended {
                Ok(()) => "it ended by itself".to_owned(),
                Err(error) => error.to_string(),
            };
            tracing::error!(
                target: "final::gateway",
                task = name,
                error = why,
                "a task of the gateway has ended; restart the gateway"
            );
            died.send_replace(Some(format!("the task {name} has ended: {why}")));
        });
        self.tasks.push((name, task));
    }

    /// Tells all tasks to stop, and waits for them, `limit` at most.
    pub(super) async fn dismiss(mut self, limit: Duration) {
        self.stop.cancel();
        for (name, task) in std::mem::take(&mut self.tasks) {
            let abort = task.abort_handle();
            if timeout(limit, task).await.is_err() {
                abort.abort();
                tracing::warn!(
                    target: "final::gateway",
                    task = name,
                    limit = ?limit,
                    "a task of the gateway did not end in time and is left"
                );
            }
        }
    }
}

impl Drop for Staff {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
