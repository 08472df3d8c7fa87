//! The servers, the wires and the readers of a run, and how each is broken.
//!
//! Input: a [`Fault`]. State: two reader processes, of which one reads and one stands by. Output: the fault is done, and
//! mended.

use std::{path::Path, sync::Arc, time::Duration};

use final_tests::{
    Conn, MariaDb, Postgres, Proxy, RabbitMq, SqliteFile, WorkDir, eventually,
    process::{Launch, Process, Signal},
    servers::{Server, Setup},
};
use tokio::time::sleep;

use super::{
    fault::Fault,
    source::{Kind, TABLES},
    writer::Scene,
};

/// How long a reader may take to begin, or to end.
pub const SOON: Duration = Duration::from_secs(120);
/// For how long a reader has the stream for itself without a word.
const LEASE: Duration = Duration::from_secs(2);

/// Where messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// The log of the other kind of database.
    Log,
    RabbitMq,
}

/// Everything that can be broken.
#[derive(Debug)]
pub struct Stage {
    pub kind: Kind,
    pub transport: Transport,
    pub source: Server,
    /// The database with the log, or RabbitMQ.
    pub target: Server,
    rabbit: Option<RabbitMq>,
    /// The wire of all writers.
    pub writers: Proxy,
    readers: Vec<Reader>,
    /// The number of the capture: another one after each gap.
    number: u32,
    /// The positions, where the target has no tables.
    positions: Option<SqliteFile>,
}

/// A reader as a process, with its own wires.
#[derive(Debug)]
struct Reader {
    name: String,
    source: Proxy,
    target: Proxy,
    dir: WorkDir,
    process: Option<Process>,
    /// So many lines of its log were written before it was started the last time.
    old_lines: usize,
}

impl Stage {
    pub async fn open(kind: Kind, transport: Transport) -> Self {
        let source = async {
            match kind {
                Kind::Postgres => postgres(true).await,
                Kind::MariaDb => mariadb(true).await,
            }
        };
        let target = async {
            match (kind, transport) {
                (Kind::Postgres, Transport::Log) => (mariadb(false).await, None),
                (Kind::MariaDb, Transport::Log) => (postgres(false).await, None),
                (_, Transport::RabbitMq) => {
                    let rabbit = RabbitMq::start().await.expect("RabbitMQ");
                    (Server::clone(&rabbit), Some(rabbit))
                }
            }
        };
        let (source, (target, rabbit)) = tokio::join!(source, target);
        let mut conn = Conn::open(&source.url()).await.expect("the source");
        for statement in kind.tables() {
            conn.run(&statement).await.expect(&statement);
        }
        let mut readers = Vec::new();
        for name in ["one", "two"] {
            readers.push(Reader {
                name: name.to_owned(),
                source: Proxy::to(&source.url()).await.expect("a proxy"),
                target: Proxy::to(&target.url()).await.expect("a proxy"),
                dir: WorkDir::new("capture").expect("a folder"),
                process: None,
                old_lines: 0,
            });
        }
        let positions =
            (transport == Transport::RabbitMq).then(|| final_tests::sqlite_file().expect("a file"));
        Self {
            kind,
            transport,
            writers: Proxy::to(&source.url()).await.expect("a proxy"),
            source,
            target,
            rabbit,
            readers,
            number: 1,
            positions,
        }
    }

    /// Starts a reader that does not run.
    fn start(&mut self, at: usize) {
        self.start_to(at, None);
    }

