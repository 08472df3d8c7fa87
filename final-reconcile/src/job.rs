//! A job: a source, its targets, and how their columns belong together.
//!
//! Input: what the caller says. Output: an [`Explanation`] without a look at a row, or [`Comparison`]s.

use std::{fmt, time::Duration};

use crate::{
    compare::{
        Compared, Comparison, DifferenceKind, RowDifference, Settings, Sides, Walked, compare,
    },
    error::{ReconcileError, Reconciled},
    explain::Explanation,
    form::Wish,
    plan::Plan,
    repair::Repair,
    side::Side,
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

    /// How many rows of a target one run may repair; 1,000 by default. If more differ, none is repaired: that looks like a
    /// wrong mapping.
    #[must_use]
    pub fn max_repairs(mut self, most: u64) -> Self {
        self.max_repairs = most;
        self
    }

    /// What would be compared, and by which statements. No row is touched.
    ///
    /// # Errors
    ///
    /// Fails if a database does, and if the tables cannot be compared: no such column, no unique index for the key, or two
    /// types without a common form.
    pub async fn explain(&self) -> Result<Explanation, ReconcileError> {
        let mut explanation = Explanation::new(&self.name);
        for (target, mapping) in &self.targets {
            let (source, plan) = self.plan(target, mapping).await?;
            explanation.add(&source, target, plan);
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
            let compared = compare(&self.name, &source, target, plan, settings, walked);
            all.push(compared.await?);
        }
        Ok(all)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn repairs_by(&self) -> Option<Repair> {
        self.repair.clone()
    }

    /// Whether so many rows differ that none is to be repaired.
    pub(crate) fn holds_back(&self, comparison: &Comparison) -> bool {
        self.repair.is_some() && comparison.differences() > self.max_repairs
    }

    /// Both tables, the target by its place.
    pub(crate) async fn sides(&self, target: &str) -> Reconciled<Sides> {
        for (side, mapping) in &self.targets {
            if side.shown() == target {
                let (source, plan) = self.plan(side, mapping).await?;
                return Ok(Sides::new(&source, side, plan));
            }
        }
        Err(self.wrong("the repair is for a target that the job has no more; close it, or name the target again"))
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
        Ok((source, Plan::new(of_source, of_target, mapping)?))
    }
}

/// Which columns belong together. Without any, all columns of both tables are compared by their names.
#[derive(Clone, Debug, Default)]
pub struct Mapping {
    pub(crate) keys: Vec<(String, String)>,
    pub(crate) columns: Vec<(String, Mapped)>,
    pub(crate) except: Vec<String>,
    pub(crate) rest: bool,
}

impl Mapping {
    /// A column of the key: its name in the source and in the target. Without any, it is the source's primary key. On both
    /// sides a unique index has to have exactly the columns of the key.
    #[must_use]
    pub fn key(mut self, source: impl Into<String>, target: impl Into<String>) -> Self {
        self.keys.push((source.into(), target.into()));
        self
    }

    /// Columns that have the same name on both sides.
    #[must_use]
    pub fn same<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        let same = names
            .into_iter()
            .map(|name| (name.into(), Mapped::default()));
        self.columns.extend(same);
        self
    }

    /// A column of the source, and what it is in the target: a name, or a [`Mapped`] with a rule.
    #[must_use]
    pub fn column(mut self, source: impl Into<String>, target: impl Into<Mapped>) -> Self {
        self.columns.push((source.into(), target.into()));
        self
    }

    /// Beside the columns that are named, all others of both tables are compared by their names.
    #[must_use]
    pub fn rest(mut self) -> Self {
        self.rest = true;
        self
    }

    /// Columns of either side that are not compared, where all others are.
    #[must_use]
    pub fn except<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.except.extend(names.into_iter().map(Into::into));
        self
    }
}

/// A column of the target, and a rule for how it is compared.
#[derive(Clone, Default)]
pub struct Mapped {
    pub(crate) name: Option<String>,
    pub(crate) wish: Option<Wish>,
}

impl Mapped {
    /// The column of this name.
    pub fn to(name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
            wish: None,
        }
    }

    /// Numbers are rounded to so many digits behind the point.
    #[must_use]
    pub fn decimal(self, scale: u32) -> Self {
        self.with(Wish::Decimal(scale))
    }

    /// Numbers are compared in so many digits, at most 15.
    #[must_use]
    pub fn digits(self, digits: u32) -> Self {
        self.with(Wish::Digits(digits))
    }

    /// Times are compared to so many digits of a second.
    #[must_use]
    pub fn precision(self, digits: u32) -> Self {
        self.with(Wish::Precision(digits))
    }

    /// Texts and 16 bytes are compared as UUIDs.
    #[must_use]
    pub fn uuid(self) -> Self {
        self.with(Wish::Uuid)
    }

    /// The texts that both servers print are compared.
    #[must_use]
    pub fn text(self) -> Self {
        self.with(Wish::Text)
    }

    /// The same, without spaces at the end.
    #[must_use]
    pub fn trimmed(self) -> Self {
        self.with(Wish::Trimmed)
    }

    fn with(mut self, wish: Wish) -> Self {
        self.wish = Some(wish);
        self
    }
}

impl From<&str> for Mapped {
    fn from(name: &str) -> Self {
        Self::to(name)
    }
}

impl From<String> for Mapped {
    fn from(name: String) -> Self {
        Self::to(name)
    }
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapped({:?}, {:?})", self.name, self.wish)
    }
}
