//! Only what differs is told and repaired, and all of it is, whatever dies: reconcilers scan two tables in which rows
//! change all the time, while they, both databases, their own database and the endpoint are killed and frozen.
//!
//! ```text
//!  writers ─▶ source ◀───────┬─ two reconcilers ─ call ─▶ endpoint
//!     └─▶ mirror, late ─▶ copy ◀──────┴──────────────────────┘
//!          planter, damage ─▲
//! ```
//!
//! The planter writes each row that it damages into the books, so a row that a comparison, a repair or a call is about is a
//! false alarm if it is not in them. Nothing but the endpoint mends a damaged row.
//!
//! `FINAL_RECONCILE_CHAOS_SECONDS` makes the storm longer and the tables larger, `…_UPDATES` lets it last until so many rows
//! were updated, `…_LAG_SECONDS` is the longest lag of the mirror, and `…_SEED` plays it again:
//! `cargo xtask chaos reconcile --minutes 20 --updates 1000000` sets them. With `…_HEARTBEAT=1` a difference counts once the
//! mirror has passed it, instead of after a time that is longer than the lag.

mod beats;
mod books;
mod endpoint;
mod fault;
pub mod node;
mod planter;
mod stage;
mod table;
mod writer;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Mutex, task::JoinSet, time::sleep};

use self::{
    books::{Books, Verdict},
    fault::Fault,
    node::Judgement,
    stage::{SOON, Stage},
    table::Kind,
    writer::{Scene, WRITERS},
};

/// The runs come one after the other: each has its own servers and needs the machine.
static TURN: Mutex<()> = Mutex::const_new(());

