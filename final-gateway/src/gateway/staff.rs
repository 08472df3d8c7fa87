//! The tasks of a gateway: each has a name, is watched, and is joined at the end.
//!
//! Input: work that goes on until it is told to stop. State: what runs. Output: the name of the first task that ended
//! by itself, and the end of all.

use std::{future::Future, time::Duration};

use tokio::{
    sync::watch,
    task::{AbortHandle, JoinError, JoinHandle},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Tasks that stop together.
pub(super) struct Staff {
    stop: CancellationToken,
    tasks: Vec<Hired>,
    died: watch::Sender<Option<String>>,
}

struct Hired {
    name: &'static str,
    /// The work itself, to be cut off.
    work: AbortHandle,
    /// What watches it, to be joined.
    watch: JoinHandle<()>,
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
        let task = tokio::spawn(work);
        let work = task.abort_handle();
        let watch = tokio::spawn(async move {
            let ended = task.await;
            let is_cut_off = ended.as_ref().is_err_and(JoinError::is_cancelled);
            if stop.is_cancelled() && (ended.is_ok() || is_cut_off) {
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
        self.tasks.push(Hired { name, work, watch });
    }

    /// Tells all tasks to stop, and waits for them, `limit` at most.
    pub(super) async fn dismiss(mut self, limit: Duration) {
        self.stop.cancel();
        for Hired { name, work, watch } in std::mem::take(&mut self.tasks) {
            if timeout(limit, watch).await.is_err() {
                work.abort();
                tracing::warn!(
                    target: "final::gateway",
                    task = name,
                    limit = ?limit,
                    "a task of the gateway did not end in time and is cut off"
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_task_that_ends_too_early_is_told_and_the_others_go_on() {
        let (told, mut died) = watch::channel(None);
        let mut staff = Staff::new(told);
        staff.hire("one", |stop| async move { stop.cancelled().await });
        staff.hire("two", |_| async { panic!("on purpose") });
        let why = timeout(SOON, died.wait_for(Option::is_some)).await;
        let why = why.unwrap().unwrap().clone().unwrap();
        assert!(why.contains("two") && why.contains("panicked"), "{why}");
        assert!(!staff.tasks[0].watch.is_finished());
        staff.dismiss(SOON).await;
    }

    #[tokio::test]
    async fn a_dismissal_is_no_early_end_and_does_not_wait_for_ever() {
        let (told, died) = watch::channel(None);
        let mut staff = Staff::new(told);
        staff.hire("good", |stop| async move { stop.cancelled().await });
        staff.hire("deaf", |_| std::future::pending());
        let begun = Instant::now();
        staff.dismiss(Duration::from_millis(20)).await;
        assert!(begun.elapsed() < SOON / 2);
        assert_eq!(*died.borrow(), None);
    }
}
