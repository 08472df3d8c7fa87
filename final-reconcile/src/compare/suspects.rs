//! Rows that looked different, until they are equal or really different.
//!
//! Input: keys, with what both sides had. State: the rows that wait for their next look. Output: counts and examples in a
//! [`Comparison`].
//!
//! ```text
//!  found different ─ settle ─▶ look ─┬ equal ──────────────────────────▶ healed
//!        ▲                           ├ a row has changed ─▶ wait again ─▶ too often: unsettled
//!        └───────── settle ──────────┴ both rows as before, twice ─────▶ difference
//! ```
//!
//! The source is written to while it is compared, and the copy follows later. So a difference counts only if neither row
//! has changed for twice the time that a copy may take. Both rows are read again at each look.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::{
    Comparison, Difference, DifferenceKind, DifferentColumn, RowDifference, Settings, Sides,
};
use crate::{
    error::Reconciled,
    form::{Form, Row, RowHash, here::readable},
    side::Found,
};

/// How many rows may wait at once.
const MOST: usize = 50_000;

/// How many rows one look takes.
const BATCH: usize = 100;

/// How often both rows have to be the same as before.
const LOOKS: u32 = 2;

/// How often a row may change between two looks before nothing is said about it.
const CHANGES: u32 = 10;

/// How much of a value an example has.
const MOST_TEXT: usize = 200;

struct Suspect {
    key: Row,
    source: Option<RowHash>,
    target: Option<RowHash>,
    due: Instant,
    looks: u32,
    changes: u32,
}

/// The rows that wait for their next look, the longest first.
pub(super) struct Suspects<'s> {
    sides: &'s Sides,
    settle: Duration,
    looks: u32,
    examples: usize,
    values: bool,
    keep: usize,
    kept: Vec<RowDifference>,
    waiting: VecDeque<Suspect>,
    /// What was found out since it was last asked for.
    found: Comparison,
}