    /// The same, and it dies when it has come to that step so many times.
    fn start_to(&mut self, at: usize, die_at: Option<&str>) {
        let (source, target) = (self.source.url(), self.target.url());
        let reader = &mut self.readers[at];
        reader.old_lines = reader.lines().len();
        let target = reader.target.url(&target);
        let lease = LEASE.as_secs().to_string();
        let to = match self.transport {
            Transport::Log => "--log",
            Transport::RabbitMq => "--rabbitmq",
        };
        let mut launch = Launch::new(Path::new(env!("CARGO_BIN_EXE_capture_node"))).args([
            "--name",
            &format!("chaos-{}", self.number),
            "--source",
            &reader.source.url(&source),
            "--slot",
            &slot(self.number),
            "--tables",
            &TABLES.join(","),
            "--lease",
            &lease,
            to,
            &target,
        ]);
        if let Some(file) = &self.positions {
            launch = launch.args(["--positions", &file.url()]);
        }
        if let Some(step) = die_at {
            launch = launch.args(["--die-at", step]);
        }
        let log = reader.dir.join("log.txt");
        reader.process = Some(launch.spawn(&reader.name, &log).expect("a reader"));
    }

    /// A RabbitMQ that is killed right after a declaration may come back without it.
    pub async fn keep_declarations(&self) {
        if let Some(rabbit) = &self.rabbit {
            rabbit.declarations_on_disk().await.expect("RabbitMQ");
        }
    }

    pub fn start_all(&mut self) {
        (0..self.readers.len()).for_each(|at| self.start(at));
    }

    /// Waits until one of them reads.
    pub async fn reads(&self) {
        eventually("a reader reads", SOON, async || {
            self.active().ok_or_else(|| self.states())
        })
        .await;
    }

    /// What each of them says.
    fn states(&self) -> Vec<String> {
        self.readers.iter().map(Reader::state).collect()
    }

    fn reads_now(&self, at: usize) -> bool {
        let reader = &self.readers[at];
        reader.is_alive() && reader.state() == "streaming"
    }

    fn active(&self) -> Option<usize> {
        (0..self.readers.len()).find(|at| self.reads_now(*at))
    }

    /// The one that reads, or else the first.
    fn one_that_reads(&self) -> usize {
        self.active().unwrap_or(0)
    }

    /// Ends readers as an operator does.
    pub async fn stop(&mut self, which: &[usize]) {
        for at in which {
            let Some(process) = self.readers[*at].process.take() else {
                continue;
            };
            let ended = tokio::task::spawn_blocking(move || process.end(Signal::TERM, SOON));
            ended.await.expect("no panic").expect("a clean end");
        }
    }

    pub async fn stop_all(&mut self) {
        let all: Vec<usize> = (0..self.readers.len()).collect();
        self.stop(&all).await;
    }

    fn kill(&mut self, at: usize) {
        if let Some(process) = self.readers[at].process.take() {
            process.kill9();
        }
    }

    /// A reader that has ended by itself is a problem: it is told.
    pub fn died(&self) -> Vec<String> {
        let dead = |reader: &&Reader| reader.process.is_some() && !reader.is_alive();
        let tell = |reader: &Reader| format!("{}: {}", reader.name, reader.last_lines());
        self.readers.iter().filter(dead).map(tell).collect()
    }

