//! Jobs with a memory: what a comparison finds becomes repairs, which are tried until they are done.
//!
//! Input: jobs, and a database for their state. State: the tables of open repairs and of scans. Output: comparisons; a
//! [`RunningReconciler`] with its tasks.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use final_capture::change::Changes;
use final_core::{Router, database::Driver};
use final_webhook::Caller;
use sqlx::Pool;

use crate::{
    alert::{
        store::{AlertStore, SqlAlerts},
        teller::Teller,
    },
    compare::{Comparison, Walked},
    error::ReconcileError,
    job::Job,
    repair::{store::RepairStore, worker::Worker},
    running::{RunningReconciler, Tasks},
    scan::{
        basis::Bases,
        room::Rooms,
        store::ScanStore,
        term::{self, Unit},
        vitals::SharedVitals,
        watch::{WatchedUnit, Watcher},
    },
    state::{SqlState, migrate::of_an_earlier_state},
    unit::UnitName,
};

/// How long a process has the scans of a job without a sign of life.
const LEASE: Duration = Duration::from_secs(30);

/// Jobs, and the database in which their repairs and positions are kept.
///
/// Several processes may have the same jobs and the same database: a repair is tried by one of them at a time, and the scans of a job run in one of them.
///
/// ```no_run
/// use std::time::Duration;
///
/// use final_reconcile::{Job, Reconciler, Repair, Side, Sweep};
/// use final_webhook::Endpoint;
///
/// # async fn run(shop: sqlx::MySqlPool, search: sqlx::PgPool, state: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
/// let users = Job::new("users")
///     .source(Side::mysql(shop, "user"))
///     .target(Side::postgres(search, "user_copy"), |map| map)
///     .repair(Repair::callback(Endpoint::new("https://shop.example/repair")?))
///     .fresh_ids(Duration::from_secs(2))
///     .sweep(Sweep::daily_at(3, 0).rows_per_second(20_000))
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
    pub(crate) store: Arc<dyn RepairStore>,
    pub(crate) scans: Arc<dyn ScanStore>,
    lease: Duration,
    alerts: Arc<dyn AlertStore>,
    rooms: Rooms,
    pub(crate) jobs: Vec<Job>,
    caller: Option<Caller>,
}

impl Reconciler {
    /// Without jobs. The tables of repairs and of scans are in the database of this pool.
    pub fn new<DB: Driver>(state: &Pool<DB>) -> Self {
        let store = Arc::new(SqlState::new(state));
        Self {
            scans: Arc::clone(&store) as Arc<dyn ScanStore>,
            store,
            lease: LEASE,
            alerts: Arc::new(SqlAlerts::new(state)),
            rooms: Rooms::default(),
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

    /// How long a process has the scans of a job without a sign of life; 30 s by default. Then another one takes over.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(Duration::from_millis(500));
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

    /// Makes the tables of repairs and of scans. Those of this release stay as they are.
    ///
    /// # Errors
    ///
    /// Fails if the database does, and if an earlier state of the release has made the tables. The error has the statements
    /// that remove them.
    pub async fn migrate(&self) -> Result<(), ReconcileError> {
        let made = self.store.migrate().await;
        match made.map_err(|source| self.failed("making", source))? {
            true => Ok(()),
            false => Err(ReconcileError::State {
                side: self.store.to_string(),
                problem: of_an_earlier_state(),
            }),
        }
    }

    /// Compares the tables of a job, and opens a repair for each row that differs, if the job repairs. If more rows differ
    /// than [`Job::max_repairs`], or if the job is paused, none is opened for that target, and [`Comparison::held_back`] says so.
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
            let unit = UnitName::new(job.name(), &comparison.source, &comparison.target);
            let is_paused = job.repairs() && self.is_paused(&unit).await?;
            comparison.held_back = is_paused || job.holds_back(&comparison);
            if is_paused {
                tracing::warn!(
                    target: "final::reconcile",
                    job = job.name(),
                    copy = comparison.target,
                    differences = comparison.differences(),
                    "the job is paused, so no row is repaired until somebody resumes it"
                );
            } else if comparison.held_back {
                tracing::warn!(
                    target: "final::reconcile",
                    job = job.name(),
                    copy = comparison.target,
                    differences = comparison.differences(),
                    "more rows differ than a run may repair, so none is repaired; this looks like a wrong mapping"
                );
            } else if !rows.is_empty() {
                let opened = self.store.open(&unit, &rows).await;
                opened.map_err(|source| self.failed("opening repairs in", source))?;
                comparison.repairs = rows.len() as u64;
            }
            all.push(comparison);
        }
        Ok(all)
    }

