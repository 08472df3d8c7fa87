//! The crew: every background task, with its name, from its start to its end.
//!
//! A task that panics is heard of, one that hangs is named, and a shutdown knows whom it waits for.
//! Only what must not be aborted is spawned elsewhere: a BEGIN, a COMMIT, the shutdown itself. [`Crew`] has the tasks that live as long as the bus, and the one-off
//! tasks that must outlive their caller; [`Hands`] has the many short ones of a single owner.

mod hands;
mod roster;
#[cfg(test)]
mod tests;

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

pub(crate) use self::hands::Hands;
use self::roster::Roster;
use crate::runtime::backoff::Backoff;

/// The pause before a task that panicked starts again.
const RESTART: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));

/// A task that ran this long before it panicked had been well: its backoff starts over.
const WELL: Duration = Duration::from_secs(60);

/// How long an aborted task may take to notice. It notices at its next `.await`.
const NOTICE: Duration = Duration::from_secs(1);

/// The background tasks of one bus. Dropping it tells them to stop.
///
/// ```text
///   hire ─▶ running ─ returns ──────────────────▶ gone
///              │  ▲                                ▲
///        panics│  │after a pause                   │
///              ▼  │                                │
///            paused ─ stop ────────────────────────┤
///                                                  │
///   join's limit is over: aborted, and named ──────┘
/// ```
pub(crate) struct Crew {
    tracker: TaskTracker,
    /// Who is at work. Shared with the tasks, so that each leaves it when it ends.
    roster: Arc<Roster>,
    stop: CancellationToken,
    /// A bus that is dropped without a shutdown must not leave its tasks behind.
    _stop_on_drop: DropGuard,
}

impl Crew {
    pub(crate) fn new() -> Self {
        let stop = CancellationToken::new();
        Self {
            tracker: TaskTracker::new(),
            roster: Arc::default(),
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        }
    }

    /// What tells the tasks to stop: they finish what is in hand, and return.
    pub(crate) fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }

    /// Tells the tasks to stop.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Ends every task where it stands.
    pub(crate) fn abort(&self) {
        self.stop.cancel();
        self.roster.abort_all();
    }

    /// Starts a task that is to run until it returns, and starts it again if it panics.
    ///
    /// Each start gets a new future from `make`. The pause before a new start grows up to 30 s;
    /// after [`stop`](Self::stop) there is none.
    pub(crate) fn hire<M, F>(&self, name: impl Into<Arc<str>>, make: M) -> JoinHandle<()>
    where
        M: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let name = name.into();
        let task = supervise(Arc::clone(&name), make, self.stop.clone());
        self.track(name, task)
    }

    /// Starts a task that runs once, whether or not anybody still waits for its handle.
    pub(crate) fn track<F>(&self, name: impl Into<Arc<str>>, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let place = Roster::enter(&self.roster, name.into());
        let number = place.number();
        let handle = self.tracker.spawn(async move {
            let result = AssertUnwindSafe(task).catch_unwind().await;
            if let Err(panic) = &result {
                tracing::error!(
                    task = place.name(),
                    panic = panic_text(panic.as_ref()),
                    "a task panicked"
                );
            }
            // Whoever holds the handle sees the panic as tokio would show it.
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        self.roster.seat(number, handle.abort_handle());
        handle
    }

    /// Waits until every task has ended. Those left after `limit` are aborted, and their names
    /// returned.
    ///
    /// It does not tell them to stop: [`stop`](Self::stop) does.
    pub(crate) async fn join(&self, limit: Duration) -> Vec<Arc<str>> {
        self.tracker.close();
        if timeout(limit, self.tracker.wait()).await.is_ok() {
            return Vec::new();
        }
        let left = self.roster.abort_all();
        if !left.is_empty() {
            tracing::error!(tasks = ?left, ?limit, "tasks did not end in time and were aborted");
        }
        // What they held is given back when they are dropped, which takes a turn of the runtime.
        let _ = timeout(NOTICE, self.tracker.wait()).await;
        left
    }
}

async fn supervise<M, F>(name: Arc<str>, make: M, stop: CancellationToken)
where
    M: Fn() -> F,
    F: Future<Output = ()>,
{
    let mut panics = 0_u32;
    loop {
        let started = Instant::now();
        let run = AssertUnwindSafe(async { make().await });
        let Err(panic) = run.catch_unwind().await else {
            return;
        };
        panics = if started.elapsed() < WELL {
            panics.saturating_add(1)
        } else {
            1
        };
        let pause = RESTART.pause(panics);
        let panic = panic_text(panic.as_ref());
        tracing::error!(
            task = &*name,
            panic,
            ?pause,
            "a task panicked; it starts again"
        );
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text")
}
