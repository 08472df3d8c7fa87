//! The crew: every background task, with its name, from its start to its end.
//!
//! Input: named tasks, and the sign to stop. State: the roster of the tasks that have not ended. Output: a log
//! line for each panic, a restart of tasks that are to keep running, and at a shutdown the names of the tasks
//! that did not end in time.
//!
//! [`Crew`] runs the tasks that live as long as the bus, and single tasks that must outlive their caller.
//! [`Hands`] runs the many short tasks of one owner. Only a task that must not be aborted is spawned
//! elsewhere: a BEGIN, a COMMIT, the shutdown itself.

mod hands;
mod roster;
#[cfg(test)]
mod tests;

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::FutureExt;
use tokio::{
    task::{AbortHandle, JoinHandle},
    time::{Instant, sleep, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

pub(crate) use self::hands::Hands;
use self::roster::Roster;
use crate::{
    lock::lock,
    runtime::{backoff::Backoff, counter::Counter},
};

/// The pause before a task that panicked starts again.
const RESTART: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));

/// A task that ran for so long before it panicked was healthy: its backoff starts over.
const HEALTHY: Duration = Duration::from_secs(60);

/// How long an aborted task may take to end. It ends at its next `.await`.
const ABORT_LIMIT: Duration = Duration::from_secs(1);

/// A task that was started so often in a row, and panicked each time, does not do its work.
const MANY_PANICS: u32 = 5;

/// A task that is to run until the bus stops.
struct Hired {
    name: Arc<str>,
    panics: Arc<Mutex<InARow>>,
    task: AbortHandle,
}

/// How often a task has panicked in a row, and when it did so last.
#[derive(Clone, Copy, Default)]
struct InARow {
    panics: u32,
    last: Option<Instant>,
}

/// Where the panics of a hired task are counted.
struct Panics {
    in_a_row: Arc<Mutex<InARow>>,
    all: Arc<Counter>,
}

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
    /// The running tasks. Each task holds the roster too, and leaves it when it ends.
    roster: Arc<Roster>,
    /// The tasks that are to run until the bus stops.
    hired: Mutex<Vec<Hired>>,
    /// Panics of its tasks.
    panics: Arc<Counter>,
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
            hired: Mutex::default(),
            panics: Arc::default(),
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        }
    }

    /// Cancelled when the tasks are to finish what they are doing and return.
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
        let in_a_row = Arc::new(Mutex::new(InARow::default()));
        let panics = Panics {
            in_a_row: Arc::clone(&in_a_row),
            all: Arc::clone(&self.panics),
        };
        let task = supervise(Arc::clone(&name), make, self.stop.clone(), panics);
        let handle = self.track(Arc::clone(&name), task);
        lock(&self.hired).push(Hired {
            name,
            panics: in_a_row,
            task: handle.abort_handle(),
        });
        handle
    }

    /// The count of panics, of its tasks and of what else the bus adds to it.
    pub(crate) fn panics(&self) -> &Arc<Counter> {
        &self.panics
    }

    /// The tasks that do not do their work: they have ended, or each start of theirs panics. `may_end` are the
    /// names of tasks that may have nothing to do.
    pub(crate) fn not_working(&self, may_end: &[&str]) -> Vec<String> {
        let hired = lock(&self.hired);
        let not_working = hired.iter().filter_map(|task| {
            let (name, InARow { panics, last }) = (&task.name, *lock(&task.panics));
            let is_recent = last.is_some_and(|last| last.elapsed() < HEALTHY * 2);
            if panics >= MANY_PANICS && is_recent {
                return Some(format!(
                    "the task {name:?} has panicked {panics} times in a row"
                ));
            }
            let has_ended = task.task.is_finished() && !may_end.contains(&&**name);
            has_ended.then(|| format!("the task {name:?} has ended"))
        });
        not_working.collect()
    }

    /// Starts a task that runs once, also when its handle is dropped.
    pub(crate) fn track<F>(&self, name: impl Into<Arc<str>>, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let place = Roster::enter(&self.roster, name.into());
        let number = place.number();
        let panics = Arc::clone(&self.panics);
        let handle = self.tracker.spawn(async move {
            let result = AssertUnwindSafe(task).catch_unwind().await;
            if let Err(panic) = &result {
                panics.add(1);
                tracing::error!(
                    target: "final::bus",
                    task = place.name(),
                    panic = panic_text(panic.as_ref()),
                    "a task panicked"
                );
            }
            // The handle's owner sees the panic as of any task of tokio.
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        self.roster.seat(number, handle.abort_handle());
        handle
    }

    /// Waits until every task has ended. Tasks left after `limit` are aborted, and their names returned.
    ///
    /// It does not tell them to stop: [`stop`](Self::stop) does.
    pub(crate) async fn join(&self, limit: Duration) -> Vec<Arc<str>> {
        self.tracker.close();
        if timeout(limit, self.tracker.wait()).await.is_ok() {
            return Vec::new();
        }
        let left = self.roster.abort_all();
        if !left.is_empty() {
            tracing::error!(
                target: "final::bus", tasks = ?left, ?limit,
                "tasks did not end in time and were aborted"
            );
        }
        // An aborted task drops what it holds in its next turn of the runtime.
        let _ = timeout(ABORT_LIMIT, self.tracker.wait()).await;
        left
    }
}

async fn supervise<M, F>(name: Arc<str>, make: M, stop: CancellationToken, counts: Panics)
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
        panics = if started.elapsed() < HEALTHY {
            panics.saturating_add(1)
        } else {
            1
        };
        let last = Some(Instant::now());
        *lock(&counts.in_a_row) = InARow { panics, last };
        counts.all.add(1);
        let pause = RESTART.pause(panics);
        let panic = panic_text(panic.as_ref());
        tracing::error!(
            target: "final::bus",
            task = &*name,
            panic,
            ?pause,
            "a task panicked; it is started again"
        );
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

/// The text of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text")
}