    /// Begins to scan and to repair: one task for each job that has a [`Repair`](crate::Repair), one for each target, which
    /// scans it or only says that the job runs, and one for the [alerts](Job::alert) of each job that has them.
    ///
    /// # Errors
    ///
    /// Fails if a job says something that cannot be meant, or if TLS cannot be set up. What can only be seen at the tables,
    /// such as a key that is no number, is a trouble that [`jobs`](Self::jobs) tells.
    pub fn start(&self) -> Result<RunningReconciler, ReconcileError> {
        for job in &self.jobs {
            job.check_scans()?;
        }
        let caller = match &self.caller {
            Some(caller) => caller.clone(),
            None => Caller::new()?,
        };
        let (mut tasks, vitals) = (Tasks::default(), SharedVitals::default());
        for job in &self.jobs {
            if let Some(endpoint) = job.alerts_to() {
                let units = job.units();
                let (job, store) = (job.clone(), Arc::clone(&self.alerts));
                let (scans, caller) = (Arc::clone(&self.scans), caller.clone());
                tasks.spawn("alerts", move |stop| {
                    let (store, caller) = (Arc::clone(&store), caller.clone());
                    let bases = Bases::new(job.clone(), Arc::clone(&scans));
                    let (units, endpoint) = (units.clone(), endpoint.clone());
                    Teller::new(job.name(), units, bases, endpoint, store, caller).run(stop)
                });
            }
            if let Some(repair) = job.repairs_by() {
                let (job, store, caller) = (job.clone(), Arc::clone(&self.store), caller.clone());
                tasks.spawn("repairs", move |stop| {
                    let (job, repair) = (job.clone(), repair.clone());
                    Worker::new(job, repair, Arc::clone(&store), caller.clone()).run(stop)
                });
            }
            for name in job.units() {
                let unit = Arc::new(Unit {
                    name,
                    job: job.clone(),
                    store: Arc::clone(&self.scans),
                    vitals: Arc::clone(&vitals),
                    lease: self.lease,
                });
                tasks.spawn("scans", move |stop| term::run(Arc::clone(&unit), stop));
            }
        }
        Ok(RunningReconciler::new(tasks, vitals, self.rooms.clone()))
    }

    /// Adds a handler for each topic that a job [watches](Job::watch). It writes the key of each change down before the
    /// message is done; the scans of the job look at it later, in whatever process they run.
    ///
    /// Once [`Job::max_waiting`] rows of a target wait for a look, the handlers of its topics wait until there is room. So what
    /// comes stays in the log or the queue. `concurrency` handlers wait at most, and a topic of the same bus waits behind
    /// them: give a job that must not wait for another one a bus of its own.
    ///
    /// A message that cannot be handled is held, as all changes are. Only the log can hold: over RabbitMQ the router needs
    /// [`on_failure`](Router::on_failure).
    ///
    /// ```no_run
    /// # async fn run(shop: sqlx::PgPool, search: sqlx::PgPool, state: sqlx::PgPool) -> Result<(), final_reconcile::ReconcileError> {
    /// use final_core::Router;
    /// use final_reconcile::{Job, Reconciler, Side};
    ///
    /// let users = Job::new("users")
    ///     .source(Side::postgres(shop, "user"))
    ///     .target(Side::postgres(search, "user_copy"), |map| map)
    ///     .watch("cdc.shop.user");
    /// let reconciler = Reconciler::new(&state).job(users)?;
    /// let router: Router = reconciler.watching(Router::new());
    /// # let _ = router;
    /// # Ok(())
    /// # }
    /// ```
    pub fn watching<S: Send + Sync + 'static>(&self, mut router: Router<S>) -> Router<S> {
        let mut topics: BTreeMap<&str, Vec<WatchedUnit>> = BTreeMap::new();
        for job in &self.jobs {
            for topic in &job.scans().topics {
                let units = topics.entry(topic).or_default();
                let named = job.units().into_iter().zip(job.places());
                units.extend(named.map(|(name, (target, columns))| WatchedUnit {
                    room: self.rooms.of(&name, job.most_waiting()),
                    name,
                    table: job.source_table().to_owned(),
                    columns,
                    settle: job.settle_time(),
                    has_heartbeat: job.heartbeat(&target).is_some(),
                }));
            }
        }
        for (topic, units) in topics {
            let watcher = Watcher::new(units, Arc::clone(&self.scans));
            router = router.route(topic, move |changes: Changes| {
                let watcher = watcher.clone();
                async move { watcher.take(changes).await }
            });
        }
        router
    }

    async fn is_paused(&self, unit: &UnitName) -> Result<bool, ReconcileError> {
        let standing = self.scans.standing(unit).await;
        let standing =
            standing.map_err(|source| self.failed("reading the state of scans in", source))?;
        Ok(standing.is_some_and(|standing| standing.paused.is_some()))
    }

    pub(crate) fn known(&self, name: &str) -> Result<&Job, ReconcileError> {
        let job = self.jobs.iter().find(|job| job.name() == name);
        job.ok_or_else(|| ReconcileError::Job {
            job: name.to_owned(),
            problem: "there is no such job".into(),
        })
    }

    pub(crate) fn failed(&self, doing: &'static str, source: sqlx::Error) -> ReconcileError {
        ReconcileError::Database {
            doing,
            side: self.store.to_string(),
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
