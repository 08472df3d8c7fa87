//! What the judgements of a job rest on, for alerts.
//!
//! Input: the job, and how its scans are. Output: a sentence for a target.

use std::{sync::Arc, time::Duration};

use final_core::database::DbResult;

use super::store::{JobStatus, ScanStore};
use crate::{job::Job, mirror::basis::basis};

/// Tells what judgements rest on.
pub(crate) struct Bases {
    job: Job,
    store: Arc<dyn ScanStore>,
}

impl Bases {
    pub(crate) fn new(job: Job, store: Arc<dyn ScanStore>) -> Self {
        Self { job, store }
    }

    /// What those of a target rest on.
    pub(crate) async fn of(&self, target: &str) -> DbResult<String> {
        let settle = self.job.settle_time();
        let Some(heartbeat) = self.job.heartbeat(target) else {
            return Ok(basis(settle, None, None));
        };
        let all = self
            .store
            .status(self.job.name(), &self.job.units())
            .await?;
        let is_it = |status: &JobStatus| status.is_of_job && status.target == target;
        let lag = all.into_iter().find(is_it);
        let lag = lag.and_then(|status| status.mirror_lag_ms);
        let table = format!("`{}`", heartbeat.table);
        Ok(basis(settle, Some(&table), lag.map(Duration::from_millis)))
    }
}
