//! What the parts ask a job for, and what can be seen to be wrong with it without a look at the tables.

use std::{sync::Arc, time::Duration};

use final_webhook::Endpoint;

use super::{Job, repair::Repair, scans::Scans};
use crate::{
    compare::Comparison,
    error::{ReconcileError, Reconciled},
    heartbeat::Heartbeat,
    pair::difference::DifferenceKind,
    plan::mapping::Mapping,
    side::Side,
    unit::UnitName,
};

impl Job {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn alerts_to(&self) -> Option<Endpoint> {
        self.alert.clone()
    }

    pub(crate) fn repairs_by(&self) -> Option<Repair> {
        self.repair.clone()
    }

    pub(crate) fn repairs(&self) -> bool {
        self.repair.is_some()
    }

    /// Whether so many rows differ that none is to be repaired.
    pub(crate) fn holds_back(&self, comparison: &Comparison) -> bool {
        self.repair.is_some() && comparison.differences() > self.max_repairs
    }

    /// Where the mirror of a target tells how far it is.
    pub(crate) fn heartbeat(&self, target: &str) -> Option<&Heartbeat> {
        let (_, mapping) = self.named(target).ok()?;
        mapping.heartbeat.as_ref()
    }

    /// A target by its place.
    pub(super) fn named(&self, target: &str) -> Reconciled<&(Side, Mapping)> {
        let mut targets = self.targets.iter();
        let named = targets.find(|(side, _)| side.shown() == target);
        named.ok_or_else(|| {
            self.wrong(
                "this is for a target that the job does not have any more; close its repairs, or name the target again",
            )
        })
    }

    pub(crate) fn scans(&self) -> &Scans {
        &self.scans
    }

    pub(crate) fn settle_time(&self) -> Duration {
        self.settings.settle
    }

    pub(crate) fn most_repairs(&self) -> u64 {
        self.max_repairs
    }

    /// How many rows may wait for a look.
    pub(crate) fn most_waiting(&self) -> u32 {
        self.max_waiting
    }

    /// Whether rows that differ so are repaired.
    pub(crate) fn is_repaired(&self, kind: DifferenceKind) -> bool {
        let repair = self.repair.as_ref();
        repair.is_some_and(|repair| repair.extras || kind != DifferenceKind::Extra)
    }

    /// The places of the targets, and the columns of the source that the mapping names as the key.
    pub(crate) fn places(&self) -> impl Iterator<Item = (String, Vec<String>)> {
        self.targets.iter().map(|(side, mapping)| {
            let columns = mapping.keys.iter().map(|(source, _)| source.clone());
            (side.shown(), columns.collect())
        })
    }

    /// The job with each of its targets.
    pub(crate) fn units(&self) -> Vec<Arc<UnitName>> {
        let source = self.source.as_ref().map(Side::shown).unwrap_or_default();
        let unit = |(target, _): (String, _)| UnitName::new(&self.name, &source, &target);
        self.places().map(unit).map(Arc::new).collect()
    }

    /// The source's table, as the job names it.
    pub(crate) fn source_table(&self) -> &str {
        self.source.as_ref().map_or("", Side::table)
    }

    /// What can be known to be wrong without a look at the tables.
    pub(crate) fn check_scans(&self) -> Reconciled<()> {
        self.check()?;
        let mut places: Vec<String> = self.places().map(|(place, _)| place).collect();
        places.sort();
        if places.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(self.wrong("two of its targets are the same table"));
        }
        if self.max_waiting == 0 {
            return Err(self.wrong(
                "`max_waiting` is zero, so no row could ever be looked at; name the most rows that may wait",
            ));
        }
        let limit = self.alert.as_ref().map(Endpoint::time_limit);
        if let Some(limit) = limit.filter(|limit| *limit > Self::LONGEST_ALERT) {
            return Err(self.wrong(&format!(
                "the endpoint of `alert` has a time limit of {limit:?}, and one of {:?} is the longest; give it a shorter one",
                Self::LONGEST_ALERT
            )));
        }
        match &self.scans.sweep {
            Some(sweep) => sweep.check(&self.name),
            None => Ok(()),
        }
    }

    /// Whether repairs write the target.
    pub(super) fn writes(&self) -> bool {
        self.repair.as_ref().is_some_and(Repair::writes)
    }

    pub(super) fn check(&self) -> Reconciled<()> {
        match (&self.source, self.targets.is_empty()) {
            (None, _) => Err(self.wrong("it has no source: name one by `source`")),
            (_, true) => Err(self.wrong("it has no target: name one by `target`")),
            _ => Ok(()),
        }
    }

    pub(crate) fn wrong(&self, problem: &str) -> ReconcileError {
        ReconcileError::Job {
            job: self.name.clone(),
            problem: problem.into(),
        }
    }
}
