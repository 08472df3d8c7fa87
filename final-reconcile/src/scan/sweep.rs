//! The whole table, from time to time, not too fast.
//!
//! Input: a [`Sweep`]. State, which is stored after each chunk: the key up to which the tables were
//! compared. Output: suspects.
//!
//! A sweep that was cut off goes on behind the last chunk that was stored. Where the keys of both sides have no common
//! order, it begins anew.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio::time::sleep;

use super::{
    context::{Context, Ended},
    progress::SweepProgress,
    round::Scan,
    store::{NewSuspect, ScanKind, Standing, Step, Tally},
};
use crate::{
    compare::{Comparison, Sink, Walked, walk::Walk},
    error::{ReconcileError, Reconciled},
    form::{
        Row, RowHash,
        here::{hex, unhex},
    },
    job::sweep::Sweep,
    pair::prepared,
};

/// How often it is looked whether a sweep is due.
const POLL: Duration = Duration::from_secs(1);

/// How often rows are counted that wait for a look, while a sweep waits for them.
const WAITING: Duration = Duration::from_millis(500);

/// How many rows that look different are kept in memory before they are written. The target may have any number of rows
/// in a chunk.
const MOST_KEPT: usize = 1_000;

pub(super) struct Sweeping {
    /// None if a sweep begins only if it is asked for.
    sweep: Option<Sweep>,
}

impl Sweeping {
    pub(super) fn new(sweep: Option<Sweep>) -> Self {
        Self { sweep }
    }

    async fn one(&self, context: &Context) -> Result<Duration, Ended> {
        let standing = context.standing().await?;
        if let Some(progress) = self.begun(context, &standing).await? {
            self.walk(context, progress).await?;
        }
        Ok(POLL)
    }

    /// The sweep that is under way, or the one that is due.
    async fn begun(
        &self,
        context: &Context,
        standing: &Standing,
    ) -> Result<Option<SweepProgress>, Ended> {
        let last = match &standing.sweep {
            Some(text) => Some(
                SweepProgress::read(text).map_err(|problem| context.unit.job.wrong(&problem))?,
            ),
            None => None,
        };
        if let Some(last) = last.as_ref().filter(|last| !last.is_over) {
            return Ok(Some(last.clone()));
        }
        let begun = last.map(|last| last.begun);
        let is_asked = standing.asked_at > begun.unwrap_or(0);
        let is_due = |sweep: &Sweep| sweep.is_due(begun, standing.now_at);
        let is_due = is_asked || self.sweep.as_ref().is_some_and(is_due);
        let is_new = begun.is_none() && self.sweep.is_some();
        if !is_due && !is_new {
            return Ok(None);
        }
        let progress = SweepProgress {
            begun: standing.now_at,
            // The first time of day counts from now on.
            is_over: !is_due,
            ..SweepProgress::default()
        };
        context.save(&step(&progress, Tally::default())).await?;
        Ok(Some(progress).filter(|progress| !progress.is_over))
    }

    async fn walk(&self, context: &Context, mut progress: SweepProgress) -> Result<(), Ended> {
        // The tables may have been altered since the last sweep.
        context.forget_tables().await;
        let tables = context.tables().await?;
        let key = &*tables.sides.key_form;
        if let Some(before) = progress.key.as_deref().filter(|before| *before != key) {
            context.tell_anew(ScanKind::Sweep, before, key);
            (progress.after, progress.rows) = (None, 0);
        }
        progress.key = Some(key.to_owned());
        let estimate = tables.plan.source.table.rows;
        let plan = tables.plan.clone();
        let (sides, is_in_ranges) = prepared(&tables.source, &tables.target, plan).await?;
        let after = progress.after.as_deref().map(unhex);
        let after = match after {
            Some(None) => {
                let problem = "the stored position of the sweep is no key; set `sweep` to NULL in final_reconcile_jobs";
                return Err(context.unit.job.wrong(problem).into());
            }
            Some(Some(key)) if is_in_ranges => Some(Row(key)),
            _ => None,
        };
        let most = self.sweep.as_ref().map_or(u64::MAX, Sweep::most_rows);
        let mut chunks = Chunks {
            context,
            sweep: self.sweep.as_ref(),
            before: progress.rows,
            counted: progress.rows,
            progress,
            is_in_ranges,
            suspects: Vec::new(),
            ended: None,
            begun: Instant::now(),
        };
        let mut comparison = Comparison::new(sides.source.shown(), sides.target.shown());
        let mut walk = Walk::new(&sides, estimate).go_on(after, most);
        let walked = match is_in_ranges {
            true => walk.ranges(&mut chunks, &mut comparison).await,
            false => walk.buckets(&mut chunks, &mut comparison).await,
        };
        if let Some(ended) = chunks.ended.take() {
            return Err(ended);
        }
        walked?;
        chunks.progress.is_over = true;
        chunks.progress.after = None;
        let progress = chunks.progress;
        context.save(&step(&progress, Tally::default())).await?;
        tracing::info!(
            target: "final::reconcile",
            job = context.unit.name.job,
            source = comparison.source,
            copy = comparison.target,
            rows = progress.rows,
            "a sweep is at its end"
        );
        Ok(())
    }
}

impl Scan for Sweeping {
    fn kind(&self) -> ScanKind {
        ScanKind::Sweep
    }

    fn round<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, Result<Duration, Ended>> {
        Box::pin(self.one(context))
    }
}

