//! Hands: the many short tasks of one owner.

use std::time::Duration;

use tokio::{
    task::{JoinError, JoinSet},
    time::timeout,
};

/// Short tasks that end with their owner: dropping this aborts them.
///
/// How many there are is up to the owner, who must bound it.
pub(crate) struct Hands {
    name: &'static str,
    tasks: JoinSet<()>,
}

impl Hands {
    /// None yet; `name` is what each is called in the log.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            tasks: JoinSet::new(),
        }
    }

    /// Starts one, and forgets those that have ended.
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        while let Some(ended) = self.tasks.try_join_next() {
            self.look_at(ended);
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
            self.look_at(ended);
        }
    }

    /// Aborts those that have not ended, waits until they are gone, and says how many they were.
    ///
    /// A task that never awaits cannot be aborted; it is left behind after a second.
    pub(crate) async fn abort(&mut self) -> usize {
        while let Some(ended) = self.tasks.try_join_next() {
            self.look_at(ended);
        }
        let left = self.tasks.len();
        self.tasks.abort_all();
        let _ = timeout(Duration::from_secs(1), self.finish()).await;
        left
    }

    fn look_at(&self, ended: Result<(), JoinError>) {
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!(task = self.name, %error, "a task panicked");
        }
    }
}
