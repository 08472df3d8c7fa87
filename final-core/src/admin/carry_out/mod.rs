//! Carrying out an operation.
//!
//! Input: the number of an operation, and a pace. State: a lease, so that one program carries it out; the walk along
//! each part of the selection. Output: batches, each done in one transaction together with the progress.
//!
//! ```text
//!   lease ─▶ running ─▶ part ─▶ keys of a batch ─▶ locked ─▶ done, progress, COMMIT ─┐ ─▶ done, lease given back
//!                        ▲        ▲                  │ refused: by halves            │
//!                        │        └── renew, pause ◀─┴───────────────────────────────┤
//!                        └────────────────────────── nothing is left of the part ◀───┘
//! ```
//!
//! The progress is written only while the lease and the state are what they were. So a program that stood still, or
//! whose operation was stopped, rolls its batch back.

mod work;

use std::time::{Duration, Instant};

use uuid::Uuid;

use self::work::{Batched, Work};
use super::{
    AdminError, Answer, Operation, OperationProgress, OperationState, Pace, Selection,
    desk::{Desk, TRIES, doing},
    operations::OperationRow,
    walk::WalkEnd,
};
use crate::{
    OutboxDatabase,
    database::{DbResult, Leases, Value, limits::duration},
    log::Announcement,
};

/// How many rows one transaction changes.
const BATCH: u64 = 100;

/// How long an operation stays with a program that no longer renews its lease. A batch takes a moment, and the pause
/// between two of them is a second at most.
const LEASE: Duration = Duration::from_secs(30);

/// How many rows are looked at for one batch before the lease is renewed.
const LOOKED_AT: u64 = 20_000;

/// What failed.
const DOING: &str = "carrying out an operation";

/// An operation that this program has the lease of.
pub(super) struct Held {
    pub(super) id: i64,
    pub(super) owner: Uuid,
    pub(super) epoch: i64,
}

impl Held {
    /// The name of its lease.
    fn name(&self) -> String {
        self.id.to_string()
    }

    /// The values of [`HELD`].
    pub(super) fn values(&self) -> [Value<'static>; 3] {
        [self.name().into(), self.owner.into(), self.epoch.into()]
    }
}

/// The condition that a program still has the lease of its operation.
const HELD: &str = "EXISTS (SELECT 1 FROM {leases} l WHERE l.name = ? AND l.owner = ? AND l.epoch = ? \
    AND l.live_until > {now})";

/// What is known while an operation is carried out.
struct Run {
    held: Held,
    pace: Pace,
    /// How many may still be done. `None` if their number is not known, and the cut-off alone ends the operation.
    left: Option<u64>,
    /// How many rows other sessions had locked.
    passed_over: u64,
    progress: OperationProgress,
}

/// How a part, or the whole, has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Over,
    /// Somebody has stopped the operation, or it is another program's by now.
    TakenAway,
}

impl<DB: OutboxDatabase> Desk<DB> {
    /// Carries an operation out, up to its end.
    pub(super) async fn carry_out(
        &self,
        id: i64,
        pace: Pace,
        mut tell: impl FnMut(&OperationProgress) + Send,
    ) -> Answer<Operation> {
        let before = self.operation_row(id).await?;
        if before.is_done() {
            return Err(AdminError::OperationEnded(id));
        }
        let held = self.hold(id).await?;
        // Read again: the program that had it before may have done more of it.
        let row = self.operation_row(id).await?;
        let ended = match row.is_done() {
            true => Err(AdminError::OperationEnded(id)),
            // Stopped by somebody while this program waited for the lease.
            false if row.is_stopped() && !before.is_stopped() => Ok(Ended::TakenAway),
            false => self.carry_out_held(&held, row, pace, &mut tell).await,
        };
        // A lease that cannot be given back runs out.
        let _ = self.release(&held).await;
        let ended = ended?;
        let operation = self.operation(id).await?;
        let has_ended = matches!(
            operation.state,
            OperationState::Stopped | OperationState::Done
        );
        match ended == Ended::Over || has_ended {
            true => Ok(operation),
            false => Err(AdminError::OperationLost(id)),
        }
    }

    async fn carry_out_held(
        &self,
        held: &Held,
        row: OperationRow,
        pace: Pace,
        tell: &mut (impl FnMut(&OperationProgress) + Send),
    ) -> Answer<Ended> {
        let tables = self.tables_of(&row.service).await?;
        let newer =
            || AdminError::InvalidFilter("a newer release has planned the operation; use that one");
        let selection = Selection::of_terms(row.on_letters(), &row.terms).ok_or_else(newer)?;
        let action = row.action().ok_or_else(newer)?;
        let begin = "UPDATE {operations} SET state = 'running', refused = 0, refusal = NULL, ended_at = NULL, \
            started_at = COALESCE(started_at, {now}) WHERE id = ? AND state = ?";
        let values = [held.id.into(), row.state().into()];
        let begun = self.change(begin, &values).await.map_err(doing(DOING))?;
        if begun == 0 {
            return Ok(Ended::TakenAway);
        }
        // A batch of the program that had it before may have ended meanwhile.
        let row = self.operation_row(held.id).await?;
        let (left, cut_off) = (row.left(selection.words().limit), row.cut_off());
        let operation = row.operation(true);
        let mut run = Run {
            held: Held { ..*held },
            pace,
            left,
            passed_over: 0,
            progress: OperationProgress {
                done: operation.done,
                refused: 0,
                total: operation.total,
            },
        };
        for part in selection.parts(&tables) {
            let work = Work::new(self, action, part, &tables)
                .await
                .map_err(doing(DOING))?;
            let walked = self.walk_part(&mut run, &work, tell, || {
                selection.walk::<DB>(part, &tables, cut_off)
            });
            if walked.await? == Ended::TakenAway {
                return Ok(Ended::TakenAway);
            }
        }
        if run.passed_over > 0 {
            let (id, rows) = (held.id, run.passed_over);
            return Err(AdminError::RowsLocked { id, rows });
        }
        let end = format!(
            "UPDATE {{operations}} SET state = 'done', ended_at = {{now}} \
             WHERE id = ? AND state = 'running' AND {HELD}"
        );
        let values = [&[held.id.into()], &held.values()[..]].concat();
        let has_ended = self.change(&end, &values).await.map_err(doing(DOING))?;
        Ok(match has_ended {
            0 => Ended::TakenAway,
            _ => Ended::Over,
        })
    }