    /// Breaks something for so long, and mends it.
    pub async fn break_it(&mut self, fault: Fault, lasts: Duration, scene: &Arc<Scene>) {
        match fault {
            Fault::KillReader => {
                let at = self.one_that_reads();
                self.kill(at);
                sleep(lasts).await;
                self.start(at);
            }
            Fault::KillBothReaders => {
                (0..self.readers.len()).for_each(|at| self.kill(at));
                sleep(lasts).await;
                self.start_all();
            }
            Fault::DieBeforeWriting => self.dies("read:3").await,
            Fault::DieBeforeSaving => self.dies("written:3").await,
            Fault::DieBeforeTelling => self.dies("saved:3").await,
            Fault::StopReader => {
                let at = self.one_that_reads();
                self.stop(&[at]).await;
                self.start(at);
            }
            Fault::FreezeReader => {
                let at = self.one_that_reads();
                self.pause(at);
                sleep(lasts).await;
                self.resume(at);
            }
            Fault::FreezeReaderForLong => {
                let at = self.one_that_reads();
                self.pause(at);
                // The frozen one still says that it reads.
                let other = || (0..self.readers.len()).find(|it| *it != at && self.reads_now(*it));
                eventually("another reader takes over", SOON, async || {
                    other().ok_or_else(|| self.states())
                })
                .await;
                sleep(lasts).await;
                self.resume(at);
            }
            Fault::KillSource => away(&self.source, lasts).await,
            Fault::RestartSource => {
                self.source.stop().await.expect("a clean stop");
                self.source.start_again().await.expect("the source again");
            }
            Fault::FreezeSource => frozen(&self.source, lasts).await,
            Fault::KillTarget => away(&self.target, lasts).await,
            Fault::FreezeTarget => frozen(&self.target, lasts).await,
            Fault::CutSource => {
                self.each_cut(lasts, |reader| reader.source.cut()).await;
            }
            Fault::CutTarget => {
                self.each_cut(lasts, |reader| reader.target.cut()).await;
            }
            Fault::StallSource => {
                self.each(|reader| reader.source.stall());
                sleep(lasts).await;
                self.each(|reader| reader.source.resume());
            }
            Fault::LoseAnswersOfTarget => {
                self.each(|reader| reader.target.stall_answers());
                sleep(lasts).await;
                self.each(|reader| reader.target.cut());
                self.each(|reader| reader.target.resume());
            }
            Fault::LoseAnswersOfWriters => {
                // Again and again: most answers that are lost are not those of a COMMIT.
                let end = tokio::time::Instant::now() + lasts;
                while tokio::time::Instant::now() < end {
                    self.writers.stall_answers();
                    sleep(Duration::from_millis(50)).await;
                    self.writers.cut();
                    self.writers.resume();
                    sleep(Duration::from_millis(50)).await;
                }
            }
            Fault::Rotate => self.run(self.kind.rotate()).await,
            Fault::Alter => {
                let mut conn = Conn::open(&self.source.url()).await.expect("the source");
                self.kind.alter(&mut conn).await.expect("another column");
            }
            Fault::KillReaderAndSource => {
                let at = self.one_that_reads();
                self.source.kill9();
                self.kill(at);
                sleep(lasts).await;
                self.start(at);
                self.source.start_again().await.expect("the source again");
            }
            Fault::KillReaderAndTarget => {
                let at = self.one_that_reads();
                self.kill(at);
                self.target.kill9();
                sleep(lasts).await;
                self.start(at);
                self.target.start_again().await.expect("the target again");
            }
            Fault::Gap => self.gap(scene).await,
        }
    }

    /// Makes a reader die at a step, with the other one out of the way.
    async fn dies(&mut self, step: &str) {
        self.stop_all().await;
        self.start_to(0, Some(step));
        eventually(&format!("a reader dies at {step}"), SOON, async || {
            let is_alive = self.readers[0].is_alive();
            (!is_alive).then_some(()).ok_or_else(|| self.states())
        })
        .await;
        self.start_all();
    }

    /// Takes away what the readers have not read yet. They must stop and say so, and nothing may come. Another capture
    /// goes on from there.
    async fn gap(&mut self, scene: &Arc<Scene>) {
        // Everything that is committed so far comes, so that the books are right without a reset.
        let _held = scene.gate.write().await;
        for books in &scene.books {
            eventually("everything before the gap", SOON, async || {
                match books.missing(std::time::Instant::now()) {
                    0 => Ok(()),
                    missing => Err(format!("{missing} missing")),
                }
            })
            .await;
        }
        self.stop_all().await;
        // The books do not know of this row: where it comes, it is invented.
        let id = -i64::from(self.number);
        self.run(&format!(
            "INSERT INTO shop.goods (id, version, body) VALUES ({id}, {id}, 'in the gap')"
        ))
        .await;
        match self.kind {
            Kind::Postgres => {
                let slot = slot(self.number);
                self.run(&format!("SELECT pg_drop_replication_slot('{slot}')"))
                    .await;
            }
            Kind::MariaDb => {
                self.run("FLUSH BINARY LOGS").await;
                // The server keeps a file that one of its threads reads, also for a reader that has just gone.
                eventually("the old files are gone", SOON, async || {
                    self.run("PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY")
                        .await;
                    let mut conn = Conn::open(&self.source.url()).await.expect("the source");
                    match conn.count("SHOW BINARY LOGS").await {
                        Ok(1) => Ok(()),
                        other => Err(other),
                    }
                })
                .await;
            }
        }
        self.start_all();
        eventually("a reader stops at the gap", SOON, async || {
            let states = self.states();
            let is_there = states.iter().any(|state| state == "stopped (gap)");
            is_there.then_some(()).ok_or(states)
        })
        .await;
        (0..self.readers.len()).for_each(|at| self.kill(at));
        self.number += 1;
        self.start_all();
        self.reads().await;
    }

