//! What was damaged, what was said about it, and what was called for.
//!
//! Input: notes of the planter, the mirror, the endpoint, the reconcilers' reports and the stage. Output: a [`Verdict`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use super::table::Damage;

/// How far before a disturbance a call may have been answered that a process could not write down.
const SLACK: Duration = Duration::from_secs(3);

/// The most examples of what is wrong.
const EXAMPLES: usize = 5;

/// The books of one run.
#[derive(Debug, Default)]
pub struct Books(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    plants: BTreeMap<i64, Plant>,
    /// Rows whose change came so late that the job may take them for different.
    late: BTreeSet<i64>,
    longest_lag: Duration,
    /// Each row that a comparison or a call was about, and what it was called first.
    alarms: BTreeMap<i64, &'static str>,
    calls: BTreeMap<String, Calls>,
    disturbances: Vec<(Instant, Option<Instant>)>,
    comparisons: u64,
    rows: u64,
    unsettled: u64,
    healed: u64,
    failed: u64,
    wrong: Vec<String>,
    repeats: u64,
    again: u64,
}

#[derive(Debug)]
struct Plant {
    damage: Damage,
    planted: Instant,
    found: Option<Instant>,
    repaired: Option<Instant>,
}

/// The calls with one idempotency key.
#[derive(Debug)]
struct Calls {
    row: i64,
    /// The id of the repair.
    repair: String,
    /// Whether the endpoint has begun to do what it was asked for.
    was_tried: bool,
    answered: Vec<Answered>,
}

#[derive(Clone, Copy, Debug)]
struct Answered {
    at: Instant,
    /// Whether its caller may have given up before.
    is_late: bool,
}