fn step(progress: &SweepProgress, tally: Tally) -> Step {
    Step {
        scan: ScanKind::Sweep,
        position: Some(progress.text()),
        tallies: vec![(ScanKind::Sweep, Some(progress.begun), tally)],
        ..Step::default()
    }
}

/// Takes the chunks of a sweep.
struct Chunks<'c> {
    context: &'c Context,
    sweep: Option<&'c Sweep>,
    progress: SweepProgress,
    /// Rows that were compared before this walk, and those that are counted.
    before: u64,
    counted: u64,
    is_in_ranges: bool,
    suspects: Vec<NewSuspect>,
    /// Why the walk was told to end.
    ended: Option<Ended>,
    /// When the chunk began.
    begun: Instant,
}

impl Chunks<'_> {
    async fn took(&mut self, until: Option<&Row>, walked: &Walked) -> Result<(), Ended> {
        let took = self.begun.elapsed();
        let all = self.before + walked.rows;
        let rows = all.saturating_sub(self.counted);
        self.counted = all;
        self.progress.rows = all;
        if self.is_in_ranges {
            self.progress.after = until.map(|key| hex(&key.0));
        }
        let tally = Tally {
            rows,
            ..Tally::default()
        };
        let step = Step {
            due: self.context.due(&self.suspects).await?,
            suspects: std::mem::take(&mut self.suspects),
            ..step(&self.progress, tally)
        };
        // The end of the table is stored by the sweep itself: without a key it would begin anew.
        let step = match until {
            None if self.is_in_ranges => Step {
                position: None,
                ..step
            },
            _ => step,
        };
        self.save(&step).await?;
        // The end of the table may be hours away.
        self.context.works(ScanKind::Sweep).await;
        if let Some(sweep) = self.sweep {
            sleep(sweep.rest(rows, took)).await;
        }
        self.begun = Instant::now();
        Ok(())
    }

    /// Writes rows of a chunk that is not at its end. The position stays before it.
    async fn write_found(&mut self) -> Result<(), Ended> {
        let step = Step {
            scan: ScanKind::Sweep,
            due: self.context.due(&self.suspects).await?,
            suspects: std::mem::take(&mut self.suspects),
            ..Step::default()
        };
        self.save(&step).await
    }

    async fn save(&self, step: &Step) -> Result<(), Ended> {
        self.context.save(step).await?;
        match step.suspects.is_empty() {
            true => Ok(()),
            false => self.wait_for_looks().await,
        }
    }

    /// An error that ends the walk. Why it was told to end is kept.
    fn ending(&mut self, ended: Ended) -> ReconcileError {
        match ended {
            Ended::Failed(error) => error,
            ended => {
                self.ended = Some(ended);
                ReconcileError::Job {
                    job: self.context.unit.name.job.clone(),
                    problem: "the sweep was told to end".into(),
                }
            }
        }
    }

    async fn wait_for_looks(&self) -> Result<(), Ended> {
        let (store, name) = (&self.context.unit.store, &self.context.unit.name);
        let most = self.context.unit.job.most_waiting();
        loop {
            let waiting = store.waiting(name, most).await;
            let waiting =
                waiting.map_err(|error| self.context.state("counting suspects in", error))?;
            if waiting < most {
                return Ok(());
            }
            sleep(WAITING).await;
        }
    }
}

impl Sink for Chunks<'_> {
    fn add(&mut self, key: Row, source: Option<RowHash>, target: Option<RowHash>) {
        self.suspects.push(NewSuspect {
            key,
            source,
            target,
        });
    }

    fn make_room(&mut self) -> BoxFuture<'_, Reconciled<()>> {
        Box::pin(async move {
            if self.suspects.len() < MOST_KEPT {
                return Ok(());
            }
            let written = self.write_found().await;
            written.map_err(|ended| self.ending(ended))
        })
    }

    fn after_chunk<'a>(
        &'a mut self,
        until: Option<&'a Row>,
        walked: Walked,
    ) -> BoxFuture<'a, Reconciled<()>> {
        Box::pin(async move {
            let taken = self.took(until, &walked).await;
            taken.map_err(|ended| self.ending(ended))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::store::{ScanStore, tests::Stored},
        *,
    };

    #[tokio::test]
    async fn a_sweep_keeps_no_more_rows_in_memory_than_it_may() {
        let stored = Stored::new().await;
        let unit = stored.unit();
        let context = Context::new(unit, stored.term.clone());
        let progress = SweepProgress::default();
        let before = "position".to_owned();
        let position = Step {
            scan: ScanKind::Sweep,
            position: Some(before.clone()),
            ..Step::default()
        };
        context.save(&position).await.unwrap();
        let mut chunks = Chunks {
            context: &context,
            sweep: None,
            before: 0,
            counted: 0,
            progress,
            is_in_ranges: true,
            suspects: Vec::new(),
            ended: None,
            begun: Instant::now(),
        };
        for id in 0..MOST_KEPT {
            chunks.add(Row(id.to_string().into()), None, Some(RowHash(vec![1])));
            chunks.make_room().await.unwrap();
        }
        assert_eq!(chunks.suspects.len(), 0);
        let due = stored
            .store
            .due(&stored.term.unit, None, u32::MAX)
            .await
            .unwrap();
        assert_eq!(due.len(), MOST_KEPT);
        // The chunk is not at its end.
        let standing = context.standing().await.unwrap();
        assert_eq!(standing.sweep, Some(before));
    }
}
