//! Takes repairs that are due, looks at their rows again, and has those that still differ mended.
//!
//! Input: the table of open repairs. State: the readers of each target. Output: tries, and repairs that are over.
//!
//! The source may have changed since a difference was found, and the target may have healed. So both rows are read again
//! when repairs are taken, and once more right before each try: a row that is equal is left alone, and a call or a message
//! has the newest row. A try begins only if it ends before the lease does, so another process cannot try meanwhile.
//!
//! Where the mirror tells how far it is, a repair that is done stays until the mirror has passed it. What is found of its row
//! meanwhile may only be the way that the repair takes through the mirror.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use final_webhook::Caller;
use futures::{StreamExt, stream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    row::RepairRow,
    store::{RepairStore, Tried},
    way::{Mended, Wanted, is_equal, row},
};
use crate::{
    error::{ReconcileError, Reconciled, causes},
    form::Row,
    job::{Job, described::Described, repair::Repair},
    mirror::{Due, Pulse, due},
    pace::QUICK,
    pair::{
        Order, Sides,
        difference::{DifferenceKind, kind},
    },
    side::Found,
    unit::UnitName,
};

/// How many repairs are taken at once.
const BATCH: u32 = 20;

/// How often the table is looked at.
const POLL: Duration = Duration::from_secs(1);

/// How long a row rests that has changed while it was written.
const SOON: Duration = Duration::from_secs(1);

/// How long it is not looked at most whether the mirror has passed a repair.
const FAR: Duration = Duration::from_secs(10);

/// How long to wait after the table could not be read.
const TROUBLE: Duration = Duration::from_secs(5);

/// Why a repair is not tried whose row cannot be found by its key any more.
const OTHER_KEY: &str = "the job has another key than this repair, so its row cannot be found; close it: a comparison or a \
    sweep opens another one if the row still differs";

/// Repairs the rows of one job.
pub(crate) struct Worker {
    units: Vec<Arc<UnitName>>,
    job: Job,
    repair: Repair,
    store: Arc<dyn RepairStore>,
    caller: Caller,
    owner: Uuid,
    tables: HashMap<String, Described<Tables>>,
}

/// Both tables of a target, and where its mirror tells how far it is.
struct Tables {
    sides: Sides,
    pulse: Option<Pulse>,
}

impl Worker {
    pub(crate) fn new(
        job: Job,
        repair: Repair,
        store: Arc<dyn RepairStore>,
        caller: Caller,
    ) -> Self {
        Self {
            units: job.units(),
            job,
            repair,
            store,
            caller,
            owner: Uuid::now_v7(),
            tables: HashMap::new(),
        }
    }

