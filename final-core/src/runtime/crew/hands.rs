//! Hands: the many short tasks of one owner.
//!
//! Input: tasks without a result. Output: a log line for each panic. The owner waits for the tasks, or aborts
//! them by dropping this.

use std::time::Duration;

use tokio::{
    task::{JoinError, JoinSet},
    time::timeout,
};

/// Short tasks that end with their owner: dropping this aborts them.
///
/// The owner bounds how many there are.
pub(crate) struct Hands {
    name: &'static str,
    tasks: JoinSet<()>,
}

impl Hands {
    /// No tasks yet. Logs call each of them `name`.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            tasks: JoinSet::new(),
        }
    }

    /// Starts a task, and forgets the tasks that have ended.
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        while let Some(ended) = self.tasks.try_join_next() {
            self.log_panic(ended);
        }
        self.tasks.spawn(task);
    }

    /// Waits until all have ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing: it can be called again.
    pub(crate) async fn finish(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            self.log_panic(ended);
        }
    }

    /// Aborts the tasks that have not ended, waits until they are gone, and returns how many they were.
    ///
    /// A task that never awaits cannot be aborted; it is left behind after a second.
    pub(crate) async fn abort(&mut self) -> usize {
        while let Some(ended) = self.tasks.try_join_next() {
            self.log_panic(ended);
        }
        let left = self.tasks.len();
        self.tasks.abort_all();
        let _ = timeout(Duration::from_secs(1), self.finish()).await;
        left
    }

    fn log_panic(&self, ended: Result<(), JoinError>) {
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!(target: "final::bus", task = self.name, %error, "a short task panicked");
        }
    }
}
