//! What the scans of a unit share.
//!
//! Input: a lease. State: the description of both tables, and the troubles that are written down. Output: steps that are
//! saved, or why they were not.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Mutex, time::sleep};

use super::{
    pauses::Pauses,
    store::{NewSuspect, Saved, ScanKind, ScanStore, Standing, Step, Term},
    vitals::SharedVitals,
};
use crate::{
    error::{ReconcileError, causes},
    form::{Row, RowHash},
    job::{Job, described::Described},
    mirror::{Due, Pulse, due},
    pair::{Order, Sides},
    plan::Plan,
    side::Side,
    unit::UnitName,
};

/// Keys that are looked up at once.
pub(super) const BATCH: usize = 100;

/// How often a paused unit is looked at.
const PAUSED: Duration = Duration::from_secs(1);

/// How often a database may fail in a row before that is a trouble.
const TROUBLE: u32 = 3;

/// A job with its source and one of its targets.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) name: Arc<UnitName>,
    pub(crate) job: Job,
    pub(crate) store: Arc<dyn ScanStore>,
    pub(crate) vitals: SharedVitals,
    pub(crate) lease: Duration,
}

/// Both tables as they are described now.
pub(super) struct Tables {
    pub(super) sides: Sides,
    pub(super) source: Side,
    pub(super) target: Side,
    pub(super) plan: Plan,
    /// Where the mirror tells how far it is.
    pub(super) pulse: Option<Pulse>,
}

impl Tables {
    pub(super) fn new(source: Side, target: Side, plan: Plan, pulse: Option<Pulse>) -> Self {
        Self {
            sides: Sides::new(&source, &target, plan.clone()),
            source,
            target,
            plan,
            pulse,
        }
    }
}

/// Why a round has come to nothing.
#[derive(Debug)]
pub(super) enum Ended {
    /// Another process runs the scans.
    Deposed,
    /// Nothing is scanned until somebody resumes the job.
    Paused,
    /// The round was done but for something that cannot be now: why, and how long to wait for the next round.
    Partly(String, Duration),
    /// Trying again may help.
    Failed(ReconcileError),
}

impl From<ReconcileError> for Ended {
    fn from(error: ReconcileError) -> Self {
        Self::Failed(error)
    }
}

/// A unit while its lease is ours.
pub(super) struct Context {
    pub(super) unit: Arc<Unit>,
    pub(super) term: Term,
    tables: Mutex<Option<Described<Tables>>>,
    written: Mutex<Written>,
}

/// What is known of the troubles that the table has.
struct Written {
    /// None if that is not known.
    #[allow(clippy::option_option, reason = "what is not known is not nothing")]
    now: Option<Option<String>>,
    /// Scans that have not said yet whether they work. What the last process has written of them may still be true.
    unheard: BTreeSet<ScanKind>,
}

impl Context {
    pub(super) fn new(unit: Arc<Unit>, term: Term) -> Self {
        let wanted = unit.job.scans();
        let scans = [
            Some(ScanKind::Look),
            Some(ScanKind::Sweep),
            wanted.fresh.as_ref().map(|_| ScanKind::Fresh),
            wanted.updated.as_ref().map(|_| ScanKind::Updated),
        ];
        let written = Written {
            now: None,
            unheard: scans.into_iter().flatten().collect(),
        };
        Self {
            unit,
            term,
            tables: Mutex::default(),
            written: Mutex::new(written),
        }
    }

    pub(super) fn settle(&self) -> Duration {
        self.unit.job.settle_time()
    }

    /// Whether the mirror tells how far it is.
    pub(super) fn has_heartbeat(&self) -> bool {
        self.unit.job.heartbeat(&self.unit.name.target).is_some()
    }

    /// When rows are looked at again that were read just now. Without rows the source's clock is not asked.
    pub(super) async fn due(&self, suspects: &[NewSuspect]) -> Result<Due, Ended> {
        if suspects.is_empty() {
            return Ok(Due::default());
        }
        if !self.has_heartbeat() {
            return Ok(Due::After(self.settle()));
        }
        let tables = self.tables().await?;
        Ok(due(tables.pulse.as_ref(), self.settle()).await?)
    }

    /// How far the scans are.
    pub(super) async fn standing(&self) -> Result<Standing, Ended> {
        let standing = self.unit.store.standing(&self.unit.name).await;
        match standing.map_err(|error| self.state("reading the state of scans in", error))? {
            None => Err(Ended::Deposed),
            Some(standing) if standing.paused.is_some() => Err(Ended::Paused),
            Some(standing) => Ok(standing),
        }
    }

    /// Both tables. They are described again after a while and after a failure.
    pub(super) async fn tables(&self) -> Result<Arc<Tables>, Ended> {
        let mut tables = self.tables.lock().await;
        if let Some(tables) = tables.as_ref().and_then(Described::if_present) {
            return Ok(tables);
        }
        let began = Instant::now();
        let (source, target, plan, pulse) = self.unit.job.tables(&self.unit.name.target).await?;
        let described = Described::new(began, Tables::new(source, target, plan, pulse));
        let made = described.made();
        let keyed = self
            .unit
            .store
            .keyed(&self.term, &made.sides.key_form)
            .await;
        if keyed.map_err(|error| self.state("writing the state of scans to", error))? {
            tracing::warn!(
                target: "final::reconcile",
                job = self.unit.name.job,
                copy = self.unit.name.target,
                now = &*made.sides.key_form,
                "the key of a job is another one now: rows that waited for a look are found again by a sweep"
            );
        }
        *tables = Some(described);
        Ok(made)
    }

