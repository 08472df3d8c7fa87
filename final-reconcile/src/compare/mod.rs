//! Comparing two tables once.
//!
//! Input: a plan. State: where the walk is, and rows that looked different. Output: a [`Comparison`].
//!
//! | part | does |
//! | --- | --- |
//! | [`walk`] | goes through both tables chunk by chunk |
//! | [`chunk`] | finds the rows of a chunk that differ |
//! | [`texts`] | the same in the texts of a chunk of small rows |
//! | [`judge`] | what is said about a row after a look |
//! | [`suspects`] | looks at such rows again, until they are equal or really different |
//! | [`wait`] | until when such rows wait |
//! | [`report`] | what is told |

mod chunk;
pub(crate) mod judge;
mod report;
mod suspects;
mod texts;
mod wait;
pub(crate) mod walk;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;

pub use self::report::{Comparison, Difference, DifferenceKind, DifferentColumn, Walked};
use self::{
    judge::{by_key, shown},
    suspects::Suspects,
    walk::Walk,
};
use crate::{
    error::{ReconcileError, Reconciled},
    form::{Form, Hash, Row, RowHash},
    mirror::Pulse,
    plan::Plan,
    repair::printed::Printed,
    side::{Found, Reader, Side, Writer},
};

/// What a caller can set.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) settle: Duration,
    pub(crate) examples: usize,
    pub(crate) values: bool,
    /// How many of the rows that differ are kept to be repaired.
    pub(crate) keep: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            settle: Duration::from_secs(2),
            examples: 20,
            values: false,
            keep: 0,
        }
    }
}

/// A row that differs, by its key.
#[derive(Clone, Debug)]
pub(crate) struct RowDifference {
    /// The columns of the key, and their forms.
    pub(crate) key_form: Arc<str>,
    pub(crate) key: Row,
    /// The key for people: the source's columns with their values in canonical form.
    pub(crate) named: Vec<(String, String)>,
    pub(crate) kind: DifferenceKind,
    /// The source's names of the columns that differ.
    pub(crate) columns: Vec<String>,
}

/// What came of a comparison, and the rows to be repaired.
pub(crate) struct Compared {
    pub(crate) comparison: Comparison,
    pub(crate) rows: Vec<RowDifference>,
}

/// What takes the rows of a walk that look different.
pub(crate) trait Sink: Send {
    /// A row, and what both sides had.
    fn add(&mut self, key: Row, source: Option<RowHash>, target: Option<RowHash>);
    /// Waits until there is room for a page more.
    fn make_room(&mut self) -> BoxFuture<'_, Reconciled<()>>;
    /// Everything up to this key was compared; all, if there is none.
    fn after_chunk<'a>(
        &'a mut self,
        until: Option<&'a Row>,
        walked: Walked,
    ) -> BoxFuture<'a, Reconciled<()>>;
}

/// Which of both rows is read first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The target is read last, so that it cannot be older than the source.
    SourceFirst,
    /// The source is read last. If it is as it was before the mirror had passed it, the target has had all of it.
    TargetFirst,
}

impl Order {
    /// The order of a look: with a heartbeat, or without one.
    pub(crate) fn of(has_heartbeat: bool) -> Self {
        match has_heartbeat {
            true => Self::TargetFirst,
            false => Self::SourceFirst,
        }
    }
}

/// Rows by their keys, of the source and of the target.
pub(crate) type Both = (HashMap<Row, Found>, HashMap<Row, Found>);

/// Both tables, ready to be read.
pub(crate) struct Sides {
    pub(crate) source: Arc<dyn Reader>,
    pub(crate) target: Arc<dyn Reader>,
    /// Writes the target, for a job that repairs by SQL. It connects when it is used.
    pub(crate) writer: Arc<dyn Writer>,
    pub(crate) forms: Vec<Form>,
    /// The names of the source's columns, and how many of them are the key.
    pub(crate) names: Vec<String>,
    pub(crate) keys: usize,
    /// The columns of the key of both sides, and their forms.
    pub(crate) key_form: Arc<str>,
    /// Whole rows of the source.
    pub(crate) printed: Printed,
    /// What both sides hash with.
    hash: Hash,
}

