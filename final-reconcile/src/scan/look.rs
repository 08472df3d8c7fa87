//! Looks at suspects, until they are equal or really different.
//!
//! Input: rows whose look is due. State: what both sides had at the last look, which is stored. Output: open repairs, and
//! counts.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;

use super::{
    beat::Beat,
    context::{BATCH, Context, Ended, Tables},
    room::Fullness,
    round::Scan,
    store::{ScanKind, Step, Suspect, SuspectKey, Tally, Then},
};
use crate::{
    error::{ReconcileError, Reconciled, causes},
    form::Row,
    mirror::{Due, due},
    pair::{
        Both, Order,
        difference::{DifferenceKind, RowDifference, kind},
        judge::{Verdict, needed},
    },
    plan::json,
    side::Found,
};

/// How many suspects are taken at once.
const MOST: u32 = 500;

/// How often it is looked for suspects: without a heartbeat, and with one.
const POLL: Duration = Duration::from_millis(200);
const BEAT: Duration = Duration::from_millis(500);

/// When a row is looked at again that cannot be read.
const UNREADABLE: Duration = Duration::from_secs(60);

/// The most that is kept of why it cannot.
const MOST_TEXT: usize = 1_000;

/// Looks at suspects.
pub(super) struct Look {
    /// Whether there may be rows that cannot be looked at. The others go on.
    may_be_unreadable: bool,
    beat: Beat,
    fullness: Fullness,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            may_be_unreadable: true,
            beat: Beat::default(),
            fullness: Fullness::default(),
        }
    }
}

/// What a batch of looks has shown.
#[derive(Default)]
struct Shown {
    /// When rows are looked at again.
    due: Due,
    looked: Vec<(Suspect, Then)>,
    tallies: BTreeMap<ScanKind, Tally>,
    missing: u64,
    different: u64,
    extra: u64,
}

