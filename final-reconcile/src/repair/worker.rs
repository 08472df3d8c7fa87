//! Takes repairs that are due, looks at their rows again, and calls the endpoint.
//!
//! Input: the table of open repairs. State: the readers of each target. Output: calls, and repairs that are over.
//!
//! The source may have changed since a difference was found, and the target may have healed. So both rows are read again
//! when repairs are taken, and once more right before each call: a row that is equal is not called for, and a call has
//! the newest row. A call begins only if it ends before the lease does, so another process cannot call meanwhile.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use final_webhook::{Call, CallOutcome, Caller};
use futures::{StreamExt, stream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    QUICK, Repair,
    body::body,
    store::{RepairRow, RepairStore, Tried},
};
use crate::{
    compare::{DifferenceKind, Sides},
    error::{ReconcileError, Reconciled},
    form::Row,
    job::Job,
    side::Found,
};

/// How many repairs are taken at once, and how many of them are called for at once.
const BATCH: u32 = 20;
const AT_ONCE: usize = 8;

/// How often the table is looked at.
const POLL: Duration = Duration::from_secs(1);

/// How long to wait after the table could not be read.
const TROUBLE: Duration = Duration::from_secs(5);

/// How long a process keeps repairs that it has taken. What has not begun in time is left to the next claim.
const LEASE: Duration = Duration::from_secs(120);

/// How long a call may take, whatever its endpoint's time limit is. The lease covers a call that begins before this rest
/// of it.
const LONGEST: Duration = Duration::from_secs(30);

/// Repairs the rows of one job.
pub(crate) struct Worker {
    job: Job,
    repair: Repair,
    store: Arc<dyn RepairStore>,
    caller: Caller,
    owner: Uuid,
    sides: HashMap<String, Arc<Sides>>,
}

impl Worker {
    pub(crate) fn new(
        job: Job,
        repair: Repair,
        store: Arc<dyn RepairStore>,
        caller: Caller,
    ) -> Self {
        Self {
            job,
            repair,
            store,
            caller,
            owner: Uuid::now_v7(),
            sides: HashMap::new(),
        }
    }