/// Of so many rows one is damaged in each way before the first fault.
const PLANTED: i64 = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_differs_is_repaired_and_all_of_it_from_postgres_whatever_dies() {
    holds(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_differs_is_repaired_and_all_of_it_from_mariadb_whatever_dies() {
    holds(Kind::MariaDb).await;
}

/// How often a call is made to come again after its answer, until one has.
const MOST_REPEATS: usize = 10;

/// How large a run is.
#[derive(Clone, Copy, Debug)]
struct Size {
    seed: u64,
    /// How long the storm lasts at least; without it, until each fault of the short form was done.
    seconds: Option<u64>,
    updates: u64,
    rows: i64,
    lag: Duration,
    has_heartbeat: bool,
    /// The pause between two rows that are damaged.
    pause: Duration,
}

impl Size {
    fn read() -> Self {
        let number = |name: &str| {
            let value = std::env::var(format!("FINAL_RECONCILE_CHAOS_{name}")).ok()?;
            Some(value.parse().expect("a number"))
        };
        let seconds = number("SECONDS");
        let (rows, lag, pause) = match seconds {
            None => (20_000, 1, 250),
            Some(_) => (200_000, 30, 1_500),
        };
        Self {
            seed: number("SEED").unwrap_or_else(|| fastrand::u64(..1_000_000)),
            seconds,
            updates: number("UPDATES").unwrap_or(0),
            rows,
            lag: Duration::from_secs(number("LAG_SECONDS").unwrap_or(lag)),
            has_heartbeat: number("HEARTBEAT") == Some(1),
            pause: Duration::from_millis(pause),
        }
    }

    /// Longer than a copy lags.
    fn settle(self) -> Duration {
        self.lag.mul_f64(1.5)
    }

    fn judgement(self) -> Judgement {
        Judgement {
            settle: match self.has_heartbeat {
                true => Duration::ZERO,
                false => self.settle(),
            },
            has_heartbeat: self.has_heartbeat,
        }
    }

    /// A change that is later may look like a difference.
    fn most(self) -> Duration {
        match self.has_heartbeat {
            true => Duration::MAX,
            false => self.settle() * 2,
        }
    }

    /// How long something may take that has to be found first: a row may change between several looks.
    fn patience(self) -> Duration {
        SOON + self.settle() * 24
    }

    /// Whether the storm goes on, once each fault was done.
    fn goes_on(self, start: Instant, scene: &Scene) -> bool {
        let lasts = self
            .seconds
            .is_some_and(|seconds| start.elapsed().as_secs() < seconds);
        lasts || scene.updates() < self.updates
    }
}

/// What a run has shown.
#[derive(Debug)]
struct Report {
    /// How often each fault was done, and the longest time until repairs went on.
    faults: BTreeMap<Fault, (u32, Duration)>,
    took: Duration,
    updates: u64,
    others: u64,
    verdict: Verdict,
    /// Reconcilers that ended by themselves, what got stuck, rows that differ in the end.
    problems: Vec<String>,
}

async fn holds(from: Kind) {
    let _turn = TURN.lock().await;
    let size = Size::read();
    println!("seed {}", size.seed);
    let report = run(from, size).await;
    println!("{report}");
    assert_eq!(
        report.wrong(),
        [] as [String; 0],
        "seed {}: {report}",
        size.seed
    );
    let verdict = &report.verdict;
    let is_enough = report.updates > 5_000
        && verdict.planted() > 50
        && verdict.healed() > 100
        && verdict.repeats() > 0;
    assert!(is_enough, "too little to tell: {report}");
}

async fn run(from: Kind, size: Size) -> Report {
    let (mut random, start) = (fastrand::Rng::with_seed(size.seed), Instant::now());
    let books = Arc::new(Books::default());
    let judged = (size.judgement(), size.patience());
    let mut stage = Stage::set(from, size.rows, judged, Arc::clone(&books)).await;
    let urls = (stage.urls.source.clone(), stage.urls.target.clone());
    let times = (size.lag, size.most());
    let scene = Arc::new(Scene::new(urls, Arc::clone(&books), times, size.rows));
    planter::burst(&scene, (size.rows / PLANTED).max(1), size.seed).await;
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        writers.spawn(writer::write(Arc::clone(&scene), number, size.seed));
    }
    let beats = beats::beat(Arc::clone(&scene));
    let beats = size.has_heartbeat.then(|| tokio::spawn(beats));
    let listener = stage::hear_of_repairs(stage.urls.state.clone(), Arc::clone(&scene));
    let listener = tokio::spawn(listener);
    let have_ended = Arc::new(AtomicBool::new(false));
    let mirror = writer::mirror(Arc::clone(&scene), Arc::clone(&have_ended), size.seed);
    let mirror = tokio::spawn(mirror);
    stage.start_all();

    let mut faults = BTreeMap::new();
    let stormed = storm(
        (&mut stage, &scene, size),
        (&mut random, start),
        &mut writers,
        &mut faults,
    );
    let mut stuck = stormed.await.err();
    scene.over.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.expect("a writer");
    }
    have_ended.store(true, Ordering::Relaxed);
    mirror.await.expect("the mirror");
    listener.await.expect("a listener");
    if stuck.is_none() {
        stuck = comes_to_rest(&mut stage, &scene, size).await.err();
    }
    beats.iter().for_each(tokio::task::JoinHandle::abort);
    stage.listen();
    let mut problems: Vec<String> = stuck.into_iter().chain(stage.problems()).collect();
    stage.stop_all().await;
    stage.listen();
    problems.extend(stage.problems());
    let differences = stage.differences().await;
    problems.extend(
        differences
            .into_iter()
            .map(|row| format!("in the end {row}")),
    );
    Report {
        faults,
        took: start.elapsed(),
        updates: scene.updates(),
        others: scene.others.load(Ordering::Relaxed),
        verdict: books.close(),
        problems,
    }
}

