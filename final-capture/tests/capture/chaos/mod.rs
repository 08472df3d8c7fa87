//! Every committed version arrives, in the order of its row, and nothing that was rolled back does, whatever dies: two
//! readers, their source and their target are killed and frozen, and wires are cut, while writers change rows in every
//! way.
//!
//! ```text
//!  writers ─▶ source ─▶ two readers ─▶ the log, or RabbitMQ ─▶ what comes
//!     │                                                            │
//!     └───────────────────────▶ books ◀───────────────────────────┘
//! ```
//!
//! The log is kept in two books: its rows, where each message stands once, and what a service gets of it. RabbitMQ has
//! the second alone.
//!
//! `FINAL_CAPTURE_CHAOS_SECONDS` makes the storm longer, `FINAL_CAPTURE_CHAOS_SEED` plays it again, and
//! `FINAL_CAPTURE_CHAOS_BROKER` is `log` or `rabbitmq`: `cargo xtask chaos capture --minutes 10` sets them.

mod arrivals;
mod books;
mod fault;
mod source;
mod stage;
mod writer;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use final_core::{SqlBroker, broker::Broker as _};
use sqlx::Pool;
use tokio::{
    sync::{Mutex, RwLock},
    task::JoinSet,
};

use self::{
    arrivals::{Log, TOPICS},
    books::{Books, Rule, Verdict},
    fault::Fault,
    source::Kind,
    stage::{SOON, Stage, Transport},
    writer::{Scene, Writer},
};

/// The runs come one after the other: each has its own servers and needs the machine.
static TURN: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_arrives_in_order_from_postgres_whatever_dies() {
    holds(Kind::Postgres, transport()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_arrives_in_order_from_mariadb_whatever_dies() {
    holds(Kind::MariaDb, transport()).await;
}

/// The ordinary tests play the log.
fn transport() -> Transport {
    match std::env::var("FINAL_CAPTURE_CHAOS_BROKER").as_deref() {
        Ok("rabbitmq") => Transport::RabbitMq,
        _ => Transport::Log,
    }
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().expect("a number"))
}

/// What a run has shown.
#[derive(Debug, Default)]
struct Report {
    /// How often each fault was done, and the longest time until everything from before its end had come.
    faults: BTreeMap<Fault, (u32, Duration)>,
    unknown: u64,
    verdicts: Vec<Verdict>,
    /// Readers that ended by themselves, rows of the log that appeared below others.
    problems: Vec<String>,
}

async fn holds(kind: Kind, transport: Transport) {
    let _turn = TURN.lock().await;
    let seed = number("FINAL_CAPTURE_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let seconds = number("FINAL_CAPTURE_CHAOS_SECONDS");
    println!("seed {seed}");
    let report = run(kind, transport, seed, seconds).await;
    println!("{report}");
    assert_eq!(report.wrong(), [] as [String; 0], "seed {seed}: {report}");
    let [first, ..] = report.verdicts.as_slice() else {
        panic!("no books");
    };
    assert!(first.came > 1_000, "too little to tell: {report}");
}

async fn run(kind: Kind, transport: Transport, seed: u64, seconds: Option<u64>) -> Report {
    let (mut random, start) = (fastrand::Rng::with_seed(seed), Instant::now());
    let mut stage = Stage::open(kind, transport).await;
    let (mut tasks, over) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
    let service = Arc::new(Books::new("a service", Rule::Again));
    let mut all = vec![Arc::clone(&service)];
    let mut log = None;
    match transport {
        Transport::Log => {
            let rows = Arc::new(Books::new("rows of the log", Rule::Once));
            all.insert(0, Arc::clone(&rows));
            let reader = Arc::new(Log::new(&stage.target.url()).expect("a URL"));
            consume_log(&stage, &mut tasks, service, &over).await;
            tasks.spawn(Arc::clone(&reader).follow(rows, Arc::clone(&over)));
            log = Some(reader);
        }
        Transport::RabbitMq => {
            let broker = final_amqp::Amqp::new(stage.target.url()).expect("a URL");
            let opened = arrivals::subscribe(broker).await;
            stage.keep_declarations().await;
            tasks.spawn(arrivals::consume(opened, service, Arc::clone(&over)));
        }
    }
    stage.start_all();
    stage.reads().await;

    let scene = Arc::new(Scene {
        kind,
        url: stage.writers.url(&stage.source.url()),
        direct_url: stage.source.url(),
        books: all,
        gate: RwLock::new(()),
        over: AtomicBool::new(false),
        large: AtomicI64::new(0),
        unknown: AtomicU64::new(0),
    });
    let mut writers = JoinSet::new();
    for number in 1..=4 {
        writers.spawn(Writer::new(Arc::clone(&scene), number, seed).run());
    }
    let mut report = Report::default();
    let log = log.as_deref();
    let stormed = storm(
        (&mut stage, &scene, log),
        (&mut random, start, seconds),
        &mut report,
    );
    let mut stuck = stormed.await.err();
    scene.over.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.expect("a writer");
    }
    if stuck.is_none() {
        stuck = all_come(&scene, "everything").await.err();
    }
    report.problems.extend(stuck);
    report.problems.extend(stage.died());
    let rows = stage.rows().await.into_iter().collect();
    let differ = |books: &Arc<Books>| books.differences(&rows);
    report
        .problems
        .extend(scene.books.iter().filter_map(differ));
    stage.stop_all().await;
    // A repeat would come now at the latest, with what the readers have sent at their end.
    tokio::time::sleep(Duration::from_millis(300)).await;
    if let Some(log) = log {
        unread(log, &mut report).await;
    }
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a task");
    }
    report.unknown = scene.unknown.load(Ordering::Relaxed);
    report.verdicts = scene.books.iter().map(|books| books.close()).collect();
    report
}