impl Books {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no panic")
    }

    /// A row is about to be damaged. False if it is already.
    pub fn plant(&self, id: i64, damage: Damage) -> bool {
        let mut inner = self.lock();
        let is_new = !inner.plants.contains_key(&id);
        if is_new {
            let plant = Plant {
                damage,
                planted: Instant::now(),
                found: None,
                repaired: None,
            };
            inner.plants.insert(id, plant);
        }
        is_new
    }

    /// A change has come so long after its commit.
    pub fn mirrored(&self, id: i64, lag: Duration, limit: Duration) {
        let mut inner = self.lock();
        inner.longest_lag = inner.longest_lag.max(lag);
        if lag >= limit {
            inner.late.insert(id);
        }
    }

    /// A comparison says that a row differs.
    pub fn reported(&self, id: i64, kind: &str) {
        let mut inner = self.lock();
        inner.alarm(id, "reported");
        let Some(plant) = inner.plants.get_mut(&id) else {
            return;
        };
        plant.found.get_or_insert_with(Instant::now);
        if plant.damage.kind() != kind && plant.repaired.is_none() {
            let wrong = format!("row {id} is {:?} and was called {kind}", plant.damage);
            inner.wrong.push(wrong);
        }
    }

    /// A comparison has ended.
    pub fn compared(&self, rows: u64, healed: u64, unsettled: u64) {
        let mut inner = self.lock();
        inner.comparisons += 1;
        inner.rows += rows;
        inner.healed += healed;
        inner.unsettled += unsettled;
    }

    /// A comparison has failed.
    pub fn failed(&self) {
        self.lock().failed += 1;
    }

    /// A row has an open repair.
    pub fn opened(&self, id: i64) {
        self.lock().alarm(id, "to be repaired");
    }

    /// A call has come.
    pub fn called(&self, key: &str, row: i64) {
        let mut inner = self.lock();
        inner.alarm(row, "called for");
        if let Some(plant) = inner.plants.get_mut(&row) {
            plant.found.get_or_insert_with(Instant::now);
        }
        if let Some(calls) = inner.calls.get(key) {
            let (of, explained) = (calls.row, inner.explains(&calls.answered));
            let is_repeat = !calls.answered.is_empty();
            if of != row {
                inner.wrong(format!("the key {key} came for the rows {of} and {row}"));
            }
            inner.repeats += u64::from(is_repeat);
            if is_repeat && !explained {
                inner.wrong(format!(
                    "{key} was answered, and came again without a fault"
                ));
            }
            return;
        }
        // The key begins with the id of its repair.
        let repair = key.get(..36).unwrap_or(key).to_owned();
        let mut others: BTreeMap<&str, bool> = BTreeMap::new();
        for calls in inner.calls.values().filter(|calls| calls.row == row) {
            *others.entry(&calls.repair).or_default() |= calls.was_tried;
        }
        others.remove(repair.as_str());
        let untried = others.iter().find(|(_, was_tried)| !**was_tried);
        let wrong = untried
            .map(|(other, _)| format!("row {row} has two repairs at once: {other} and {repair}"));
        let is_another = !others.is_empty();
        inner.again += u64::from(is_another);
        inner.wrong.extend(wrong);
        let calls = Calls {
            row,
            repair,
            was_tried: false,
            answered: Vec::new(),
        };
        inner.calls.insert(key.to_owned(), calls);
    }

    /// The endpoint begins to do what it was asked for.
    pub fn tries(&self, key: &str) {
        if let Some(calls) = self.lock().calls.get_mut(key) {
            calls.was_tried = true;
        }
    }

    /// It has done it.
    pub fn repaired(&self, row: i64) {
        if let Some(plant) = self.lock().plants.get_mut(&row) {
            plant.repaired.get_or_insert_with(Instant::now);
        }
    }

    /// It has said so.
    pub fn answered(&self, key: &str, is_late: bool) {
        let at = Instant::now();
        if let Some(calls) = self.lock().calls.get_mut(key) {
            calls.answered.push(Answered { at, is_late });
        }
    }

    /// Something begins that keeps a process from hearing an answer, or from writing it down.
    pub fn disturb(&self) {
        self.lock().disturbances.push((Instant::now(), None));
    }

    /// It is over.
    pub fn calm(&self) {
        for (_, end) in &mut self.lock().disturbances {
            end.get_or_insert_with(Instant::now);
        }
    }

    /// Rows that were damaged before this moment and are not repaired.
    pub fn unrepaired(&self, before: Instant) -> usize {
        let inner = self.lock();
        let is_open = |plant: &&Plant| plant.planted < before && plant.repaired.is_none();
        inner.plants.values().filter(is_open).count()
    }

    /// Rows that were repaired since.
    pub fn repaired_since(&self, then: Instant) -> usize {
        let inner = self.lock();
        let is_later = |plant: &&Plant| plant.repaired.is_some_and(|at| at > then);
        inner.plants.values().filter(is_later).count()
    }

    /// How many calls came again after their answer.
    pub fn repeats(&self) -> u64 {
        self.lock().repeats
    }

    /// What came of it all.
    pub fn close(&self) -> Verdict {
        let inner = self.lock();
        let is_false = |(id, _): &(&i64, &&str)| !inner.plants.contains_key(*id);
        let alarms = inner.alarms.iter().filter(is_false);
        let (excused, wrong): (Vec<_>, Vec<_>) =
            alarms.partition(|(id, _)| inner.late.contains(*id));
        let of = |damage: &str| {
            let plants = inner.plants.values();
            let plants = plants.filter(|plant| plant.damage.kind() == damage);
            plants.count()
        };
        let took = |plant: &Plant| Some(plant.repaired? - plant.planted);
        let mut took: Vec<Duration> = inner.plants.values().filter_map(took).collect();
        took.sort_unstable();
        let open = |done: fn(&Plant) -> bool| {
            let plants = inner.plants.iter();
            let plants = plants.filter(|(_, plant)| !done(plant));
            plants
                .map(|(id, plant)| format!("{id} ({:?})", plant.damage))
                .collect()
        };
        Verdict {
            planted: ["missing", "different", "extra"].map(of),
            not_found: open(|plant| plant.found.is_some()),
            not_repaired: open(|plant| plant.repaired.is_some()),
            false_alarms: wrong
                .into_iter()
                .map(|(id, what)| format!("{id} was {what}"))
                .collect(),
            excused: excused.len(),
            longest_lag: inner.longest_lag,
            median: took.get(took.len() / 2).copied().unwrap_or_default(),
            longest: took.last().copied().unwrap_or_default(),
            comparisons: inner.comparisons,
            failed: inner.failed,
            rows: inner.rows,
            healed: inner.healed,
            unsettled: inner.unsettled,
            calls: inner.calls.len(),
            repeats: inner.repeats,
            again: inner.again,
            wrong: inner.wrong.clone(),
        }
    }
}