    /// The tables may have been altered.
    pub(super) async fn forget_tables(&self) {
        *self.tables.lock().await = None;
    }

    /// A stored position is of another column than the scan goes by now. The scan begins as one without a position, and a
    /// sweep finds what lies between both.
    pub(super) async fn begins_anew(
        &self,
        scan: ScanKind,
        before: &str,
        now: &str,
    ) -> Result<(), Ended> {
        self.tell_anew(scan, before, now);
        let unit = [Arc::clone(&self.unit.name)];
        let asked = self.unit.store.ask_sweep(&unit).await;
        asked.map_err(|error| self.state("writing the state of scans to", error))
    }

    /// Tells that a stored position is of another column or key.
    pub(super) fn tell_anew(&self, scan: ScanKind, before: &str, now: &str) {
        tracing::warn!(
            target: "final::reconcile",
            job = self.unit.name.job,
            copy = self.unit.name.target,
            scan = scan.name(),
            before,
            now,
            "the stored position of a scan is of another column or key, so the scan begins anew, as one without a position"
        );
    }

    /// Saves a step, and counts it.
    pub(super) async fn save(&self, step: &Step) -> Result<(), Ended> {
        let saved = self.unit.store.save(&self.term, step).await;
        let saved = saved.map_err(|error| self.state("writing the state of scans to", error))?;
        let (opened, is_paused) = match saved {
            Saved::Deposed => return Err(Ended::Deposed),
            Saved::Paused { opened } => (opened, true),
            Saved::Now { opened } => (opened, false),
        };
        let none = Default::default();
        self.unit
            .vitals
            .count(&self.unit.name, step.scan, &none, opened);
        for (scan, _, tally) in &step.tallies {
            self.unit.vitals.count(&self.unit.name, *scan, tally, 0);
        }
        match is_paused {
            true => Err(Ended::Paused),
            false => Ok(()),
        }
    }

    /// Reads both rows of each key. Returns those that are not equal.
    pub(super) async fn examine(&self, keys: &[Row]) -> Result<Vec<NewSuspect>, Ended> {
        let tables = self.tables().await?;
        let mut suspects = Vec::new();
        for keys in keys.chunks(BATCH) {
            let (source, target) = tables.sides.both(keys, Order::SourceFirst).await?;
            for key in keys {
                let hash = |found: &HashMap<Row, crate::side::Found>| -> Option<RowHash> {
                    found.get(key).map(|found| found.hash.clone())
                };
                let (source, target) = (hash(&source), hash(&target));
                if source != target {
                    suspects.push(NewSuspect {
                        key: key.clone(),
                        source,
                        target,
                    });
                }
            }
        }
        Ok(suspects)
    }

    /// An error of the database with the state.
    pub(super) fn state(&self, doing: &'static str, source: sqlx::Error) -> Ended {
        Ended::Failed(ReconcileError::Database {
            doing,
            side: self.unit.store.to_string(),
            source,
        })
    }

    /// Waits until the unit is not paused any more.
    pub(super) async fn paused(&self) {
        self.unit.vitals.paused(&self.unit.name, true);
        loop {
            sleep(PAUSED).await;
            match self.unit.store.standing(&self.unit.name).await {
                Ok(Some(standing)) if standing.paused.is_some() => {}
                // What the next round finds out is told then.
                Ok(_) => break,
                Err(_) => {}
            }
        }
        self.unit.vitals.paused(&self.unit.name, false);
    }

    /// A scan works.
    pub(super) async fn works(&self, scan: ScanKind) {
        self.unit.vitals.trouble(&self.unit.name, scan, None);
        self.write_troubles(scan).await;
    }

    /// A scan works but for something: a row that cannot be read, or a mirror that does not tell enough.
    pub(super) async fn works_partly(&self, scan: ScanKind, why: String) {
        let told = why.clone();
        if self.unit.vitals.trouble(&self.unit.name, scan, Some(why)) {
            tracing::warn!(
                target: "final::reconcile",
                job = self.unit.name.job,
                copy = self.unit.name.target,
                scan = scan.name(),
                error = told,
                "some rows cannot be compared or judged now; they are tried again until they can, and the others go on"
            );
        }
        self.write_troubles(scan).await;
    }

    /// A scan has failed. Says how long to wait.
    pub(super) async fn fails(
        &self,
        scan: ScanKind,
        error: &ReconcileError,
        pauses: &mut Pauses,
    ) -> Duration {
        let error_text = causes(error);
        if pauses.failures() == 0 {
            tracing::warn!(
                target: "final::reconcile",
                job = self.unit.name.job,
                copy = self.unit.name.target,
                scan = scan.name(),
                error = error_text,
                "a scan cannot run now; it is tried again until it can"
            );
        }
        let pause = pauses.next();
        let is_by_itself = matches!(error, ReconcileError::Database { .. });
        if !is_by_itself || pauses.failures() >= TROUBLE {
            let why = Some(error_text);
            self.unit.vitals.trouble(&self.unit.name, scan, why);
            self.write_troubles(scan).await;
        }
        pause
    }

    /// Writes the troubles down if they are not as the table has them. A trouble that an earlier process has written is
    /// over once all scans work.
    async fn write_troubles(&self, heard: ScanKind) {
        let now = self.unit.vitals.troubles(&self.unit.name);
        let mut written = self.written.lock().await;
        written.unheard.remove(&heard);
        let is_known = now.is_some() || written.unheard.is_empty();
        if !is_known || written.now.as_ref() == Some(&now) {
            return;
        }
        let told = self.unit.store.trouble(&self.term, now.as_deref()).await;
        // Without an answer it is written again at the next round.
        written.now = told.is_ok().then_some(now);
    }
}
