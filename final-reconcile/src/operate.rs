//! What an operator asks a reconciler for: how its jobs are, open repairs, and what is left over.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use crate::{
    error::ReconcileError,
    job::Job,
    reconciler::Reconciler,
    repair::row::OpenRepair,
    scan::store::{JobStatus, Leftover, Run},
    unit::UnitName,
};

impl Reconciler {
    /// Lets a job go on that has paused, because more rows differed than [`Job::max_repairs`]. Returns how many of its
    /// targets were paused.
    ///
    /// # Errors
    ///
    /// Fails if there is no such job, or the database fails.
    pub async fn resume(&self, job: &str) -> Result<u64, ReconcileError> {
        let resumed = self.scans.resume(&self.known(job)?.units()).await;
        resumed.map_err(|source| self.failed("changing the state of scans in", source))
    }

    /// The targets of all jobs: the name of the job, and the source and the target as [`jobs`](Self::jobs) names them.
    pub fn targets(&self) -> Vec<(String, String, String)> {
        let units = self.jobs.iter().flat_map(Job::units);
        units
            .map(|unit| (unit.job.clone(), unit.source.clone(), unit.target.clone()))
            .collect()
    }

    /// The names of all jobs that the state knows, also those that this reconciler does not have.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn known_jobs(&self) -> Result<Vec<String>, ReconcileError> {
        let names = self.scans.names().await;
        names.map_err(|source| self.failed("reading the state of scans in", source))
    }

    /// How all jobs are. A source or target that was never scanned is not among them. One that a job does not have any more
    /// is among them until it is [forgotten](Self::forget).
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn jobs(&self) -> Result<Vec<JobStatus>, ReconcileError> {
        let mut all = Vec::new();
        for job in &self.jobs {
            let found = self.scans.status(job.name(), &job.units()).await;
            all.extend(
                found.map_err(|source| self.failed("reading the state of scans in", source))?,
            );
            let left = self.leftovers(job.name()).await?.into_iter();
            let unscanned = left.filter(|left| left.positions == 0);
            all.extend(unscanned.map(Leftover::status));
        }
        Ok(all)
    }

    /// What the scans of a job have compared, the newest first: each sweep, and each hour of the other scans.
    ///
    /// # Errors
    ///
    /// As [`resume`](Self::resume).
    pub async fn runs(&self, job: &str, most: u32) -> Result<Vec<Run>, ReconcileError> {
        let runs = self.scans.runs(&self.known(job)?.units(), most).await;
        runs.map_err(|source| self.failed("reading the runs of scans in", source))
    }

    /// What the state has of sources and targets that a job does not have any more: positions, rows that wait, runs, repairs,
    /// alerts. Of a job that this reconciler does not have it is all that there is.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn leftovers(&self, job: &str) -> Result<Vec<Leftover>, ReconcileError> {
        let found = self.scans.leftovers(job, &self.units(job)).await;
        found.map_err(|source| self.failed("reading the state of scans in", source))
    }

    /// Removes what the state has of a source or target, if nothing has run there for as long as `idle`. Returns whether it
    /// did. What a process runs now stays in any case, and so does what a job of this reconciler has.
    ///
    /// Another configuration that is stopped looks like a leftover. An `idle` of an hour lets it be away for a restart.
    ///
    /// # Errors
    ///
    /// Fails if the database does. Some of it may be removed by then, and the next call goes on.
    pub async fn forget(
        &self,
        leftover: &Leftover,
        idle: Duration,
    ) -> Result<bool, ReconcileError> {
        let mut units = self.jobs.iter().flat_map(Job::units);
        if units.any(|unit| unit.name == leftover.unit) {
            return Ok(false);
        }
        let forgotten = self.scans.forget(leftover, idle).await;
        forgotten.map_err(|source| self.failed("changing the state of scans in", source))
    }

    /// The open repairs of a job: first those of its sources and targets, then those of others, each the oldest first. Any
    /// job that the state knows can be named.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn repairs(&self, job: &str, most: u32) -> Result<Vec<OpenRepair>, ReconcileError> {
        let units = self.units(job);
        let rows = self.store.list(job, &units, most).await;
        let rows = rows.map_err(|source| self.failed("listing repairs of", source))?;
        let is_ours = |unit: &str| units.iter().any(|known| known.name == unit);
        let others = match rows.iter().all(|row| is_ours(&row.unit)) {
            true => Vec::new(),
            false => self.leftovers(job).await?,
        };
        let runs = |unit: &str| {
            let mut others = others.iter();
            others.any(|left| left.unit == unit && left.is_running)
        };
        let shown = rows.into_iter().map(|row| {
            let (is_ours, runs) = (is_ours(&row.unit), runs(&row.unit));
            row.shown(is_ours, runs)
        });
        Ok(shown.collect())
    }

    /// Makes open repairs of a job due at once: one of them, or all of its sources and targets. Returns how many.
    ///
    /// # Errors
    ///
    /// As [`resume`](Self::resume).
    pub async fn retry(&self, job: &str, id: Option<Uuid>) -> Result<u64, ReconcileError> {
        let job = self.known(job)?;
        let retried = match id {
            Some(id) => self.store.retry(job.name(), id).await,
            None => self.store.retry_all(&job.units()).await,
        };
        retried.map_err(|source| self.failed("changing repairs of", source))
    }

    /// Removes an open repair that is not to be done. Whether it was there. Any job that the state knows can be named.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn close(&self, job: &str, id: Uuid) -> Result<bool, ReconcileError> {
        let closed = self.store.close(job, id).await;
        let closed = closed.map_err(|source| self.failed("closing repairs of", source))?;
        Ok(closed > 0)
    }

    /// The units of a job; none of one that this reconciler does not have.
    fn units(&self, job: &str) -> Vec<Arc<UnitName>> {
        let job = self.jobs.iter().find(|known| known.name() == job);
        job.map(Job::units).unwrap_or_default()
    }
}