    /// Goes on until it is told to stop. What is in hand then is finished first.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut in_trouble = false;
        while !stop.is_cancelled() {
            // The lease begins after this moment.
            let turn = Turn::new(Instant::now(), &self.repair);
            // Each of them comes first in its turn.
            let next = self.units.len().min(1);
            self.units.rotate_left(next);
            let claim = self
                .store
                .claim(&self.units, self.owner, BATCH, self.repair.lease);
            let pause = match claim.await {
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
                self.tables.remove(&target);
                // One warning is enough for all of them.
                let first = repairs.first().map(|repair| self.unread(repair, &error));
                for (repair, tried) in repairs.iter().zip(first.iter().cycle()) {
                    self.tried(repair, tried).await;
                }
            }
        }
    }

    async fn of_target(&mut self, name: &str, repairs: &[RepairRow], turn: Turn) -> Reconciled<()> {
        let tables = self.tables(name, youngest(repairs)).await?;
        let sides = &tables.sides;
        let (repairs, others): (Vec<_>, Vec<_>) = repairs
            .iter()
            .partition(|repair| repair.key_form == *sides.key_form);
        for repair in others {
            self.tried(repair, &self.later(repair, None, OTHER_KEY.to_owned()))
                .await;
        }
        let passed = passed(&tables, &repairs).await?;
        let (repairs, early): (Vec<&RepairRow>, Vec<_>) = repairs
            .into_iter()
            .partition(|repair| repair.passes_at.is_none_or(|time| time <= passed));
        for repair in early {
            self.tried(repair, &until_passed(repair, passed)).await;
        }
        let keys: Vec<Row> = repairs.iter().map(|repair| repair.key()).collect();
        let healed = match healed(sides, &keys).await {
            // One row cannot be read. Each is read alone below, so that it holds up no other.
            Err(ReconcileError::Row { .. }) => HashSet::new(),
            healed => healed?,
        };
        let is_read = AtomicBool::new(true);
        let worker = &*self;
        stream::iter(repairs)
            .for_each_concurrent(self.repair.way.at_once(), |repair| {
                let is_over = healed.contains(&repair.key());
                let (tables, is_read) = (&*tables, &is_read);
                async move {
                    let tried = match is_over {
                        true => worker.over(),
                        false => match worker.one(repair, tables, turn).await {
                            Ok(tried) => tried,
                            Err(error) => {
                                is_read.store(false, Ordering::Relaxed);
                                match error {
                                    // This row alone cannot be read.
                                    ReconcileError::Row { .. } => {
                                        worker.later(repair, None, causes(&error))
                                    }
                                    error => worker.unread(repair, &error),
                                }
                            }
                        },
                    };
                    worker.tried(repair, &tried).await;
                }
            })
            .await;
        if !is_read.into_inner() {
            self.tables.remove(name);
        }
        Ok(())
    }

    /// Both tables, described no earlier than repairs of this age were opened: the columns that make their rows differ may have come
    /// since.
    async fn tables(&mut self, name: &str, age: Duration) -> Reconciled<Arc<Tables>> {
        let known = self.tables.get(name);
        if let Some(tables) = known.and_then(|known| known.if_newer_than(age)) {
            return Ok(tables);
        }
        let began = Instant::now();
        let (source, target, plan, pulse) = self.job.tables(name).await?;
        let sides = Sides::new(&source, &target, plan);
        let tables = Described::new(began, Tables { sides, pulse });
        let known = self.tables.entry(name.to_owned()).insert_entry(tables);
        // It was made just now.
        Ok(known.get().made())
    }

    async fn one(&self, repair: &RepairRow, tables: &Tables, turn: Turn) -> Reconciled<Tried> {
        if turn.is_over(Instant::now()) {
            return Ok(not_in_turn());
        }
        // Other tries of the batch came first, and both rows may have changed meanwhile.
        let (key, sides) = (repair.key(), &tables.sides);
        let source = row(&*sides.source, &key).await?;
        let target = row(&*sides.target, &key).await?;
        if turn.is_over(Instant::now()) {
            return Ok(not_in_turn());
        }
        self.mend(repair, tables, source.as_ref(), target.as_ref())
            .await
    }

    /// Tries to repair a row if it still differs.
    async fn mend(
        &self,
        repair: &RepairRow,
        tables: &Tables,
        source: Option<&Found>,
        target: Option<&Found>,
    ) -> Reconciled<Tried> {
        let sides = &tables.sides;
        if is_equal(source, target) {
            return Ok(self.over());
        }
        // What a call or a message was for may still be under way elsewhere. A scan or a comparison finds out.
        if repair.passes_at.is_some() && !self.repair.writes() {
            return Ok(match repair.found_again {
                0 => self.over(),
                _ => Tried::Anew,
            });
        }
        let kind = kind(source, target);
        // What a repair has inserted and the source has not any more, the copy may have deleted before.
        let extras = self.repair.extras || repair.is_ours != 0;
        if kind == DifferenceKind::Extra && !extras {
            return Ok(self.over());
        }
        let wanted = Wanted {
            job: self.job.name(),
            repair,
            sides,
            kind,
            source,
            target,
            form: self.repair.body,
            extras,
        };
        let longest = self.repair.longest();
        let mended = timeout(longest, self.repair.way.mend(&self.caller, &wanted)).await;
        let mended = mended.unwrap_or_else(|_| {
            Ok(Mended::Failed {
                error: format!("the repair was not over after {longest:?}"),
                after: None,
            })
        });
        Ok(match mended? {
            Mended::Done => match until(tables, self.job.settle_time()).await {
                until @ Due::Passed(_) => Tried::Rests {
                    until,
                    is_ours: repair.is_ours != 0,
                },
                Due::After(_) => self.over(),
            },
            Mended::Written { is_new } => Tried::Rests {
                until: until(tables, self.job.settle_time()).await,
                is_ours: is_new,
            },
            Mended::Failed { error, after } => self.later(repair, after, error),
            Mended::Paused { until } => Tried::Later {
                after: until.saturating_duration_since(Instant::now()),
                error: Some(last_error(repair, "the endpoint is paused")),
                counts: false,
            },
            Mended::Changed => Tried::Later {
                after: self.repair.pace.quick.min(SOON),
                error: None,
                counts: false,
            },
        })
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
            error: Some(error),
            counts: true,
        }
    }

    /// The rows could not be read.
    fn unread(&self, repair: &RepairRow, error: &ReconcileError) -> Tried {
        let error = causes(error);
        if repair.last_error.is_none() {
            tracing::warn!(
                target: "final::reconcile",
                job = self.job.name(),
                repair = %repair.id,
                error,
                "the rows of repairs cannot be read; the repairs stay, and are tried again"
            );
        }
        Tried::Later {
            after: self.repair.pace.quick,
            error: Some(error),
            counts: false,
        }
    }

    fn over(&self) -> Tried {
        Tried::Over {
            settle: self.job.settle_time(),
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

/// Until when a repair rests that is done just now. A source that does not tell its clock leaves the fixed time: a call that was
/// answered is not made again for it.
async fn until(tables: &Tables, settle: Duration) -> Due {
    let until = due(tables.pulse.as_ref(), settle).await;
    until.unwrap_or(Due::After(settle))
}

/// How long the youngest repair is open.
fn youngest(repairs: &[RepairRow]) -> Duration {
    let ages = repairs.iter().map(|repair| repair.age);
    let age = ages.min().and_then(|age| u64::try_from(age).ok());
    Duration::from_micros(age.unwrap_or_default())
}

/// The time that the mirror has passed. It is read only if a repair waits for it; without a heartbeat none waits any more.
async fn passed(tables: &Tables, repairs: &[&RepairRow]) -> Reconciled<i64> {
    let waits = repairs.iter().any(|repair| repair.passes_at.is_some());
    match &tables.pulse {
        Some(pulse) if waits => Ok(pulse.look().await?.passed().unwrap_or(i64::MIN)),
        _ => Ok(i64::MAX),
    }
}

/// The mirror needs at least as long as it lags behind the repair, if it brings a second in a second.
fn until_passed(repair: &RepairRow, passed: i64) -> Tried {
    let behind = repair.passes_at.unwrap_or(passed).saturating_sub(passed);
    let behind = Duration::from_micros(u64::try_from(behind).unwrap_or_default());
    Tried::Later {
        after: behind.clamp(SOON, FAR),
        error: None,
        counts: false,
    }
}

/// Until when tries may begin.
#[derive(Clone, Copy, Debug)]
struct Turn {
    until: Instant,
}

impl Turn {
    /// Of repairs that are claimed after this moment.
    fn new(claimed: Instant, repair: &Repair) -> Self {
        Self {
            until: claimed + repair.lease.saturating_sub(repair.longest()),
        }
    }

    fn is_over(self, now: Instant) -> bool {
        now >= self.until
    }
}

/// Due at once, for the next claim. This is no failure.
fn not_in_turn() -> Tried {
    Tried::Later {
        after: Duration::ZERO,
        error: None,
        counts: false,
    }
}

/// Why it failed last, or else why it is not done.
fn last_error(repair: &RepairRow, why: &str) -> String {
    let last = repair.last_error.clone();
    last.unwrap_or_else(|| why.to_owned())
}

/// The keys of rows that are equal on both sides.
async fn healed(sides: &Sides, keys: &[Row]) -> Reconciled<HashSet<Row>> {
    let (source, target) = sides.both(keys, Order::SourceFirst).await?;
    let is_healed = |key: &&Row| is_equal(source.get(*key), target.get(*key));
    Ok(keys.iter().filter(is_healed).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_that_begins_in_its_turn_is_over_before_the_lease_is() {
        for lease in [0, 4, 5, 120] {
            let repair = Repair::sql().lease(Duration::from_secs(lease));
            let claimed = Instant::now();
            let turn = Turn::new(claimed, &repair);
            let begun: Vec<Duration> = (0..=repair.lease.as_millis() as u64)
                .map(Duration::from_millis)
                .filter(|after| !turn.is_over(claimed + *after))
                .collect();
            assert!(begun.len() > 2_000, "there is time for more than one try");
            let is_over = |begun: &Duration| *begun + repair.longest() < repair.lease;
            assert!(begun.iter().all(is_over));
        }
    }
}
