//! Jobs with a memory: what a comparison finds becomes repairs, which are tried until they are done.
//!
//! Input: jobs, and a database for their state. State: the table of open repairs. Output: comparisons; a
//! [`RunningRepairs`] with one task for each job.

use std::{fmt, sync::Arc, time::Duration};

use final_core::database::Driver;
use final_webhook::{Caller, CallerError};
use sqlx::Pool;
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    compare::{Comparison, Walked},
    error::ReconcileError,
    job::Job,
    repair::{
        OpenRepair,
        store::{RepairStore, SqlRepairs},
        worker::Worker,
    },
};

/// How long a task that panicked rests.
const REST: Duration = Duration::from_secs(1);

/// Jobs, and the database in which their repairs are kept.
///
/// Several processes may have the same jobs and the same database: a repair is tried by one of them at a time.
///
/// ```no_run
/// use final_reconcile::{Job, Reconciler, Repair, Side};
/// use final_webhook::Endpoint;
///
/// # async fn run(shop: sqlx::MySqlPool, search: sqlx::PgPool, state: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
/// let users = Job::new("users")
///     .source(Side::mysql(shop, "user"))
///     .target(Side::postgres(search, "user_copy"), |map| map)
///     .repair(Repair::callback(Endpoint::new("https://shop.example/repair")?))
///     .max_repairs(1_000);
/// let reconciler = Reconciler::new(&state).job(users)?;
/// reconciler.migrate().await?;
/// let running = reconciler.start()?;
/// let comparisons = reconciler.compare("users").await?;
/// running.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Reconciler {
    store: Arc<dyn RepairStore>,
    jobs: Vec<Job>,
    caller: Option<Caller>,
}

impl Reconciler {
    /// Without jobs. The table of repairs is in the database of this pool.
    pub fn new<DB: Driver>(state: &Pool<DB>) -> Self {
        Self {
            store: Arc::new(SqlRepairs::new(state)),
            jobs: Vec::new(),
            caller: None,
        }
    }

    /// Calls endpoints by this caller, in place of one with the default limits.
    #[must_use]
    pub fn caller(mut self, caller: Caller) -> Self {
        self.caller = Some(caller);
        self
    }

    /// Adds a job.
    ///
    /// # Errors
    ///
    /// Fails if there is one of this name already: their repairs could not be told apart.
    pub fn job(mut self, job: Job) -> Result<Self, ReconcileError> {
        if self.jobs.iter().any(|other| other.name() == job.name()) {
            return Err(job.wrong("there are two jobs of this name; give one another name"));
        }
        self.jobs.push(job);
        Ok(self)
    }

