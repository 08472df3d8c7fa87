//! Takes repairs that are due, looks at their rows again, and calls the endpoint.
//!
//! Input: the table of open repairs. State: the readers of each target. Output: calls, and repairs that are over.
//!
//! The source may have changed since a difference was found, and the target may have healed. So both rows are read again
//! before each call: a row that is equal is not called for, and a call has the newest row.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
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

/// How long a process keeps repairs that it has taken: longer than its calls can take.
const LEASE: Duration = Duration::from_secs(120);

/// How long a call may take, whatever its endpoint's time limit is, so that the lease covers all calls of a batch.
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
            let pause = match self
                .store
                .claim(self.job.name(), self.owner, BATCH, LEASE)
                .await
            {
                Ok(batch) if batch.is_empty() => POLL,
                Ok(batch) => {
                    in_trouble = false;
                    self.batch(batch).await;
                    continue;
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

    async fn batch(&mut self, batch: Vec<RepairRow>) {
        let mut by_target: BTreeMap<String, Vec<RepairRow>> = BTreeMap::new();
        for repair in batch {
            by_target
                .entry(repair.target.clone())
                .or_default()
                .push(repair);
        }
        for (target, repairs) in by_target {
            if let Err(error) = self.of_target(&target, &repairs).await {
                // The table may have been altered.
                self.sides.remove(&target);
                let error = error_text(&error);
                for repair in &repairs {
                    let after = self.repair.pace.quick;
                    let error = error.clone();
                    self.tried(
                        repair,
                        Tried::Later {
                            after,
                            error,
                            counts: false,
                        },
                    )
                    .await;
                }
            }
        }
    }

    async fn of_target(&mut self, target: &str, repairs: &[RepairRow]) -> Reconciled<()> {
        let sides = match self.sides.get(target) {
            Some(sides) => Arc::clone(sides),
            None => {
                let sides = Arc::new(self.job.sides(target).await?);
                self.sides.insert(target.to_owned(), Arc::clone(&sides));
                sides
            }
        };
        let keys: Vec<Row> = repairs.iter().map(RepairRow::key).collect();
        let source = by_key(sides.source.rows(&keys).await?);
        let target = by_key(sides.target.rows(&keys).await?);
        let worker = &*self;
        stream::iter(repairs)
            .for_each_concurrent(AT_ONCE, |repair| {
                let key = repair.key();
                let (source, target) = (source.get(&key), target.get(&key));
                let sides = &sides;
                async move {
                    let tried = worker.one(repair, sides, source, target).await;
                    worker.tried(repair, tried).await;
                }
            })
            .await;
        Ok(())
    }

    async fn one(
        &self,
        repair: &RepairRow,
        sides: &Sides,
        source: Option<&Found>,
        target: Option<&Found>,
    ) -> Tried {
        if source.map(|found| &found.hash) == target.map(|found| &found.hash) {
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

    /// What cannot be written down is tried again when the lease is over, with the same idempotency key.
    async fn tried(&self, repair: &RepairRow, tried: Tried) {
        if let Err(error) = self.store.tried(repair, self.owner, &tried).await {
            tracing::warn!(
                target: "final::reconcile",
                job = self.job.name(),
                %error,
                "repairs cannot be read or written; they stay, and are tried again"
            );
        }
    }
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