/// One fault after the other. Something that does not come in time ends it, and the books say what.
async fn storm(
    (stage, scene, size): (&mut Stage, &Arc<Scene>, Size),
    (random, start): (&mut fastrand::Rng, Instant),
    tasks: &mut JoinSet<()>,
    faults: &mut BTreeMap<Fault, (u32, Duration)>,
) -> Result<(), String> {
    // While nothing is broken, no call comes again.
    let books = &scene.books;
    in_time(stage, size.patience(), "the first repairs", || {
        books.unrepaired(Instant::now()) == 0
    })
    .await?;
    tasks.spawn(planter::plant(Arc::clone(scene), size.pause, size.seed + 1));
    let mut plan = fault::first(size.seconds.is_none()).into_iter();
    // Whether a process has written an answer down before it dies is chance.
    let mut repeats = std::iter::repeat_n(Fault::DieBeforeRecord, MOST_REPEATS);
    loop {
        let fault = match plan.next() {
            Some(fault) => fault,
            None if size.goes_on(start, scene) => fault::any(random),
            None if books.repeats() > 0 => return Ok(()),
            None => match repeats.next() {
                Some(fault) => fault,
                None => return Ok(()),
            },
        };
        let lasts = Duration::from_millis(random.u64(100..1_200));
        println!("{:>6.1} s {fault:?}", start.elapsed().as_secs_f64());
        stage.break_it(fault, lasts, scene, random.usize(..2)).await;
        let mended = Instant::now();
        let what = format!("repairs after {fault:?}");
        in_time(stage, size.patience(), &what, || {
            books.repaired_since(mended) >= 3
        })
        .await?;
        let (times, longest) = faults.entry(fault).or_default();
        (*times, *longest) = (*times + 1, mended.elapsed().max(*longest));
    }
}

/// All that is damaged is repaired, nothing is open, and each reconciler finds both tables equal.
async fn comes_to_rest(stage: &mut Stage, scene: &Scene, size: Size) -> Result<(), String> {
    let books = &scene.books;
    in_time(stage, size.patience(), "every repair", || {
        books.unrepaired(Instant::now()) == 0
    })
    .await?;
    let since = Instant::now();
    let mut open = stage.open().await;
    while !matches!(open, Ok(0)) {
        if since.elapsed() > size.patience() {
            let said = stage.last_lines();
            return Err(format!(
                "stuck: {open:?} repairs, suspects and pauses are left; {said}"
            ));
        }
        sleep(Duration::from_millis(200)).await;
        stage.listen();
        open = stage.open().await;
    }
    stage.listen();
    stage.forget_equal();
    let since = Instant::now();
    while !stage.is_proved() {
        if since.elapsed() > size.patience() {
            let said = stage.last_lines();
            return Err(format!("stuck: the tables are not proved equal; {said}"));
        }
        sleep(Duration::from_millis(100)).await;
        stage.listen();
    }
    Ok(())
}

async fn in_time(
    stage: &mut Stage,
    patience: Duration,
    what: &str,
    is_so: impl Fn() -> bool,
) -> Result<(), String> {
    let since = Instant::now();
    loop {
        stage.listen();
        if is_so() {
            return Ok(());
        }
        if since.elapsed() > patience {
            let said = stage.last_lines();
            return Err(format!("stuck: not within {patience:?}: {what}; {said}"));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

impl Report {
    /// Everything that is not as promised.
    fn wrong(&self) -> Vec<String> {
        let problems = self.problems.iter().cloned();
        problems.chain(self.verdict.problems()).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count: u32 = self.faults.values().map(|(times, _)| times).sum();
        writeln!(
            f,
            "{:.0} s, {count} faults, {} updates, {} inserts and deletes",
            self.took.as_secs_f64(),
            self.updates,
            self.others
        )?;
        writeln!(f, "| fault | times | longest until repairs went on |")?;
        writeln!(f, "| --- | ---: | ---: |")?;
        for (fault, (times, longest)) in &self.faults {
            let seconds = longest.as_secs_f64();
            writeln!(f, "| {fault:?} | {times} | {seconds:.1} s |")?;
        }
        writeln!(f, "{}", self.verdict)?;
        for problem in &self.wrong() {
            writeln!(f, "{problem}")?;
        }
        Ok(())
    }
}
