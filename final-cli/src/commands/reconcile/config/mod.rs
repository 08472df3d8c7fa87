//! The file with jobs of comparison.
//!
//! Input: TOML. Output: [`ReconcileConfig`], and a [`Job`] for each entry. A key that is not known is an error that names
//! its line.
//!
//! | part | has |
//! | --- | --- |
//! | [`mapping`] | targets and their columns |
//! | [`scans`] | how differences are found while the service runs |
//! | [`repair`] | what is done about them, and who is told |
//! | [`endpoint`] | what is called over HTTP |
//! | [`lease`] | how long a process keeps what it has without a sign of life |

mod endpoint;
mod lease;
mod mapping;
mod repair;
mod scans;

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use final_reconcile::Job;
use serde::Deserialize;

use self::{
    endpoint::AlertConfig,
    lease::ScanLease,
    mapping::TargetConfig,
    repair::RepairConfig,
    scans::{FreshConfig, SweepConfig, UpdatedConfig},
};
use super::{
    bus::{AnyBus, BusConfig},
    sides::side,
};
use crate::{
    config::{DatabaseAddress, Period},
    exit::Failure,
    service::ServiceOptions,
};

/// What the file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReconcileConfig {
    #[serde(default)]
    pub(super) jobs: BTreeMap<String, JobConfig>,
    /// Where open repairs and positions are.
    #[serde(default)]
    pub(super) state: Option<StateConfig>,
    /// Where messages come from, and where repairs are published.
    #[serde(default)]
    pub(super) bus: Option<BusConfig>,
    /// How long a process that is gone keeps the scans of a job from the others.
    #[serde(default)]
    lease: Option<ScanLease>,
    #[serde(default)]
    pub(super) service: ServiceOptions,
}

/// The database of what has to outlive the process.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StateConfig {
    pub(super) database: DatabaseAddress,
}

/// A source and its targets.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JobConfig {
    source: TableConfig,
    targets: Vec<TargetConfig>,
    /// How long the copies may take to follow.
    #[serde(default)]
    settle: Option<Period>,
    #[serde(default)]
    fresh_ids: Option<FreshConfig>,
    #[serde(default)]
    updated: Option<UpdatedConfig>,
    #[serde(default)]
    sweep: Option<SweepConfig>,
    /// The topic with changes of the source.
    #[serde(default)]
    watch: Option<String>,
    #[serde(default)]
    repair: Option<RepairConfig>,
    /// How many rows a run may repair.
    #[serde(default)]
    max_repairs: Option<u64>,
    /// How many rows of a target may wait for a look.
    #[serde(default)]
    max_waiting: Option<NonZeroU32>,
    /// Who is told of trouble.
    #[serde(default)]
    alert: Option<AlertConfig>,
}

/// A table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableConfig {
    database: DatabaseAddress,
    table: String,
}

impl ReconcileConfig {
    /// How long a process keeps the scans of a job without a sign of life. None if it is as long as the library has it.
    pub(super) fn lease(&self) -> Option<Duration> {
        self.lease.map(|lease| lease.0)
    }
}

impl JobConfig {
    /// Whether it needs a bus, and for which key.
    pub(super) fn needs_bus(&self) -> Option<&'static str> {
        match &self.repair {
            _ if self.watch.is_some() => Some("watch"),
            Some(repair) if repair.is_published() => Some("repair.publish"),
            _ => None,
        }
    }

    /// Whether it would do anything while the service runs.
    pub(super) fn is_found_by_something(&self) -> bool {
        self.fresh_ids.is_some()
            || self.updated.is_some()
            || self.sweep.is_some()
            || self.watch.is_some()
    }

    /// The job of this name: its tables, and how they are compared.
    pub(super) fn job(self, name: &str) -> Result<Job, Failure> {
        let mut job = Job::new(name).source(side(name, &self.source.database, &self.source.table)?);
        if let Some(settle) = self.settle {
            job = job.settle(settle.0);
        }
        for target in self.targets {
            job = target.of(job, name)?;
        }
        Ok(job)
    }

    /// The same, with how differences are found and what is done about them.
    pub(super) fn running_job(
        mut self,
        name: &str,
        bus: Option<&dyn AnyBus>,
    ) -> Result<Job, Failure> {
        let repair = self.repair.take();
        let alert = self.alert.take();
        let (most, most_waiting) = (self.max_repairs, self.max_waiting);
        let (fresh, updated) = (self.fresh_ids.take(), self.updated.take());
        let (sweep, watch) = (self.sweep.take(), self.watch.take());
        let mut job = self.job(name)?;
        if let Some(fresh) = fresh {
            job = fresh.of(job);
        }
        if let Some(updated) = updated {
            job = updated.of(job);
        }
        if let Some(sweep) = sweep {
            job = job.sweep(sweep.sweep());
        }
        if let Some(topic) = watch {
            job = job.watch(topic);
        }
        if let Some(repair) = repair {
            job = job.repair(repair.repair(bus)?);
        }
        if let Some(most) = most {
            job = job.max_repairs(most);
        }
        if let Some(most) = most_waiting {
            job = job.max_waiting(most.get());
        }
        if let Some(alert) = alert {
            job = job.alert(alert.0);
        }
        Ok(job)
    }
}

#[cfg(test)]
mod tests;
