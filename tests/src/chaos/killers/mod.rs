//! Messages whose handlers kill their process, and books that show what was given up.
//!
//! ```text
//! publisher ─▶ queue with a delivery limit ─▶ two processes, each started again when it is killed
//!                                              │ journal of each: began, handled
//!              dead letters ◀──────────────────┘        └──▶ books ─▶ verdict
//! ```
//!
//! Input: a [`KillerPlan`]. Output: a [`Verdict`]: each message is handled or dead-lettered, each that always kills
//! its process is dead-lettered, and no other message is before it had three runs.

mod books;
mod fate;
mod letters;
mod victim;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use final_amqp::Amqp;
use final_core::{Bus, Options, OutboxDatabase, Router};
use serde_json::json;
use tokio::time::{Instant, sleep};

use self::{books::KillerBooks, fate::HandlerFate, letters::Letters};
use super::plan::DatabaseKind;
use crate::{
    Error, Result, WorkDir,
    process::{Launch, Process},
};

pub use books::Verdict;
pub use victim::{VictimJob, be_victim};

/// Deliveries of a message after which RabbitMQ gives it up.
const DELIVERY_LIMIT: u32 = 5;
/// The processes of the service.
const PROCESSES: usize = 2;
/// Messages that wait when the first process starts, and that are published at once now and then.
const PILE: i64 = 300;
const BETWEEN_PILES: Duration = Duration::from_secs(30);
/// Between two other messages.
const PACE: Duration = Duration::from_millis(25);
/// How long one process works before it is shut down in order and started again.
const SHIFT: Duration = Duration::from_secs(3);
/// How long a process that was killed stays away.
const AWAY: Duration = Duration::from_millis(100);
/// How long it may take after the last message until each is handled or dead-lettered.
const STUCK: Duration = Duration::from_secs(180);
/// How long a process may take to shut down.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to run, and for how long.
#[derive(Debug, Clone)]
pub struct KillerPlan {
    /// Chooses which messages kill.
    pub seed: u64,
    /// The database of the service.
    pub database: DatabaseKind,
    /// Whether the service has a classic queue, which has no delivery limit.
    pub is_classic: bool,
    /// How long messages are published.
    pub time: Duration,
    /// How long it may take after the last message until each is handled or dead-lettered.
    pub patience: Duration,
}

impl KillerPlan {
    /// Some seconds on PostgreSQL with a quorum queue.
    pub fn short(seed: u64) -> Self {
        Self {
            seed,
            database: DatabaseKind::Postgres,
            is_classic: false,
            time: Duration::from_secs(4),
            patience: STUCK,
        }
    }
}

/// Runs the plan with processes of this program, and returns the verdict.
///
/// # Errors
///
/// Fails if the servers or the processes cannot be started. Broken promises are in the verdict.
pub async fn run_killers(plan: &KillerPlan, worker: &Path) -> Result<Verdict> {
    match plan.database {
        DatabaseKind::Postgres => {
            let url = crate::pg_database().await?;
            let pool = sqlx::PgPool::connect_lazy(&url).map_err(|cause| no_pool(&cause))?;
            run_on(plan, worker, url, pool).await
        }
        DatabaseKind::MariaDb => {
            let url = crate::mysql_database().await?;
            let pool = sqlx::MySqlPool::connect_lazy(&url).map_err(|cause| no_pool(&cause))?;
            run_on(plan, worker, url, pool).await
        }
        DatabaseKind::Sqlite => {
            let file = crate::sqlite_file()?;
            let url = file.url();
            let pool = sqlx::SqlitePool::connect_lazy(&url).map_err(|cause| no_pool(&cause))?;
            run_on(plan, worker, url, pool).await
        }
    }
}

async fn run_on<DB: OutboxDatabase>(
    plan: &KillerPlan,
    worker: &Path,
    database: String,
    pool: sqlx::Pool<DB>,
) -> Result<Verdict> {
    let vhost = crate::amqp_vhost().await?;
    let dir = WorkDir::new("killers")?;
    let service = crate::unique("victim").replace('_', "-");
    let limit = json!({ "delivery-limit": DELIVERY_LIMIT });
    let queue = format!("^{service}$");
    let api = vhost.api()?;
    api.set_policy(vhost.name(), "limit", &queue, limit).await?;
    let job = VictimJob {
        topic: format!("{service}.work"),
        seed: plan.seed,
        database,
        broker: vhost.url().to_owned(),
        is_classic: plan.is_classic,
        journal: PathBuf::new(),
        killed: dir.join("killed"),
        service,
    };
    std::fs::create_dir_all(&job.killed).map_err(Error::io("cannot make", &job.killed))?;
    let options = Options::default().scan_interval(Duration::from_secs(1));
    let amqp = Amqp::new(vhost.url()).map_err(|cause| failed(&cause))?;
    let bus = Bus::new("sender", pool, amqp).with_options(options);
    let victims = Victims::new(worker, dir, job);
    let verdict = victims.play(plan, &bus).await;
    bus.shutdown().await.map_err(|cause| failed(&cause))?;
    verdict
}