impl<'s> Suspects<'s> {
    pub(super) fn new(sides: &'s Sides, settings: &Settings) -> Self {
        Self {
            sides,
            settle: settings.settle,
            // Where nothing is written there is nothing to wait for.
            looks: if settings.settle.is_zero() { 1 } else { LOOKS },
            examples: settings.examples,
            values: settings.values,
            keep: settings.keep,
            kept: Vec::new(),
            waiting: VecDeque::new(),
            found: Comparison::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn differences(&self) -> u64 {
        self.found.differences()
    }

    /// A row that looks different.
    pub(super) fn add(&mut self, key: Row, source: Option<RowHash>, target: Option<RowHash>) {
        self.waiting.push_back(Suspect {
            key,
            source,
            target,
            due: Instant::now() + self.settle,
            looks: 0,
            changes: 0,
        });
    }

    /// Waits until there is room for a page more.
    pub(super) async fn make_room(&mut self) -> Reconciled<()> {
        while self.waiting.len() > MOST {
            self.look_when_due().await?;
        }
        Ok(())
    }

    /// Looks at all rows whose time has come.
    pub(super) async fn look(&mut self) -> Reconciled<()> {
        while self
            .waiting
            .front()
            .is_some_and(|first| first.due <= Instant::now())
        {
            self.look_when_due().await?;
        }
        Ok(())
    }

    /// Looks until no row waits, and tells what was found.
    pub(super) async fn end(
        mut self,
        comparison: &mut Comparison,
    ) -> Reconciled<Vec<RowDifference>> {
        while !self.waiting.is_empty() {
            self.look_when_due().await?;
        }
        comparison.missing = self.found.missing;
        comparison.different = self.found.different;
        comparison.extra = self.found.extra;
        comparison.healed = self.found.healed;
        comparison.unsettled = self.found.unsettled;
        comparison.examples = self.found.examples;
        Ok(self.kept)
    }

    /// Takes the rows that have waited longest, and looks at them when the last of them is due.
    async fn look_when_due(&mut self) -> Reconciled<()> {
        let count = self.waiting.len().min(BATCH);
        let batch: Vec<Suspect> = self.waiting.drain(..count).collect();
        let Some(due) = batch.iter().map(|suspect| suspect.due).max() else {
            return Ok(());
        };
        sleep_until(due).await;
        let keys: Vec<Row> = batch.iter().map(|suspect| suspect.key.clone()).collect();
        // The target is read after the source, so that it cannot be older.
        let source = by_key(self.sides.source.rows(&keys).await?);
        let target = by_key(self.sides.target.rows(&keys).await?);
        for suspect in batch {
            let (source, target) = (source.get(&suspect.key), target.get(&suspect.key));
            self.judge(suspect, source, target);
        }
        Ok(())
    }

    fn judge(&mut self, mut suspect: Suspect, source: Option<&Found>, target: Option<&Found>) {
        let hash = |found: Option<&Found>| found.map(|found| found.hash.clone());
        let (of_source, of_target) = (hash(source), hash(target));
        if of_source == of_target {
            self.found.healed += 1;
            return;
        }
        if suspect.source == of_source && suspect.target == of_target {
            suspect.looks += 1;
        } else {
            suspect.looks = 0;
            suspect.changes += 1;
        }
        if suspect.looks >= self.looks {
            self.count(&suspect.key, source, target);
        } else if suspect.changes > CHANGES {
            self.found.unsettled += 1;
        } else {
            suspect.source = of_source;
            suspect.target = of_target;
            suspect.due = Instant::now() + self.settle;
            self.waiting.push_back(suspect);
        }
    }

    fn count(&mut self, key: &Row, source: Option<&Found>, target: Option<&Found>) {
        let kind = match (source, target) {
            (_, None) => DifferenceKind::Missing,
            (None, _) => DifferenceKind::Extra,
            _ => DifferenceKind::Different,
        };
        match kind {
            DifferenceKind::Missing => self.found.missing += 1,
            DifferenceKind::Extra => self.found.extra += 1,
            DifferenceKind::Different => self.found.different += 1,
        }
        let is_kept = self.kept.len() < self.keep;
        let is_example = self.found.examples.len() < self.examples;
        if !is_kept && !is_example {
            return;
        }
        let columns = self.columns(source, target);
        if is_kept {
            self.kept.push(RowDifference {
                key: key.clone(),
                kind,
                columns: columns.iter().map(|column| column.name.clone()).collect(),
            });
        }
        if is_example {
            let key = self.shown_key(key);
            self.found.examples.push(Difference { kind, key, columns });
        }
    }

    fn shown_key(&self, key: &Row) -> Vec<(String, String)> {
        let forms = self.sides.key_forms();
        let fields = key.fields(forms).unwrap_or_default();
        let named = self.sides.names.iter().cloned();
        let values = forms.iter().zip(fields);
        named
            .zip(values.map(|(form, field)| shown(*form, field).unwrap_or_default()))
            .collect()
    }

    /// The columns that differ.
    fn columns(&self, source: Option<&Found>, target: Option<&Found>) -> Vec<DifferentColumn> {
        let fields = |found: Option<&'_ Found>| -> Option<Vec<Option<Vec<u8>>>> {
            let fields = found?.row.as_ref()?.fields(&self.sides.forms)?;
            Some(
                fields
                    .into_iter()
                    .map(|field| field.map(<[u8]>::to_vec))
                    .collect(),
            )
        };
        let (Some(source), Some(target)) = (fields(source), fields(target)) else {
            return Vec::new();
        };
        let columns = self.sides.names.iter().zip(&self.sides.forms);
        let pairs = source.iter().zip(&target).zip(columns);
        let different = pairs.filter(|((a, b), _)| a != b);
        let value = |form: Form, value: &Option<Vec<u8>>| match self.values {
            true => shown(form, value.as_deref()),
            false => None,
        };
        different
            .map(|((a, b), (name, form))| DifferentColumn {
                name: name.clone(),
                source: value(*form, a),
                target: value(*form, b),
            })
            .collect()
    }
}

fn by_key(found: Vec<Found>) -> HashMap<Row, Found> {
    found
        .into_iter()
        .map(|found| (found.key.clone(), found))
        .collect()
}

/// The beginning of a value, as a person reads it.
fn shown(form: Form, value: Option<&[u8]>) -> Option<String> {
    let text = readable(form, value?);
    Some(text.chars().take(MOST_TEXT).collect())
}