impl Look {
    async fn one(&mut self, context: &Context) -> Result<Duration, Ended> {
        context.standing().await?;
        let (store, name) = (&context.unit.store, &context.unit.name);
        let (passed, pause) = match context.has_heartbeat() {
            false => {
                self.beat.unknown(context).await;
                (None, POLL)
            }
            true => (self.beat.passed(context).await?, BEAT),
        };
        let due = store.due(name, passed, MOST).await;
        let due = due.map_err(|error| context.state("reading suspects from", error))?;
        if due.is_empty() {
            return self.ended(context, pause).await;
        }
        let tables = context.tables().await?;
        let mut due = due.into_iter();
        loop {
            let batch: Vec<Suspect> = due.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                break;
            }
            let shown = self.look(context, &tables, batch).await?;
            self.save(context, shown).await?;
        }
        self.ended(context, Duration::ZERO).await
    }

    /// A row that cannot be read is a trouble until it can, and so is a mirror that is too far behind. So are changes that
    /// are held back, because too many rows wait.
    async fn ended(&mut self, context: &Context, pause: Duration) -> Result<Duration, Ended> {
        let unreadable = match self.may_be_unreadable {
            false => None,
            true => {
                let (store, name) = (&context.unit.store, &context.unit.name);
                let why = store.unreadable(name).await;
                why.map_err(|error| context.state("reading suspects from", error))?
            }
        };
        self.may_be_unreadable = unreadable.is_some();
        let full = self.fullness.trouble(context).await?;
        let all = self.beat.trouble().into_iter().chain(unreadable);
        let all: Vec<String> = all.chain(full).collect();
        match all.is_empty() {
            false => Err(Ended::Partly(all.join("; "), pause)),
            true => Ok(pause),
        }
    }

    async fn look(
        &mut self,
        context: &Context,
        tables: &Tables,
        batch: Vec<Suspect>,
    ) -> Reconciled<Shown> {
        let mut shown = Shown::default();
        let mut known: Vec<(Suspect, Row)> = Vec::with_capacity(batch.len());
        for suspect in batch {
            let key = match &suspect.key {
                SuspectKey::Row(key) => Ok(key.clone()),
                SuspectKey::Json(text) => json::key(&tables.plan.source, text),
            };
            match key {
                Ok(key) => known.push((suspect, key)),
                Err(error) => self.put_off(&mut shown, suspect, error),
            }
        }
        let keys: Vec<Row> = known.iter().map(|(_, key)| key.clone()).collect();
        match read(tables, &keys).await {
            Ok((source, target)) => {
                for (suspect, key) in known {
                    let found = (source.get(&key), target.get(&key));
                    judge(context, tables, &mut shown, suspect, key, found);
                }
            }
            // One row cannot be read. Each is read alone, so that it holds up no other.
            Err(ReconcileError::Row { .. }) => {
                for (suspect, key) in known {
                    match read(tables, std::slice::from_ref(&key)).await {
                        Ok((source, target)) => {
                            let found = (source.get(&key), target.get(&key));
                            judge(context, tables, &mut shown, suspect, key, found);
                        }
                        Err(error @ ReconcileError::Row { .. }) => {
                            self.put_off(&mut shown, suspect, error);
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
        let is_over =
            |(_, then): &(Suspect, Then)| !matches!(then, Then::Again(_) | Then::Later(..));
        if !shown.looked.iter().all(is_over) {
            shown.due = due(tables.pulse.as_ref(), context.settle()).await?;
        }
        Ok(shown)
    }

    fn put_off(&mut self, shown: &mut Shown, suspect: Suspect, error: ReconcileError) {
        self.may_be_unreadable = true;
        let why = causes(&error).chars().take(MOST_TEXT).collect();
        shown.looked.push((suspect, Then::Later(why, UNREADABLE)));
    }

    async fn save(&self, context: &Context, shown: Shown) -> Result<(), Ended> {
        let tallies = shown.tallies.into_iter();
        let step = Step {
            scan: ScanKind::Look,
            looked: shown.looked,
            due: shown.due,
            most_repairs: context.unit.job.most_repairs(),
            tallies: tallies
                .filter(|(_, tally)| *tally != Tally::default())
                .map(|(scan, tally)| (scan, None, tally))
                .collect(),
            ..Step::default()
        };
        let saved = context.save(&step).await;
        if shown.missing + shown.different + shown.extra > 0
            && !matches!(saved, Err(Ended::Deposed | Ended::Failed(_)))
        {
            tracing::warn!(
                target: "final::reconcile",
                job = context.unit.name.job,
                copy = context.unit.name.target,
                missing = shown.missing,
                different = shown.different,
                extra = shown.extra,
                "rows of a copy differ"
            );
        }
        if matches!(saved, Err(Ended::Paused)) {
            tracing::error!(
                target: "final::reconcile",
                job = context.unit.name.job,
                copy = context.unit.name.target,
                most = context.unit.job.most_repairs(),
                "more rows differ within an hour than may be repaired; this looks like a wrong mapping, and nothing is scanned \
                 until somebody resumes the job"
            );
        }
        saved
    }
}

impl Scan for Look {
    fn kind(&self) -> ScanKind {
        ScanKind::Look
    }

    fn round<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, Result<Duration, Ended>> {
        Box::pin(self.one(context))
    }
}

async fn read(tables: &Tables, keys: &[Row]) -> Reconciled<Both> {
    let order = Order::of(tables.pulse.is_some());
    tables.sides.both(keys, order).await
}

fn judge(
    context: &Context,
    tables: &Tables,
    shown: &mut Shown,
    mut suspect: Suspect,
    key: Row,
    (source, target): (Option<&Found>, Option<&Found>),
) {
    let needed = needed(context.settle(), tables.pulse.is_some());
    let tally = shown.tallies.entry(suspect.scan).or_default();
    let is_first = suspect.looks.last.is_none();
    tally.rows += u64::from(is_first);
    let then = match suspect.looks.judge(source, target, needed) {
        Verdict::Equal => {
            // The key of a change was no suspect before its first look.
            tally.healed += u64::from(!is_first);
            Then::Equal
        }
        Verdict::Again => Then::Again(suspect.looks.clone()),
        Verdict::Restless => {
            tally.unsettled += 1;
            Then::Over
        }
        Verdict::Differs => {
            tally.found += 1;
            let kind = kind(source, target);
            match kind {
                DifferenceKind::Missing => shown.missing += 1,
                DifferenceKind::Different => shown.different += 1,
                DifferenceKind::Extra => shown.extra += 1,
            }
            match context.unit.job.is_repaired(kind) {
                false => Then::Over,
                true => Then::Repair(RowDifference {
                    key_form: Arc::clone(&tables.sides.key_form),
                    named: tables.sides.named(&key),
                    key,
                    kind,
                    columns: tables.sides.differing(source, target),
                }),
            }
        }
    };
    shown.looked.push((suspect, then));
}
