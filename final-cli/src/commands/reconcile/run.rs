//! `final reconcile run`: jobs look for differences and repair them, until the program is told to stop.
//!
//! Input: a file with jobs. Output: repairs; a service that the runner starts, asks and stops; an exit code.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use final_core::{BoxError, OnFailure, Router};
use final_reconcile::{Job, ReconcileError, Reconciler, RunningReconciler};
use futures::future::join_all;
use tokio::{sync::Mutex, time::sleep};

use super::{
    bus::{self, AnyBus},
    config::ReconcileConfig,
    file::{FileArgs, no_jobs, no_state, with_state, wrong},
    metrics,
};
use crate::{
    arguments::PlaceArgs,
    config::DatabaseAddress,
    exit::Failure,
    service::{self, Condition, Mistake, RunArgs, Service, ServiceOptions},
};

/// How soon a database of the state that is away is asked again.
const AWAY: Duration = Duration::from_secs(2);

/// What runs, and how.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    file: FileArgs,

    /// With --cupid: the id with which a job begins that has no position yet
    #[arg(long, short, alias = "startId", value_name = "ID")]
    start_id: Option<i64>,

    #[command(flatten)]
    run: RunArgs,
}

impl ServeArgs {
    /// Runs until a signal. It has a runtime and a log of its own.
    pub(super) fn run(self, place: &PlaceArgs) -> Result<ExitCode, Failure> {
        if place.database_url.is_some() || place.context.is_some() {
            return Err(Failure::usage(
                "the file names the databases: leave out --database-url and --context",
            ));
        }
        let jobs = self.file.read(self.start_id)?;
        let options: ServiceOptions = self.run.over(jobs.config.service.clone());
        let args = self.file;
        let file = args.shown();
        let (config, notes) = (jobs.config, jobs.notes);
        let state = checked(&config, &file)?;
        Ok(service::main("reconcile", options, async move || {
            for note in notes {
                tracing::warn!(
                    target: "final::reconcile",
                    note,
                    "cupid's file runs, and something is to be known about it"
                );
            }
            let started = async { Prepared::new(config, &state)?.start(&args).await };
            started
                .await
                .map_err(|failure| error_of_start(&file, &failure))
        }))
    }
}

/// A mistake of the file ends the process with another exit code than a failure.
fn error_of_start(file: &str, failure: &Failure) -> BoxError {
    let (_, line) = failure.end();
    let line = format!("{file}: {}", line.unwrap_or_default());
    match failure {
        Failure::Usage(_) => Mistake::new(line).into(),
        _ => line.into(),
    }
}

/// The database of the state. What can be wrong in the file without a look at a server is found here.
fn checked(config: &ReconcileConfig, file: &str) -> Result<DatabaseAddress, Failure> {
    if config.jobs.is_empty() {
        return Err(Failure::usage(no_jobs(file)));
    }
    for (name, job) in &config.jobs {
        if !job.is_found_by_something() {
            return Err(Failure::usage(format!(
                "{file}: job {name} would find nothing; name one of `fresh_ids`, `updated`, `sweep` and `watch`"
            )));
        }
        if let (Some(key), None) = (job.needs_bus(), &config.bus) {
            return Err(Failure::usage(format!(
                "{file}: `jobs.{name}.{key}` needs a bus; add [bus] with `log` or `rabbitmq`"
            )));
        }
    }
    let state = config.state.as_ref().ok_or_else(|| no_state(file))?;
    Ok(state.database.clone())
}

/// Jobs that have not started.
struct Prepared {
    jobs: Vec<(String, Job)>,
    reconciler: Reconciler,
    bus: Option<Box<dyn AnyBus>>,
    is_over_rabbitmq: bool,
}

impl Prepared {
    /// Nothing is connected yet. It needs a runtime, because each job has its pools.
    fn new(config: ReconcileConfig, state: &DatabaseAddress) -> Result<Self, Failure> {
        let is_over_rabbitmq = config
            .bus
            .as_ref()
            .is_some_and(|bus| bus.rabbitmq.is_some());
        let lease = config.lease();
        let bus = config.bus.map(|bus| bus::open(&bus, state)).transpose();
        let bus = bus.map_err(|error| Failure::usage(error.to_string()))?;
        let mut reconciler = with_state(state)?;
        if let Some(lease) = lease {
            reconciler = reconciler.lease(lease);
        }
        let mut prepared = Self {
            jobs: Vec::new(),
            reconciler,
            bus,
            is_over_rabbitmq,
        };
        for (name, job) in config.jobs {
            let job = job.running_job(&name, prepared.bus.as_deref())?;
            prepared.reconciler = prepared.reconciler.job(job.clone()).map_err(wrong)?;
            prepared.jobs.push((name, job));
        }
        Ok(prepared)
    }