    /// Goes on until it is told to stop. What is in hand then is finished first.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut in_trouble = false;
        while !stop.is_cancelled() {
            // The lease begins after this moment.
            let turn = Turn::new(Instant::now());
            let pause = match self
                .store
                .claim(self.job.name(), self.owner, BATCH, LEASE)
                .await
            {
                Ok(batch) => {
                    in_trouble = false;
                    if !batch.is_empty() {
                        self.batch(batch, turn).await;
                        continue;
                    }
                    POLL
                }
                Err(error) => {
                    if !in_trouble {
                        tracing::warn!(
                            target: "final::reconcile",
                            job = self.job.name(),
                            %error,
                            "repairs cannot be read or written; they stay, and are tried again"
                        );
                    }
                    in_trouble = true;
                    TROUBLE
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn batch(&mut self, batch: Vec<RepairRow>, turn: Turn) {
        let mut by_target: BTreeMap<String, Vec<RepairRow>> = BTreeMap::new();
        for repair in batch {
            by_target
                .entry(repair.target.clone())
                .or_default()
                .push(repair);
        }
        for (target, repairs) in by_target {
            if let Err(error) = self.of_target(&target, &repairs, turn).await {
                // The table may have been altered.
                self.sides.remove(&target);
                let tried = self.unread(&error);
                for repair in &repairs {
                    self.tried(repair, &tried).await;
                }
            }
        }
    }

    async fn of_target(&mut self, name: &str, repairs: &[RepairRow], turn: Turn) -> Reconciled<()> {
        let sides = match self.sides.get(name) {
            Some(sides) => Arc::clone(sides),
            None => {
                let sides = Arc::new(self.job.sides(name).await?);
                self.sides.insert(name.to_owned(), Arc::clone(&sides));
                sides
            }
        };
        let keys: Vec<Row> = repairs.iter().map(RepairRow::key).collect();
        let healed = match healed(&sides, &keys).await {
            // One row cannot be read. Each is read alone below, so that it holds up no other.
            Err(ReconcileError::Row { .. }) => HashSet::new(),
            healed => healed?,
        };
        let is_read = AtomicBool::new(true);
        let worker = &*self;
        stream::iter(repairs)
            .for_each_concurrent(AT_ONCE, |repair| {
                let is_over = healed.contains(&repair.key());
                let (sides, is_read) = (&sides, &is_read);
                async move {
                    let tried = match is_over {
                        true => Tried::Over,
                        false => match worker.one(repair, sides, turn).await {
                            Ok(tried) => tried,
                            Err(error) => {
                                is_read.store(false, Ordering::Relaxed);
                                worker.unread(&error)
                            }
                        },
                    };
                    worker.tried(repair, &tried).await;
                }
            })
            .await;
        if !is_read.into_inner() {
            self.sides.remove(name);
        }
        Ok(())
    }

    async fn one(&self, repair: &RepairRow, sides: &Sides, turn: Turn) -> Reconciled<Tried> {
        if turn.is_over(Instant::now()) {
            return Ok(not_in_turn(repair));
        }
        // Other calls of the batch came first, and both rows may have changed meanwhile.
        let key = [repair.key()];
        let source = sides.source.rows(&key).await?.into_iter().next();
        let target = sides.target.rows(&key).await?.into_iter().next();
        if turn.is_over(Instant::now()) {
            return Ok(not_in_turn(repair));
        }
        Ok(self
            .call(repair, sides, source.as_ref(), target.as_ref())
            .await)
    }

    /// Calls for a row if it still differs.
    async fn call(
        &self,
        repair: &RepairRow,
        sides: &Sides,
        source: Option<&Found>,
        target: Option<&Found>,
    ) -> Tried {
        if is_equal(source, target) {
            return Tried::Over;
        }
        let kind = match (source, target) {
            (_, None) => DifferenceKind::Missing,
            (None, _) => DifferenceKind::Extra,
            _ => DifferenceKind::Different,
        };
        if kind == DifferenceKind::Extra && !self.repair.extras {
            return Tried::Over;
        }
        let row = source.and_then(|found| found.row.as_ref());
        let columns = match kind == repair.difference() {
            true => repair.columns(),
            false => Vec::new(),
        };
        let content = (row, columns.as_slice());
        let text = body(
            self.repair.body,
            self.job.name(),
            kind,
            sides,
            &repair.key(),
            content,
        );
        let call = Call::new(
            text,
            "application/json;charset=UTF-8",
            &repair.id.to_string(),
        );
        let outcome = match call {
            Ok(call) => {
                let call = self.caller.call(&self.repair.endpoint, &call);
                match timeout(LONGEST, call).await {
                    Ok(outcome) => outcome,
                    Err(_) => {
                        return self.later(
                            repair,
                            None,
                            format!("the call was not over after {LONGEST:?}"),
                        );
                    }
                }
            }
            Err(error) => return self.later(repair, None, error.to_string()),
        };
        match outcome {
            CallOutcome::Done(_) | CallOutcome::Gone => Tried::Over,
            CallOutcome::Retry { after, why } => self.later(repair, after, why.to_string()),
            CallOutcome::Paused { until } => Tried::Later {
                after: until.saturating_duration_since(Instant::now()),
                error: repair
                    .last_error
                    .clone()
                    .unwrap_or_else(|| "the endpoint is paused".into()),
                counts: false,
            },
        }
    }

    fn later(&self, repair: &RepairRow, asked: Option<Duration>, error: String) -> Tried {
        let attempts = repair.attempts + 1;
        if attempts == QUICK {
            tracing::warn!(
                target: "final::reconcile",
                job = self.job.name(),
                repair = %repair.id,
                error,
                "a repair has failed three times; it is tried again, more slowly"
            );
        }
        let random = Uuid::now_v7().as_u128() as u16;
        let own = self
            .repair
            .pace
            .after(attempts, f64::from(random) / f64::from(u16::MAX));
        Tried::Later {
            after: asked.unwrap_or_default().max(own),
            error,
            counts: true,
        }
    }

    /// The rows could not be read.
    fn unread(&self, error: &ReconcileError) -> Tried {
        Tried::Later {
            after: self.repair.pace.quick,
            error: error_text(error),
            counts: false,
        }
    }

    /// What cannot be written down is tried again when the lease is over, with the same idempotency key.
    async fn tried(&self, repair: &RepairRow, tried: &Tried) {
        if let Err(error) = self.store.tried(repair, self.owner, tried).await {
            tracing::warn!(
                target: "final::reconcile",
                job = self.job.name(),
                %error,
                "repairs cannot be read or written; they stay, and are tried again"
            );
        }
    }
}

/// Until when calls may begin.
#[derive(Clone, Copy, Debug)]
struct Turn {
    until: Instant,
}

impl Turn {
    /// Of repairs that are claimed after this moment.
    fn new(claimed: Instant) -> Self {
        Self {
            until: claimed + LEASE.saturating_sub(LONGEST),
        }
    }

    fn is_over(self, now: Instant) -> bool {
        now >= self.until
    }
}

/// Due at once, for the next claim. This is no failure of the endpoint.
fn not_in_turn(repair: &RepairRow) -> Tried {
    Tried::Later {
        after: Duration::ZERO,
        error: repair
            .last_error
            .clone()
            .unwrap_or_else(|| "its turn did not come while it was claimed".into()),
        counts: false,
    }
}

/// The keys of rows that are equal on both sides.
async fn healed(sides: &Sides, keys: &[Row]) -> Reconciled<HashSet<Row>> {
    let source = by_key(sides.source.rows(keys).await?);
    let target = by_key(sides.target.rows(keys).await?);
    let is_healed = |key: &&Row| is_equal(source.get(*key), target.get(*key));
    Ok(keys.iter().filter(is_healed).cloned().collect())
}

fn is_equal(source: Option<&Found>, target: Option<&Found>) -> bool {
    source.map(|found| &found.hash) == target.map(|found| &found.hash)
}

fn by_key(found: Vec<Found>) -> HashMap<Row, Found> {
    found
        .into_iter()
        .map(|found| (found.key.clone(), found))
        .collect()
}

/// An error with its causes.
fn error_text(error: &ReconcileError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_begins_in_its_turn_is_over_before_the_lease_is() {
        let claimed = Instant::now();
        let turn = Turn::new(claimed);
        let begun: Vec<Duration> = (0..=LEASE.as_secs())
            .map(Duration::from_secs)
            .filter(|after| !turn.is_over(claimed + *after))
            .collect();
        assert!(begun.len() > 60, "there is time for more than one call");
        assert!(begun.iter().all(|after| *after + LONGEST < LEASE));
    }
}
