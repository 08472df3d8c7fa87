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

use std::{collections::VecDeque, time::Duration};

use futures::future::BoxFuture;
use tokio::time::{Instant, sleep_until};

use super::{
    Comparison, Difference, DifferenceKind, RowDifference, Settings, Sides, Sink, Walked,
    judge::{Looks, Verdict, by_key, columns, kind, needed},
};
use crate::{
    error::Reconciled,
    form::{Row, RowHash},
    side::Found,
};

/// How many rows may wait at once.
const MOST: usize = 50_000;

/// How many rows one look takes.
const BATCH: usize = 100;

struct Suspect {
    key: Row,
    due: Instant,
    looks: Looks,
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
    tell: &'s mut (dyn FnMut(&Walked) + Send),
    /// What was found out since it was last asked for.
    found: Comparison,
}

impl<'s> Suspects<'s> {
    /// `tell` is called after each chunk.
    pub(super) fn new(
        sides: &'s Sides,
        settings: &Settings,
        tell: &'s mut (dyn FnMut(&Walked) + Send),
    ) -> Self {
        Self {
            sides,
            settle: settings.settle,
            looks: needed(settings.settle),
            examples: settings.examples,
            values: settings.values,
            keep: settings.keep,
            kept: Vec::new(),
            waiting: VecDeque::new(),
            tell,
            found: Comparison::default(),
        }
    }

    /// Looks at all rows whose time has come.
    async fn look(&mut self) -> Reconciled<()> {
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
        match suspect.looks.judge(source, target, self.looks) {
            Verdict::Equal => self.found.healed += 1,
            Verdict::Differs => self.count(&suspect.key, source, target),
            Verdict::Restless => self.found.unsettled += 1,
            Verdict::Again => {
                suspect.due = Instant::now() + self.settle;
                self.waiting.push_back(suspect);
            }
        }
    }

    fn count(&mut self, key: &Row, source: Option<&Found>, target: Option<&Found>) {
        let kind = kind(source, target);
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
        let columns = columns(self.sides, source, target, self.values);
        if is_kept {
            self.kept.push(RowDifference {
                key: key.clone(),
                named: self.sides.named(key),
                kind,
                columns: columns.iter().map(|column| column.name.clone()).collect(),
            });
        }
        if is_example {
            let key = self.sides.named(key);
            self.found.examples.push(Difference { kind, key, columns });
        }
    }
}

impl Sink for Suspects<'_> {
    fn add(&mut self, key: Row, source: Option<RowHash>, target: Option<RowHash>) {
        self.waiting.push_back(Suspect {
            key,
            due: Instant::now() + self.settle,
            looks: Looks::begun(source, target),
        });
    }

    fn make_room(&mut self) -> BoxFuture<'_, Reconciled<()>> {
        Box::pin(async {
            while self.waiting.len() > MOST {
                self.look_when_due().await?;
            }
            Ok(())
        })
    }

    fn after_chunk<'a>(
        &'a mut self,
        _: Option<&'a Row>,
        walked: Walked,
    ) -> BoxFuture<'a, Reconciled<()>> {
        Box::pin(async move {
            self.look().await?;
            (self.tell)(&Walked {
                suspects: self.waiting.len() as u64,
                differences: self.found.differences(),
                ..walked
            });
            Ok(())
        })
    }
}
