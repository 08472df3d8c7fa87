//! Rows that looked different, until they are equal or really different.
//!
//! Input: keys, with what both sides had. State: the rows that wait for their next look. Output: counts and examples in a
//! [`Comparison`].
//!
//! ```text
//!  found different ─ wait ─▶ look ─┬ equal ───────────────────────────▶ healed
//!        ▲                         ├ a row has changed ─▶ wait again ─▶ too often: unsettled
//!        └───────── wait ──────────┴ both rows as before ─────────────▶ difference
//! ```
//!
//! The source is written to while it is compared, and the copy follows later. Without a heartbeat a look comes after
//! `settle`. With one it comes when the mirror has passed the last look. Both rows have to be as before twice, and both are
//! read again at each look.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use futures::future::BoxFuture;
use tokio::time::sleep;

use super::{
    report::{Comparison, Walked},
    settings::Settings,
    sink::Sink,
    wait::Waits,
};
use crate::{
    error::Reconciled,
    form::{Row, RowHash},
    mirror::{Due, Pulse},
    pair::{
        Sides,
        difference::{Difference, DifferenceKind, RowDifference, kind},
        judge::{Looks, Verdict, needed},
    },
    side::Found,
};

/// How many rows may wait at once.
const MOST: usize = 50_000;

/// How many rows one look takes.
const BATCH: usize = 100;

/// A row that waits.
struct Suspect {
    key: Row,
    /// Since when.
    since: Instant,
    /// Until when. None until the source's clock was asked.
    due: Option<Due>,
    looks: Looks,
}

/// The rows that wait for their next look, the longest first.
pub(super) struct Suspects<'s> {
    sides: &'s Sides,
    waits: Waits<'s>,
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
        pulse: Option<&'s Pulse>,
        settings: &Settings,
        tell: &'s mut (dyn FnMut(&Walked) + Send),
    ) -> Self {
        Self {
            sides,
            waits: Waits::new(pulse, settings.settle),
            looks: needed(settings.settle, pulse.is_some()),
            examples: settings.examples,
            values: settings.values,
            keep: settings.keep,
            kept: Vec::new(),
            waiting: VecDeque::new(),
            tell,
            found: Comparison::default(),
        }
    }

    /// Asks the mirror where it stands, so that a heartbeat that cannot be read is told at once.
    pub(super) async fn begin(&mut self) -> Reconciled<()> {
        self.waits.ask(false).await
    }

    /// Looks at all rows whose time has come.
    async fn look(&mut self) -> Reconciled<()> {
        if !self.waiting.is_empty() {
            self.waits.ask(false).await?;
        }
        while self.first_is_due() {
            self.look_at_first().await?;
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
        // All rows are judged. If this last question fails, the stand before it is told.
        self.waits.ask(false).await.ok();
        comparison.missing = self.found.missing;
        comparison.different = self.found.different;
        comparison.extra = self.found.extra;
        comparison.healed = self.found.healed;
        comparison.unsettled = self.found.unsettled;
        comparison.not_passed = self.found.not_passed;
        comparison.examples = self.found.examples;
        // Rows are judged when they are due, whatever their keys are.
        comparison
            .examples
            .sort_by(|one, other| one.order().cmp(&other.order()));
        comparison.judged_by = self.waits.basis();
        comparison.mirror = self.waits.trouble(self.sides.target.shown());
        Ok(self.kept)
    }

    fn first_is_due(&self) -> bool {
        let first = self.waiting.front();
        first.is_some_and(|first| self.waits.is_over(first.due, first.since))
    }

    /// Waits until the first row is due, and looks at it, and at those that are due with it. A row that the mirror has not
    /// passed in time is given up.
    async fn look_when_due(&mut self) -> Reconciled<()> {
        while let Some((since, due)) = self.waiting.front().map(|row| (row.since, row.due)) {
            let is_full = self.waiting.len() > MOST;
            match due {
                _ if self.first_is_due() => return self.look_at_first().await,
                _ if self.waits.is_given_up(since, is_full) => {
                    self.waiting.pop_front();
                    self.found.unsettled += 1;
                    self.found.not_passed += 1;
                    if is_full {
                        return Ok(());
                    }
                }
                Some(Due::After(settle)) => {
                    let last = self.waiting.iter().take(BATCH).next_back();
                    let since = last.map_or(since, |last| last.since);
                    sleep(settle.saturating_sub(since.elapsed())).await;
                }
                Some(Due::Passed(_)) => self.waits.ask(true).await?,
                None => self.date().await?,
            }
        }
        Ok(())
    }

    /// Looks at the rows that have waited longest and are due.
    async fn look_at_first(&mut self) -> Reconciled<()> {
        let due = self.waiting.iter().take(BATCH);
        let due = due.take_while(|suspect| self.waits.is_over(suspect.due, suspect.since));
        let count = due.count();
        let batch: Vec<Suspect> = self.waiting.drain(..count).collect();
        let keys: Vec<Row> = batch.iter().map(|suspect| suspect.key.clone()).collect();
        let (source, target) = self.sides.both(&keys, self.waits.order()).await?;
        for suspect in batch {
            let (source, target) = (source.get(&suspect.key), target.get(&suspect.key));
            self.judge(suspect, source, target);
        }
        self.date().await
    }

    /// Says until when the rows wait that were read just now.
    async fn date(&mut self) -> Reconciled<()> {
        let is_new = |suspect: &&mut Suspect| suspect.due.is_none();
        if self.waiting.back().is_none_or(|last| last.due.is_some()) {
            return Ok(());
        }
        let due = self.waits.due().await?;
        for suspect in self.waiting.iter_mut().rev().take_while(is_new) {
            (suspect.since, suspect.due) = (Instant::now(), Some(due));
        }
        Ok(())
    }

    fn judge(&mut self, mut suspect: Suspect, source: Option<&Found>, target: Option<&Found>) {
        match suspect.looks.judge(source, target, self.looks) {
            Verdict::Equal => self.found.healed += 1,
            Verdict::Differs => self.count(&suspect.key, source, target),
            Verdict::Restless => self.found.unsettled += 1,
            Verdict::Again => {
                suspect.due = None;
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
        let columns = self.sides.columns(source, target, self.values);
        if is_kept {
            self.kept.push(RowDifference {
                key_form: Arc::clone(&self.sides.key_form),
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
            since: Instant::now(),
            due: None,
            looks: Looks::begun(source, target),
        });
    }

    fn make_room(&mut self) -> BoxFuture<'_, Reconciled<()>> {
        Box::pin(async {
            self.date().await?;
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