    /// Carries out one part, batch by batch.
    async fn walk_part<'a>(
        &self,
        run: &mut Run,
        work: &Work<'_>,
        tell: &mut (impl FnMut(&OperationProgress) + Send),
        walk: impl Fn() -> Option<super::walk::Walk<'a>> + Send + Sync,
    ) -> Answer<Ended> {
        let mut after = None;
        loop {
            let most = run
                .left
                .unwrap_or(u64::MAX)
                .min(BATCH)
                .min(run.pace.0.into());
            let Some(mut walk) = walk().filter(|_| most > 0) else {
                return Ok(Ended::Over);
            };
            if !self.renew(&run.held).await.map_err(doing(DOING))? {
                return Ok(Ended::TakenAway);
            }
            let began = Instant::now();
            walk.after = after.take().or(walk.after);
            let mut looked_at = LOOKED_AT;
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let (keys, end) = walk
                .places(self, most, &mut looked_at)
                .await
                .map_err(doing(DOING))?;
            let last = keys.last().cloned();
            if !keys.is_empty() {
                let batched = self
                    .batch(&run.held, work, keys)
                    .await
                    .map_err(doing(DOING))?;
                let Batched::Done {
                    done,
                    refused,
                    passed_over,
                } = batched
                else {
                    return Ok(Ended::TakenAway);
                };
                run.passed_over += passed_over;
                run.progress.done += done;
                run.progress.refused += refused;
                run.left = run.left.map(|left| left.saturating_sub(done));
                tell(&run.progress);
                if work.wakes_readers() && done > 0 {
                    // Others find the messages by polling, too.
                    let _ = self.log.notify(self.owner, Announcement::Messages).await;
                }
                run.pace.pause(done, began.elapsed()).await;
            }
            after = match end {
                WalkEnd::Over => return Ok(Ended::Over),
                WalkEnd::Full => last,
                WalkEnd::Stopped(place) => Some(place),
            };
        }
    }

    /// Takes the lease of an operation.
    async fn hold(&self, id: i64) -> Answer<Held> {
        let mut held = Held {
            id,
            owner: Uuid::now_v7(),
            epoch: 0,
        };
        match self
            .take(&held)
            .await
            .map_err(doing("taking the lease of an operation"))?
        {
            Some(epoch) => {
                held.epoch = epoch;
                Ok(held)
            }
            None => {
                let left = self.lease_left(id).await.unwrap_or_default();
                Err(AdminError::OperationInHand {
                    id,
                    left: duration(left.unwrap_or_default()),
                })
            }
        }
    }

    /// Renews the lease. False if it is another program's by now.
    pub(super) async fn renew(&self, held: &Held) -> DbResult<bool> {
        Ok(self.take(held).await? == Some(held.epoch))
    }

    /// Takes or renews the lease. Each statement is its own commit: of several programs that take it at the same time
    /// each would otherwise wait for the others.
    async fn take(&self, held: &Held) -> DbResult<Option<i64>> {
        let (leases, name) = (Leases::new(self.templates().await?), held.name());
        let mut tries = 1;
        loop {
            let (mut conn, _writing) = self.writer().await?;
            let taken = leases.take::<DB>(&mut conn, &name, held.owner, LEASE);
            match self.within(taken).await {
                Err(error) if tries < TRIES && DB::is_deadlock(&error) => tries += 1,
                taken => return taken,
            }
        }
    }

    async fn release(&self, held: &Held) -> DbResult<bool> {
        let (leases, name) = (Leases::new(self.templates().await?), held.name());
        let (mut conn, _writing) = self.writer().await?;
        let released = leases.release::<DB>(&mut conn, &name, held.owner, held.epoch);
        self.within(released).await
    }

    /// Changes the row of an operation.
    async fn change(&self, template: &str, values: &[Value<'_>]) -> DbResult<u64> {
        let mut tx = self.begin().await?;
        let changed = tx.run(template, values).await?;
        tx.commit().await?;
        Ok(changed)
    }
}

impl Pace {
    /// Waits until so many may have been done.
    async fn pause(self, done: u64, took: Duration) {
        if self.0 == u32::MAX {
            return;
        }
        let due = Duration::from_secs_f64(done as f64 / f64::from(self.0.max(1)));
        tokio::time::sleep(due.saturating_sub(took)).await;
    }
}
