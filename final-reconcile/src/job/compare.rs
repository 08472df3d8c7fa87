//! What a job does by itself: it says what it would do, and it compares.
//!
//! Input: the tables as they are described now. Output: an [`Explanation`] without a look at a row, or [`Comparison`]s; for
//! scans and repairs both tables, ready to be read.

use super::{Job, explain::Explanation};
use crate::{
    compare::{Compared, Comparison, Settings, Walked, compare},
    error::{ReconcileError, Reconciled},
    mirror::Pulse,
    pair::difference::RowDifference,
    plan::{Plan, mapping::Mapping},
    side::Side,
};

impl Job {
    /// What would be compared, and by which statements. No row of the tables is read. The [heartbeat](Mapping::heartbeat) of a
    /// mirror is read once.
    ///
    /// # Errors
    ///
    /// Fails if a database does, and if the tables cannot be compared: no such column, no unique index for the key, two
    /// types without a common form, or columns that a scan cannot go by. It fails as well if a heartbeat has several rows and
    /// none is named, or a text that is no time.
    pub async fn explain(&self) -> Result<Explanation, ReconcileError> {
        let mut explanation = Explanation::new(&self.name);
        for (target, mapping) in &self.targets {
            let (source, plan) = self.plan(target, mapping).await?;
            self.scans.fit(&plan.source)?;
            let pulse = pulse(&source, &plan, target, mapping).await?;
            if let Some(pulse) = &pulse {
                // What only its row can tell to be wrong is told before anything runs.
                pulse.look().await?;
            }
            explanation.add(&source, target, plan, pulse.as_ref(), self.writes());
        }
        self.check()?;
        Ok(explanation)
    }

    /// Compares the source with each target, one after the other.
    ///
    /// Safe to drop at any time: nothing is written anywhere.
    ///
    /// # Errors
    ///
    /// As [`explain`](Self::explain), and if rows have no key or a database fails meanwhile.
    pub async fn compare(&self) -> Result<Vec<Comparison>, ReconcileError> {
        self.compare_with(|_| {}).await
    }

    /// The same. `walked` is called after each chunk.
    ///
    /// # Errors
    ///
    /// As [`compare`](Self::compare).
    pub async fn compare_with(
        &self,
        mut walked: impl FnMut(&Walked) + Send,
    ) -> Result<Vec<Comparison>, ReconcileError> {
        let compared = self.walk(&self.settings, &mut walked).await?;
        Ok(compared
            .into_iter()
            .map(|compared| compared.comparison)
            .collect())
    }

    /// The same, with the rows to be repaired.
    pub(crate) async fn compare_for_repair(
        &self,
        mut walked: impl FnMut(&Walked) + Send,
    ) -> Reconciled<Vec<(Comparison, Vec<RowDifference>)>> {
        let mut settings = self.settings.clone();
        if self.repair.is_some() {
            settings.keep = usize::try_from(self.max_repairs).unwrap_or(usize::MAX);
        }
        let compared = self.walk(&settings, &mut walked).await?;
        let to_repair = |rows: Vec<RowDifference>| {
            let rows = rows.into_iter();
            rows.filter(|row| self.is_repaired(row.kind)).collect()
        };
        Ok(compared
            .into_iter()
            .map(|compared| (compared.comparison, to_repair(compared.rows)))
            .collect())
    }

    async fn walk(
        &self,
        settings: &Settings,
        walked: &mut (dyn FnMut(&Walked) + Send),
    ) -> Reconciled<Vec<Compared>> {
        self.check()?;
        let mut all = Vec::with_capacity(self.targets.len());
        for (target, mapping) in &self.targets {
            let (source, plan) = self.plan(target, mapping).await?;
            let pulse = pulse(&source, &plan, target, mapping).await?;
            let (sides, pulse) = ((&source, target), pulse.as_ref());
            let compared = compare(&self.name, sides, plan, pulse, settings, walked);
            all.push(compared.await?);
        }
        Ok(all)
    }

    /// Both tables as they are described now, the target by its place, and where its mirror tells how far it is.
    pub(crate) async fn tables(
        &self,
        target: &str,
    ) -> Reconciled<(Side, Side, Plan, Option<Pulse>)> {
        let (side, mapping) = self.named(target)?;
        let (source, plan) = self.plan(side, mapping).await?;
        let pulse = pulse(&source, &plan, side, mapping).await?;
        Ok((source, side.clone(), plan, pulse))
    }

    async fn plan(&self, target: &Side, mapping: &Mapping) -> Reconciled<(Side, Plan)> {
        let Some(source) = self.source.clone() else {
            return Err(self.wrong("it has no source: name one by `source`"));
        };
        let (of_source, of_target) = tokio::try_join!(source.describe(), target.describe())?;
        let plan = Plan::new(of_source, of_target, mapping)?;
        if self.writes() {
            plan.check_written()?;
        }
        Ok((source, plan))
    }
}

/// Where the mirror of a target tells how far it is.
async fn pulse(
    source: &Side,
    plan: &Plan,
    target: &Side,
    mapping: &Mapping,
) -> Reconciled<Option<Pulse>> {
    match &mapping.heartbeat {
        None => Ok(None),
        Some(heartbeat) => Pulse::new(heartbeat, (source, &plan.source), target)
            .await
            .map(Some),
    }
}
