//! A reconciler as a process.
//!
//! Input: what the stage does to it. Output: what it says, in the books.

use std::{path::Path, time::Duration};

use final_tests::{
    WorkDir,
    process::{Launch, Process, Signal},
};
use serde_json::Value;

use super::{books::Books, endpoint::CALL};

/// How long a process keeps repairs without a word.
pub const LEASE: Duration = Duration::from_secs(6);

/// Where everything is.
#[derive(Debug)]
pub struct Urls {
    pub source: String,
    pub target: String,
    pub state: String,
    pub endpoint: String,
}

/// A process that scans the tables `goods`, and compares them again and again.
pub fn launch(urls: &Urls, settle: Duration) -> Launch {
    let ms = |time: Duration| time.as_millis().to_string();
    Launch::new(Path::new(env!("CARGO_BIN_EXE_reconcile_node"))).args([
        "--source",
        &urls.source,
        "--target",
        &urls.target,
        "--state",
        &urls.state,
        "--endpoint",
        &urls.endpoint,
        "--settle-ms",
        &ms(settle),
        "--lease-ms",
        &ms(LEASE),
        "--call-ms",
        &ms(CALL),
    ])
}

/// What a difference rests on.
#[derive(Clone, Copy, Debug)]
pub struct Judgement {
    pub settle: Duration,
    pub has_heartbeat: bool,
}

#[derive(Debug)]
pub struct Node {
    pub name: String,
    dir: WorkDir,
    process: Option<Process>,
    /// How much of its log was read.
    read: usize,
    /// How many comparisons it has found equal, one after the other.
    pub equal: u32,
    pub problems: Vec<String>,
}

impl Node {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            dir: WorkDir::new("reconcile").expect("a folder"),
            process: None,
            read: 0,
            equal: 0,
            problems: Vec::new(),
        }
    }

    pub fn start(&mut self, urls: &Urls, judgement: Judgement) {
        let log = self.dir.join("log.txt");
        let mut launch = launch(urls, judgement.settle).args(["--updated-by", "changed"]);
        if judgement.has_heartbeat {
            launch = launch.args(["--heartbeat", "beats"]);
        }
        let started = launch.spawn(&self.name, &log);
        self.process = Some(started.expect("a reconciler"));
    }

    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill9();
        }
    }

    /// Ends it as an operator does.
    pub async fn stop(&mut self, patience: Duration) {
        if let Some(process) = self.process.take() {
            let ended = tokio::task::spawn_blocking(move || process.end(Signal::TERM, patience));
            if let Err(error) = ended.await.expect("no panic") {
                self.problems.push(format!("{}: {error}", self.name));
            }
        }
    }

    pub fn pause(&self) {
        self.process.iter().for_each(Process::pause);
    }

    pub fn resume(&self) {
        self.process.iter().for_each(Process::resume);
    }

    /// Whether it should run and does not.
    pub fn has_died(&self) -> bool {
        self.process
            .as_ref()
            .is_some_and(|process| !process.is_alive())
    }

    /// Reads what it has said since.
    pub fn listen(&mut self, books: &Books) {
        let log = std::fs::read(self.dir.join("log.txt")).unwrap_or_default();
        let new = log.get(self.read..).unwrap_or_default();
        let Some(end) = new.iter().rposition(|byte| *byte == b'\n') else {
            return;
        };
        self.read += end + 1;
        for line in String::from_utf8_lossy(&new[..end]).lines() {
            if let Some(comparison) = line.strip_prefix("compared ") {
                // Half a line was written right before a kill.
                if let Ok(comparison) = serde_json::from_str(comparison) {
                    self.compared(&comparison, books);
                }
            } else if line.starts_with("failed ") {
                self.equal = 0;
                books.failed();
            } else if line.contains("panicked") {
                self.problems.push(format!("{}: {line}", self.name));
            }
        }
    }

    fn compared(&mut self, comparison: &Value, books: &Books) {
        let number = |name: &str| comparison[name].as_u64().unwrap_or_default();
        let differences = comparison["examples"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        for difference in &differences {
            let id = difference["key"][0][1].as_str().unwrap_or_default();
            let kind = difference["kind"].as_str().unwrap_or_default();
            books.reported(id.parse().expect("the key of a row"), kind);
        }
        books.compared(number("rows"), number("healed"), number("unsettled"));
        let all = ["missing", "different", "extra", "unsettled"].map(number);
        if all[..3].iter().sum::<u64>() != differences.len() as u64 {
            let problem = format!(
                "{}: {} examples of {comparison}",
                self.name,
                differences.len()
            );
            self.problems.push(problem);
        }
        self.equal = match all {
            [0, 0, 0, 0] => self.equal + 1,
            _ => 0,
        };
    }

    /// The end of what it has said.
    pub fn last_lines(&self) -> String {
        let log = std::fs::read(self.dir.join("log.txt")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(10)..];
        let cut = |line: &&str| line.chars().take(300).collect::<String>();
        last.iter().map(cut).collect::<Vec<_>>().join("\n")
    }
}