    /// The rows of the source with their versions, without those of gaps.
    pub async fn rows(&self) -> Vec<(i64, i64)> {
        let mut conn = Conn::open(&self.source.url()).await.expect("the source");
        let sql = "SELECT id, version FROM shop.goods WHERE id > 0";
        conn.pairs(sql).await.expect("the rows")
    }

    async fn run(&self, sql: &str) {
        let mut conn = Conn::open(&self.source.url()).await.expect("the source");
        conn.run(sql).await.expect(sql);
    }

    fn pause(&self, at: usize) {
        self.readers[at].process.iter().for_each(Process::pause);
    }

    fn resume(&self, at: usize) {
        self.readers[at].process.iter().for_each(Process::resume);
    }

    fn each(&self, what: impl Fn(&Reader)) {
        self.readers.iter().for_each(what);
    }

    /// Again and again, so that a cut falls into the middle of something.
    async fn each_cut(&self, lasts: Duration, cut: impl Fn(&Reader)) {
        let end = tokio::time::Instant::now() + lasts;
        while tokio::time::Instant::now() < end {
            self.each(&cut);
            sleep(Duration::from_millis(300)).await;
        }
    }
}

impl Reader {
    fn is_alive(&self) -> bool {
        self.process.as_ref().is_some_and(Process::is_alive)
    }

    fn lines(&self) -> Vec<String> {
        let log = std::fs::read(self.dir.join("log.txt")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        log.lines().map(str::to_owned).collect()
    }

    /// What it said last of itself since it was started.
    fn state(&self) -> String {
        let lines = self.lines();
        let own = lines.get(self.old_lines..).unwrap_or_default();
        let mut states = own.iter().rev();
        let state = states.find_map(|line| line.strip_prefix("state "));
        state.unwrap_or("nothing").to_owned()
    }

    fn last_lines(&self) -> String {
        let lines = self.lines();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

fn slot(number: u32) -> String {
    format!("final_chaos_{number}")
}

async fn postgres(is_source: bool) -> Server {
    let mut setup = Setup::default();
    if is_source {
        let settings = ["wal_level=logical", "max_replication_slots=50"];
        let args = settings.map(|it| ["-c".to_owned(), it.to_owned()]);
        setup.args.extend(args.into_iter().flatten());
    }
    let server = Postgres::start_with(setup).await.expect("PostgreSQL");
    Server::clone(&server)
}

async fn mariadb(is_source: bool) -> Server {
    let mut setup = Setup::default();
    if is_source {
        setup.args.extend(
            [
                "--log-bin=binlog",
                "--server-id=1",
                "--binlog-format=ROW",
                "--binlog-row-metadata=FULL",
                // Files end by themselves as well.
                "--max-binlog-size=4M",
            ]
            .map(str::to_owned),
        );
    }
    let server = MariaDb::start_with(setup).await.expect("MariaDB");
    Server::clone(&server)
}

async fn away(server: &Server, lasts: Duration) {
    server.kill9();
    sleep(lasts).await;
    server.start_again().await.expect("the server again");
}

async fn frozen(server: &Server, lasts: Duration) {
    server.pause();
    sleep(lasts).await;
    server.resume();
}