    /// Makes the table of repairs, or brings it to the version of this release.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn migrate(&self) -> Result<(), ReconcileError> {
        let made = self.store.migrate().await;
        made.map_err(|source| self.failed("making", source))
    }

    /// Compares the tables of a job, and opens a repair for each row that differs, if the job repairs. If more rows differ
    /// than [`Job::max_repairs`], none is opened for that target, and [`Comparison::held_back`] says so.
    ///
    /// # Errors
    ///
    /// As [`Job::compare`], and if there is no such job or the repairs cannot be written.
    pub async fn compare(&self, job: &str) -> Result<Vec<Comparison>, ReconcileError> {
        self.compare_with(job, |_| {}).await
    }

    /// The same. `walked` is called after each chunk.
    ///
    /// # Errors
    ///
    /// As [`compare`](Self::compare).
    pub async fn compare_with(
        &self,
        job: &str,
        walked: impl FnMut(&Walked) + Send,
    ) -> Result<Vec<Comparison>, ReconcileError> {
        let job = self.known(job)?;
        let mut all = Vec::new();
        for (mut comparison, rows) in job.compare_for_repair(walked).await? {
            comparison.held_back = job.holds_back(&comparison);
            if comparison.held_back {
                tracing::warn!(
                    target: "final::reconcile",
                    job = job.name(),
                    copy = comparison.target,
                    differences = comparison.differences(),
                    "more rows differ than a run may repair, so none is repaired; this looks like a wrong mapping"
                );
            } else if !rows.is_empty() {
                let opened = self.store.open(job.name(), &comparison.target, &rows).await;
                opened.map_err(|source| self.failed("opening repairs in", source))?;
                comparison.repairs = rows.len() as u64;
            }
            all.push(comparison);
        }
        Ok(all)
    }

    /// Begins to repair: one task for each job that has a [`Repair`](crate::Repair).
    ///
    /// # Errors
    ///
    /// Fails if TLS cannot be set up.
    pub fn start(&self) -> Result<RunningRepairs, CallerError> {
        let caller = match &self.caller {
            Some(caller) => caller.clone(),
            None => Caller::new()?,
        };
        let stop = CancellationToken::new();
        let mut tasks = Vec::new();
        for job in &self.jobs {
            let Some(repair) = job.repairs_by() else {
                continue;
            };
            let (job, store, caller) = (job.clone(), Arc::clone(&self.store), caller.clone());
            let worker = move || {
                let (job, repair) = (job.clone(), repair.clone());
                Worker::new(job, repair, Arc::clone(&store), caller.clone())
            };
            tasks.push(tokio::spawn(watched(worker, stop.clone())));
        }
        Ok(RunningRepairs { stop, tasks })
    }

    /// The open repairs of a job, the oldest first.
    ///
    /// # Errors
    ///
    /// Fails if there is no such job, or the database fails.
    pub async fn repairs(&self, job: &str, most: u32) -> Result<Vec<OpenRepair>, ReconcileError> {
        let rows = self.store.list(self.known(job)?.name(), most).await;
        let rows = rows.map_err(|source| self.failed("listing repairs of", source))?;
        Ok(rows.into_iter().map(|row| row.shown()).collect())
    }

    /// Makes open repairs of a job due at once: one of them, or all. Returns how many.
    ///
    /// # Errors
    ///
    /// As [`repairs`](Self::repairs).
    pub async fn retry(&self, job: &str, id: Option<Uuid>) -> Result<u64, ReconcileError> {
        let retried = self.store.retry(self.known(job)?.name(), id).await;
        retried.map_err(|source| self.failed("changing repairs of", source))
    }

    /// Removes an open repair that is not to be done. Whether it was there.
    ///
    /// # Errors
    ///
    /// As [`repairs`](Self::repairs).
    pub async fn close(&self, job: &str, id: Uuid) -> Result<bool, ReconcileError> {
        let closed = self.store.close(self.known(job)?.name(), id).await;
        let closed = closed.map_err(|source| self.failed("closing repairs of", source))?;
        Ok(closed > 0)
    }

    fn known(&self, name: &str) -> Result<&Job, ReconcileError> {
        let job = self.jobs.iter().find(|job| job.name() == name);
        job.ok_or_else(|| ReconcileError::Job {
            job: name.to_owned(),
            problem: "there is no such job".into(),
        })
    }

    fn failed(&self, doing: &'static str, source: sqlx::Error) -> ReconcileError {
        ReconcileError::Database {
            doing,
            side: format!("{:?}", self.store),
            source,
        }
    }
}

impl fmt::Debug for Reconciler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconciler")
            .field("store", &self.store)
            .field("jobs", &self.jobs)
            .finish_non_exhaustive()
    }
}

/// Runs a worker, and a new one after a panic.
async fn watched(worker: impl Fn() -> Worker, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let task = tokio::spawn(worker().run(stop.clone()));
        if let Err(error) = task.await
            && error.is_panic()
        {
            tracing::error!(
                target: "final::reconcile",
                %error,
                "the task that repairs has panicked; it begins again"
            );
            sleep(REST).await;
        }
    }
}

/// Repairs that go on until they are told to stop.
#[derive(Debug)]
pub struct RunningRepairs {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl RunningRepairs {
    /// Stops. Calls that are under way end first, within the time limit of their endpoint.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        for task in self.tasks.drain(..) {
            // A task that was cut off has nothing to say.
            let _ = task.await;
        }
    }
}

impl Drop for RunningRepairs {
    /// Tells the tasks to stop, without waiting for them.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