impl Inner {
    fn alarm(&mut self, id: i64, what: &'static str) {
        self.alarms.entry(id).or_insert(what);
    }

    fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// Whether a process may not know of any of these answers.
    fn explains(&self, answered: &[Answered]) -> bool {
        answered.iter().all(|answer| {
            let covers = |(from, to): &(Instant, Option<Instant>)| {
                answer.at + SLACK >= *from && to.is_none_or(|to| answer.at <= to + SLACK)
            };
            answer.is_late || self.disturbances.iter().any(covers)
        })
    }
}

/// What a run has shown.
#[derive(Debug)]
pub struct Verdict {
    planted: [usize; 3],
    not_found: Vec<String>,
    not_repaired: Vec<String>,
    false_alarms: Vec<String>,
    excused: usize,
    longest_lag: Duration,
    median: Duration,
    longest: Duration,
    comparisons: u64,
    failed: u64,
    rows: u64,
    healed: u64,
    unsettled: u64,
    calls: usize,
    repeats: u64,
    again: u64,
    wrong: Vec<String>,
}

impl Verdict {
    /// How many rows were damaged.
    pub fn planted(&self) -> usize {
        self.planted.iter().sum()
    }

    /// How many calls came again after their answer.
    pub fn repeats(&self) -> u64 {
        self.repeats
    }

    /// How many rows were late while they were looked at, and were not said to differ.
    pub fn healed(&self) -> u64 {
        self.healed
    }

    /// Everything that is not as promised.
    pub fn problems(&self) -> Vec<String> {
        let all = [
            ("false alarms", &self.false_alarms),
            ("never found", &self.not_found),
            ("never repaired", &self.not_repaired),
            ("wrong", &self.wrong),
        ];
        let told = |(what, rows): (&str, &Vec<String>)| {
            let some = rows.get(..EXAMPLES.min(rows.len())).unwrap_or_default();
            format!("{} {what}: {}", rows.len(), some.join("; "))
        };
        all.into_iter()
            .filter(|(_, rows)| !rows.is_empty())
            .map(told)
            .collect()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [missing, different, extra] = self.planted;
        let seconds = |time: Duration| time.as_secs_f64();
        writeln!(
            f,
            "{} comparisons of {} rows, {} ended by a fault",
            self.comparisons, self.rows, self.failed
        )?;
        writeln!(
            f,
            "{missing} missing, {different} different, {extra} extra: {} not found, {} not repaired; \
             repaired after {:.1} s (median), {:.1} s (longest)",
            self.not_found.len(),
            self.not_repaired.len(),
            seconds(self.median),
            seconds(self.longest)
        )?;
        writeln!(
            f,
            "{} rows were late while they were looked at, {} were too restless; longest lag {:.1} s; {} false alarms, {} of rows \
             whose change was later than the job allows",
            self.healed,
            self.unsettled,
            seconds(self.longest_lag),
            self.false_alarms.len(),
            self.excused
        )?;
        write!(
            f,
            "{} repairs were called for, {} calls came again after their answer, {} rows had a second repair later",
            self.calls, self.repeats, self.again
        )
    }
}
