//! A job: a source, its targets, and how their columns belong together.
//!
//! Input: what the caller says. Output: an [`Explanation`] without a look at a row, or [`Comparison`]s.

use std::{sync::Arc, time::Duration};

use final_webhook::Endpoint;

use crate::{
    compare::{
        Compared, Comparison, DifferenceKind, RowDifference, Settings, Sides, Walked, compare,
    },
    error::{ReconcileError, Reconciled},
    explain::Explanation,
    heartbeat::Heartbeat,
    mirror::Pulse,
    plan::{Plan, mapping::Mapping},
    repair::Repair,
    scan::{FreshScan, Scans, UpdatedScan, schedule::Sweep},
    side::Side,
    unit::UnitName,
};

/// A source table and the tables that are to agree with it.
///
/// ```no_run
/// use final_reconcile::{Job, Mapped, Side};
///
/// # async fn run(shop: sqlx::MySqlPool, search: sqlx::PgPool) -> Result<(), final_reconcile::ReconcileError> {
/// let users = Job::new("users")
///     .source(Side::mysql(shop, "user"))
///     .target(Side::postgres(search, "user_copy"), |map| {
///         map.key("id", "number")
///             .same(["name", "avatar"])
///             .column("amount", Mapped::to("amount_eur").decimal(2))
///     });
/// println!("{}", users.explain().await?);
/// for comparison in users.compare().await? {
///     println!("{comparison}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Job {
    name: String,
    source: Option<Side>,
    targets: Vec<(Side, Mapping)>,
    settings: Settings,
    repair: Option<Repair>,
    max_repairs: u64,
    scans: Scans,
    alert: Option<Endpoint>,
}