/// The processes of the service, and the books about them.
struct Victims<'a> {
    worker: &'a Path,
    dir: WorkDir,
    job: VictimJob,
    processes: Vec<Option<Process>>,
    books: KillerBooks,
    problems: Vec<String>,
}

impl<'a> Victims<'a> {
    fn new(worker: &'a Path, dir: WorkDir, job: VictimJob) -> Self {
        Self {
            worker,
            dir,
            job,
            processes: (0..PROCESSES).map(|_| None).collect(),
            books: KillerBooks::default(),
            problems: Vec::new(),
        }
    }

    async fn play<DB: OutboxDatabase>(
        mut self,
        plan: &KillerPlan,
        bus: &Bus<DB>,
    ) -> Result<Verdict> {
        bus.start(Router::new())
            .await
            .map_err(|cause| failed(&cause))?;
        // Makes the queue, so that the first messages wait in it.
        self.start(0)?;
        let letters = Letters::of(&self.job.broker, &self.job.service).await?;
        let (start, mut pile, mut shift) = (Instant::now(), None, Instant::now());
        while start.elapsed() < plan.time {
            let count = match pile {
                Some(last) if start.elapsed() - last < BETWEEN_PILES => 1,
                _ => {
                    pile = Some(start.elapsed());
                    PILE
                }
            };
            for _ in 0..count {
                let number = i64::try_from(self.books.published.len()).unwrap_or(0);
                let publish = bus.publish(&self.job.topic, &number);
                publish.await.map_err(|cause| failed(&cause))?;
                self.books.published.insert(number);
            }
            if shift.elapsed() > SHIFT {
                shift = Instant::now();
                self.restart().await?;
            }
            self.supervise().await?;
            sleep(PACE).await;
        }
        self.settle(plan.patience, &letters).await?;
        for process in std::mem::take(&mut self.processes).into_iter().flatten() {
            self.stop(process).await;
        }
        self.books.add(letters.more().await?);
        let verdict = self.books.close(plan.seed, self.problems);
        verdict.map_err(Error::io("cannot read the journals in", self.dir.path()))
    }

    fn start(&mut self, place: usize) -> Result<()> {
        let born = self.books.journals.len();
        let journal = self.dir.join(&format!("{born}.journal"));
        let job = VictimJob {
            journal: journal.clone(),
            ..self.job.clone()
        };
        let job = serde_json::to_string(&job).map_err(|cause| failed(&cause))?;
        let launch = Launch::new(self.worker)
            .args(["victim", &job])
            .env("RUST_BACKTRACE", "0")
            .takes_lines();
        let name = format!("victim-{born}");
        let process = launch.spawn(&name, &self.dir.join(&format!("{name}.log")))?;
        self.processes[place] = Some(process);
        self.books.journals.push(journal);
        Ok(())
    }

    /// Starts each process again that has ended.
    async fn supervise(&mut self) -> Result<()> {
        for place in 0..PROCESSES {
            let ended = match &self.processes[place] {
                Some(process) => process.exited(),
                None => Some(String::new()),
            };
            let Some(status) = ended else { continue };
            if let Some(process) = self.processes[place].take() {
                self.books.aborts += 1;
                if !status.contains("SIGABRT") {
                    let log = crate::process::last_lines(process.log_path());
                    self.problems
                        .push(format!("a process ended with {status}:\n{log}"));
                }
                sleep(AWAY).await;
            }
            self.start(place)?;
        }
        Ok(())
    }

    /// Shuts one process down in order, as a deployment does, and starts it again.
    async fn restart(&mut self) -> Result<()> {
        let place = self.books.restarts % PROCESSES;
        self.books.restarts += 1;
        if let Some(process) = self.processes[place].take() {
            self.stop(process).await;
        }
        self.start(place)
    }

    /// A handler may kill the process meanwhile.
    async fn stop(&mut self, process: Process) {
        process.tell("stop");
        let ended = tokio::task::spawn_blocking(move || {
            (
                process.wait(PATIENCE),
                crate::process::last_lines(process.log_path()),
            )
        });
        match ended.await {
            Ok((Some(status), _)) if status == "exit status: 0" => {}
            Ok((Some(status), _)) if status.contains("SIGABRT") => self.books.aborts += 1,
            Ok((status, log)) => {
                self.problems
                    .push(format!("a process stopped with {status:?}:\n{log}"));
            }
            Err(cause) => self.problems.push(cause.to_string()),
        }
    }

    /// Waits until each message is handled or dead-lettered.
    async fn settle(&mut self, patience: Duration, letters: &Letters) -> Result<()> {
        let end = Instant::now() + patience;
        while Instant::now() < end {
            self.supervise().await?;
            self.books.add(letters.more().await?);
            let open = self.books.open();
            if open
                .map_err(Error::io("cannot read the journals in", self.dir.path()))?
                .is_empty()
            {
                break;
            }
            sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }
}

fn failed(cause: &dyn std::fmt::Display) -> Error {
    Error::new(
        format!("the run with killers cannot go on: {cause}"),
        "see the logs of the servers",
    )
}

fn no_pool(cause: &sqlx::Error) -> Error {
    failed(cause)
}