    async fn start(self, args: &FileArgs) -> Result<ReconcileService, Failure> {
        self.look_at_tables(args).await?;
        self.migrate().await?;
        let running = self.reconciler.start();
        let running = running.map_err(|error| match error {
            ReconcileError::Caller { .. } => Failure::doing("the start of the jobs", &error),
            error => wrong(error),
        })?;
        if let Some(bus) = &self.bus {
            let mut router = self.reconciler.watching(Router::new());
            if self.is_over_rabbitmq {
                // Only a log can hold a message.
                router = router.on_failure(OnFailure::DeadLetter);
            }
            bus.start(router).await?;
        }
        Ok(ReconcileService {
            reconciler: self.reconciler,
            running: Mutex::new(Some(running)),
            bus: self.bus,
        })
    }

    /// Makes the tables of the state. A database that is away is waited for, as those of jobs are.
    async fn migrate(&self) -> Result<(), Failure> {
        let mut is_told = false;
        loop {
            match self.reconciler.migrate().await {
                Ok(()) => return Ok(()),
                Err(error) if is_away(&error) => {
                    if !is_told {
                        tracing::warn!(
                            target: "final::reconcile",
                            error = crate::causes::chain(&error),
                            "the database of the state (`state.database`) does not answer; the start waits for it"
                        );
                    }
                    is_told = true;
                    sleep(AWAY).await;
                }
                Err(error) => return Err(Failure::doing("`state.database`", &error)),
            }
        }
    }

    /// Looks whether the tables of all jobs can be compared. All are looked at at once, because one that does not answer
    /// takes its time.
    async fn look_at_tables(&self, args: &FileArgs) -> Result<(), Failure> {
        let looks = self.jobs.iter();
        let looks = looks.map(|(name, job)| async move { (name, job.explain().await) });
        for (name, looked) in join_all(looks).await {
            match looked {
                Ok(_) => {}
                // A database that is away comes back, and its scans wait for it.
                Err(error @ (ReconcileError::Database { .. } | ReconcileError::Row { .. })) => {
                    tracing::warn!(
                        target: "final::reconcile",
                        job = name,
                        error = crate::causes::chain(&error),
                        "the tables of a job cannot be looked at; the job waits for them"
                    );
                }
                Err(error) => return Err(args.failed(name, &error)),
            }
        }
        Ok(())
    }
}

/// Whether a server does not answer. What it refuses is told at once.
fn is_away(error: &ReconcileError) -> bool {
    use sqlx::Error::{Io, PoolTimedOut};
    let ReconcileError::Database { source, .. } = error else {
        return false;
    };
    matches!(source, Io(_) | PoolTimedOut)
}

struct ReconcileService {
    reconciler: Reconciler,
    running: Mutex<Option<RunningReconciler>>,
    bus: Option<Box<dyn AnyBus>>,
}

impl Service for ReconcileService {
    async fn stop(&self) -> Result<(), BoxError> {
        // Repairs that are under way may publish, so the bus stops after them.
        // Probes take the lock as well, and go on meanwhile.
        let running = self.running.lock().await.take();
        if let Some(running) = running {
            running.shutdown().await;
        }
        if let Some(bus) = &self.bus {
            bus.shutdown().await?;
        }
        Ok(())
    }

    async fn condition(&self) -> Condition {
        let mut condition = match &*self.running.lock().await {
            Some(running) => {
                let health = running.health();
                Condition {
                    live: health.is_live(),
                    ready: health.is_ready(),
                    reasons: [health.not_live, health.not_ready].concat(),
                }
            }
            None => Condition::not_ready("the jobs are stopping"),
        };
        if let Some(bus) = &self.bus {
            let health = bus.health().await;
            condition.live &= health.live;
            condition.ready &= health.ready;
            condition.reasons.extend(health.reasons);
        }
        condition
    }

    async fn metrics(&self) -> String {
        let mut text = match &*self.running.lock().await {
            Some(running) => running.metrics(),
            None => String::new(),
        };
        // What a database that is away does not tell is absent.
        if let Ok(jobs) = self.reconciler.jobs().await {
            text.push_str(&metrics::text(&jobs));
        }
        if let Some(bus) = &self.bus {
            text.push_str(&bus.metrics().await);
        }
        text
    }
}