impl Sides {
    pub(crate) fn new(source: &Side, target: &Side, plan: Plan) -> Self {
        let names = plan.source.columns.iter();
        Self {
            forms: plan.source.forms.clone(),
            names: names.map(|column| column.name.clone()).collect(),
            keys: plan.source.keys.len(),
            key_form: plan.key().into(),
            printed: Printed::new(source, &plan.source),
            hash: plan.source.hash,
            source: source.reader(plan.source),
            writer: target.writer(plan.target.clone()),
            target: target.reader(plan.target),
        }
    }

    /// Reads the rows with these keys.
    pub(crate) async fn both(&self, keys: &[Row], order: Order) -> Reconciled<Both> {
        let (source, target) = match order {
            Order::SourceFirst => {
                let source = self.source.rows(keys).await?;
                (source, self.target.rows(keys).await?)
            }
            Order::TargetFirst => {
                let target = self.target.rows(keys).await?;
                (self.source.rows(keys).await?, target)
            }
        };
        Ok((by_key(source), by_key(target)))
    }

    /// The forms of the key.
    pub(crate) fn key_forms(&self) -> &[Form] {
        self.forms.get(..self.keys).unwrap_or_default()
    }

    /// The source's names of the key's columns.
    pub(crate) fn key_names(&self) -> &[String] {
        self.names.get(..self.keys).unwrap_or_default()
    }

    /// A key for people: the source's columns with their values in canonical form.
    pub(crate) fn named(&self, key: &Row) -> Vec<(String, String)> {
        let fields = key.fields(self.key_forms()).unwrap_or_default();
        let values = self.key_forms().iter().zip(fields);
        let values = values.map(|(form, field)| shown(*form, field).unwrap_or_default());
        self.key_names().iter().cloned().zip(values).collect()
    }
}

/// Looks at the keys of both tables. Whether they can be compared range by range.
///
/// # Errors
///
/// Fails if a row has no key.
pub(crate) async fn prepared(
    source: &Side,
    target: &Side,
    mut plan: Plan,
) -> Reconciled<(Sides, bool)> {
    let sides = Sides::new(source, target, plan.clone());
    for side in [&sides.source, &sides.target] {
        if side.has_null_key().await? {
            return Err(ReconcileError::Key {
                side: side.shown().to_owned(),
                key: sides.key_names().join(", "),
                why: "it has rows without a key (NULL), which belong to no row of the other side"
                    .into(),
                cure: "give these rows a key, remove them, or take another key".into(),
            });
        }
    }
    let (in_source, in_target) = tokio::try_join!(
        sides.source.has_misplaced_key(),
        sides.target.has_misplaced_key()
    )?;
    if in_source || in_target {
        plan.order_by_digits(in_source, in_target);
        return Ok((Sides::new(source, target, plan), false));
    }
    Ok((sides, plan.no_ranges.is_none()))
}

/// Compares two tables.
pub(crate) async fn compare(
    job: &str,
    (source, target): (&Side, &Side),
    plan: Plan,
    pulse: Option<&Pulse>,
    settings: &Settings,
    walked: &mut (dyn FnMut(&Walked) + Send),
) -> Reconciled<Compared> {
    let begun = Instant::now();
    let estimate = plan.source.table.rows;
    let (sides, is_in_ranges) = prepared(source, target, plan).await?;
    let mut comparison = Comparison::new(sides.source.shown(), sides.target.shown());
    let mut suspects = Suspects::new(&sides, pulse, settings, walked);
    suspects.begin().await?;
    let mut walk = Walk::new(&sides, estimate);
    match is_in_ranges {
        true => walk.ranges(&mut suspects, &mut comparison).await?,
        false => walk.buckets(&mut suspects, &mut comparison).await?,
    }
    let rows = suspects.end(&mut comparison).await?;
    comparison.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(
        target: "final::reconcile",
        job,
        source = comparison.source,
        copy = comparison.target,
        rows = comparison.rows,
        missing = comparison.missing,
        different = comparison.different,
        extra = comparison.extra,
        unsettled = comparison.unsettled,
        judged_by = comparison.judged_by,
        "two tables were compared"
    );
    Ok(Compared { comparison, rows })
}