/// One fault after the other. Something that does not come in time ends it, and the books say what.
async fn storm(
    (stage, scene, log): (&mut Stage, &Arc<Scene>, Option<&Log>),
    (random, start, seconds): (&mut fastrand::Rng, Instant, Option<u64>),
    report: &mut Report,
) -> Result<(), String> {
    let large = if seconds.is_some() { 300_000 } else { 20_000 };
    catches_up(scene, "traffic before the first fault").await?;
    scene.large.store(large, Ordering::Relaxed);
    let mut plan = fault::first(seconds.is_none()).into_iter();
    let mut count = 0;
    loop {
        let fault = match (plan.next(), seconds) {
            (Some(fault), _) => fault,
            (None, Some(seconds)) if start.elapsed().as_secs() < seconds => fault::any(random),
            _ => return Ok(()),
        };
        count += 1;
        if count % 100 == 0 {
            scene.large.store(large, Ordering::Relaxed);
        }
        let lasts = Duration::from_millis(random.u64(100..1_200));
        println!("{:>6.1} s {fault:?}", start.elapsed().as_secs_f64());
        stage.break_it(fault, lasts, scene).await;
        report.problems.extend(stage.died());
        let took = catches_up(scene, &format!("traffic after {fault:?}")).await?;
        let (times, longest) = report.faults.entry(fault).or_default();
        (*times, *longest) = (*times + 1, took.max(*longest));
        if let Some(log) = log
            && log.is_full()
        {
            // Everything comes to rest, and is removed from the log.
            let _held = scene.gate.write().await;
            all_come(scene, "everything before a rest").await?;
            unread(log, report).await;
            log.clear().await.expect("the log");
        }
    }
}

/// Waits until everything that is committed by now has come, and writers go on.
async fn catches_up(scene: &Scene, what: &str) -> Result<Duration, String> {
    let now = Instant::now();
    for books in &scene.books {
        let (before, _) = books.flow();
        in_time(books, what, || {
            let (after, _) = books.flow();
            books.missing(now) == 0 && after - before >= 20
        })
        .await?;
        // For the person who looks for what is slow.
        if now.elapsed() > Duration::from_secs(5) {
            let seconds = now.elapsed().as_secs_f64();
            println!("         {seconds:.1} s until {} had {what}", books.place());
        }
    }
    Ok(now.elapsed())
}

async fn all_come(scene: &Scene, what: &str) -> Result<(), String> {
    for books in &scene.books {
        in_time(books, what, || books.missing(Instant::now()) == 0).await?;
    }
    Ok(())
}

async fn in_time(books: &Books, what: &str, is_so: impl Fn() -> bool) -> Result<(), String> {
    // A reader that takes over in the middle of the largest transaction reads once more what is done of it, and nothing of
    // that is seen here.
    let patience = match number("FINAL_CAPTURE_CHAOS_SECONDS") {
        Some(_) => SOON * 4,
        None => SOON,
    };
    let (mut since, mut came) = (Instant::now(), books.count());
    while !is_so() {
        // A large transaction takes its time, as long as something comes.
        let now = books.count();
        if now > came + 10_000 {
            (since, came) = (Instant::now(), now);
        }
        if since.elapsed() > patience {
            let (place, missing) = (books.place(), books.open());
            return Err(format!(
                "stuck: {place} did not have {what} within {patience:?}, {missing} transactions are missing"
            ));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

async fn unread(log: &Log, report: &mut Report) {
    match log.unread().await.expect("the log") {
        0 => {}
        rows => report
            .problems
            .push(format!("{rows} rows of the log appeared below others")),
    }
}

/// A service on the log, and one that never comes, for whom everything stays.
async fn consume_log(
    stage: &Stage,
    tasks: &mut JoinSet<()>,
    books: Arc<Books>,
    over: &Arc<AtomicBool>,
) {
    let url = stage.target.url();
    match stage.kind {
        Kind::MariaDb => consume_log_of::<sqlx::Postgres>(&url, tasks, books, over).await,
        Kind::Postgres => consume_log_of::<sqlx::MySql>(&url, tasks, books, over).await,
    }
}

async fn consume_log_of<DB: final_core::OutboxDatabase>(
    url: &str,
    tasks: &mut JoinSet<()>,
    books: Arc<Books>,
    over: &Arc<AtomicBool>,
) {
    let pool = Pool::<DB>::connect_lazy(url).expect("a URL");
    let log = SqlBroker::new(pool)
        .poll_interval(Duration::from_millis(200))
        .key_order(true);
    log.migrate().await.expect("tables");
    log.subscribe("keeper", &TOPICS).await.expect("a group");
    let opened = arrivals::subscribe(log).await;
    tasks.spawn(arrivals::consume(opened, books, Arc::clone(over)));
}

impl Report {
    /// Everything that is not as promised.
    fn wrong(&self) -> Vec<String> {
        let wrong = self.verdicts.iter().filter(|it| it.problems() > 0);
        let wrong = wrong.map(Verdict::to_string);
        self.problems.iter().cloned().chain(wrong).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count: u32 = self.faults.values().map(|(times, _)| times).sum();
        writeln!(
            f,
            "{count} faults, {} COMMITs without an answer",
            self.unknown
        )?;
        writeln!(
            f,
            "| fault | times | longest until all from before had come |"
        )?;
        writeln!(f, "| --- | ---: | ---: |")?;
        for (fault, (times, longest)) in &self.faults {
            writeln!(
                f,
                "| {fault:?} | {times} | {:.1} s |",
                longest.as_secs_f64()
            )?;
        }
        for verdict in &self.verdicts {
            writeln!(f, "{verdict}")?;
        }
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        Ok(())
    }
}