impl Job {
    /// A job of this name, which reports and logs have.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            source: None,
            targets: Vec::new(),
            settings: Settings::default(),
            repair: None,
            max_repairs: 1_000,
            scans: Scans::default(),
            alert: None,
        }
    }

    /// The table that is right.
    #[must_use]
    pub fn source(mut self, side: Side) -> Self {
        self.source = Some(side);
        self
    }

    /// A table that is to agree with the source.
    #[must_use]
    pub fn target(mut self, side: Side, map: impl FnOnce(Mapping) -> Mapping) -> Self {
        self.targets.push((side, map(Mapping::default())));
        self
    }

    /// How long a copy may take to follow its source; 2 s by default. A difference counts only if neither row has changed
    /// for twice this time. It has to be longer than the copy lags: zero is for tables in which nothing is written.
    ///
    /// For a target with a [heartbeat](Mapping::heartbeat) it is how long a change may stay behind a later one in the mirror.
    /// Zero is for a mirror that brings all changes in their order.
    #[must_use]
    pub fn settle(mut self, settle: Duration) -> Self {
        self.settings.settle = settle;
        self
    }

    /// How many differences a [`Comparison`] describes; 20 by default. All are counted.
    #[must_use]
    pub fn examples(mut self, examples: usize) -> Self {
        self.settings.examples = examples;
        self
    }

    /// Whether examples have the values that differ, and not only the names of the columns. They are what the tables
    /// hold, so a report with them must go only to a reader who may see the tables.
    #[must_use]
    pub fn show_values(mut self, show: bool) -> Self {
        self.settings.values = show;
        self
    }

    /// What a [`Reconciler`](crate::Reconciler) does about differences. [`compare`](Self::compare) only reports them.
    #[must_use]
    pub fn repair(mut self, repair: Repair) -> Self {
        self.repair = Some(repair);
        self
    }

    /// How many rows of a target one run may repair; 1,000 by default. More look like a wrong mapping. If more differ in a
    /// comparison, none is repaired. If scans find more within an hour, the job pauses until it is
    /// [resumed](crate::Reconciler::resume).
    #[must_use]
    pub fn max_repairs(mut self, most: u64) -> Self {
        self.max_repairs = most;
        self
    }

    /// Compares rows with new keys, so often. The key has to be one whole number that grows. A row is compared when its id
    /// was the newest for as long as the copy may take ([`settle`](Self::settle)).
    ///
    /// A job without a stored position begins 10,000 ids before the newest one; [`first_id`](Self::first_id) names another
    /// one.
    #[must_use]
    pub fn fresh_ids(self, every: Duration) -> Self {
        self.fresh(every, None)
    }

    /// The same by another column of the source, which has whole numbers that grow. It should have an index.
    #[must_use]
    pub fn fresh_ids_by(self, column: impl Into<String>, every: Duration) -> Self {
        self.fresh(every, Some(column.into()))
    }

    fn fresh(mut self, every: Duration, column: Option<String>) -> Self {
        let first = self.scans.fresh.and_then(|fresh| fresh.first);
        self.scans.fresh = Some(FreshScan {
            every,
            column,
            first,
        });
        self
    }

    /// The id at which a job without a stored position begins. Without [`fresh_ids`](Self::fresh_ids) before it, it says
    /// nothing.
    #[must_use]
    pub fn first_id(mut self, id: i64) -> Self {
        if let Some(fresh) = &mut self.scans.fresh {
            fresh.first = Some(id);
        }
        self
    }

    /// How much later than others an id may become visible, because its transaction is long; ten minutes by default. Ids
    /// that are missing are looked for so long.
    #[must_use]
    pub fn look_back(mut self, look_back: Duration) -> Self {
        self.scans.look_back = look_back;
        self
    }

    /// Compares rows that were updated, so often: those in whose column the source's database or program has written a new
    /// time. `overlap` is how much later than its time an update may be committed. The column should have an index.
    #[must_use]
    pub fn updated(
        mut self,
        column: impl Into<String>,
        every: Duration,
        overlap: Duration,
    ) -> Self {
        self.scans.updated = Some(UpdatedScan {
            column: column.into(),
            every,
            overlap,
        });
        self
    }

    /// Compares the whole table from time to time.
    #[must_use]
    pub fn sweep(mut self, sweep: Sweep) -> Self {
        self.scans.sweep = Some(sweep);
        self
    }

    /// Compares each row whose change comes as a message of this topic, some time later. The messages are those of a
    /// capture of the source. [`Reconciler::watching`](crate::Reconciler::watching) takes them.
    #[must_use]
    pub fn watch(mut self, topic: impl Into<String>) -> Self {
        self.scans.topics.push(topic.into());
        self
    }

    /// Calls this endpoint when the job is in trouble: a repair has failed three times, the job is paused because more rows
    /// differ than it may repair, or a scan cannot run. There is one call when the trouble begins, one each hour while it
    /// lasts, and one when it is over. docs/reconcile.md tells what is sent.
    ///
    /// ```
    /// use final_reconcile::Job;
    /// use final_webhook::Endpoint;
    ///
    /// let users = Job::new("users").alert(Endpoint::new("https://hooks.example/ops")?);
    /// # Ok::<_, final_webhook::EndpointError>(())
    /// ```
    #[must_use]
    pub fn alert(mut self, endpoint: Endpoint) -> Self {
        self.alert = Some(endpoint);
        self
    }

    /// What would be compared, and by which statements. No row is touched.
    ///
    /// # Errors
    ///
    /// Fails if a database does, and if the tables cannot be compared: no such column, no unique index for the key, two
    /// types without a common form, or columns that a scan cannot go by.
    pub async fn explain(&self) -> Result<Explanation, ReconcileError> {
        let mut explanation = Explanation::new(&self.name);
        for (target, mapping) in &self.targets {
            let (source, plan) = self.plan(target, mapping).await?;
            self.scans.fit(&source, target, &plan)?;
            let pulse = pulse(&source, &plan, target, mapping).await?;
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
        let extras = self.repair.as_ref().is_some_and(|repair| repair.extras);
        let to_repair = |rows: Vec<RowDifference>| {
            let rows = rows.into_iter();
            rows.filter(|row| extras || row.kind != DifferenceKind::Extra)
                .collect()
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

    /// Both tables, the target by its place.
    pub(crate) async fn sides(&self, target: &str) -> Reconciled<Sides> {
        let (side, mapping) = self.named(target)?;
        let (source, plan) = self.plan(side, mapping).await?;
        Ok(Sides::new(&source, side, plan))
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

    /// Where the mirror of a target tells how far it is.
    pub(crate) fn heartbeat(&self, target: &str) -> Option<&Heartbeat> {
        let (_, mapping) = self.named(target).ok()?;
        mapping.heartbeat.as_ref()
    }

    fn named(&self, target: &str) -> Reconciled<&(Side, Mapping)> {
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
        match &self.scans.sweep {
            Some(sweep) => sweep.check(&self.name),
            None => Ok(()),
        }
    }

    /// Whether repairs write the target.
    fn writes(&self) -> bool {
        self.repair.as_ref().is_some_and(Repair::writes)
    }

    fn check(&self) -> Reconciled<()> {
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
