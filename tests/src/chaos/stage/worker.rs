//! Worker processes and the places they work at.

use std::time::Duration;

use super::{Database, Stage};
use crate::{
    Error, Proxy, Result,
    chaos::work::{Job, Order, Role},
    process::{Launch, Process},
};

/// How long a worker may take to stop: far longer than its bus gives itself.
const PATIENCE: Duration = Duration::from_secs(180);

/// A place for one worker at a time, with wires of its own to the servers.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) role: Role,
    pub(super) database: Proxy,
    /// Where there is RabbitMQ.
    pub(super) broker: Option<Proxy>,
    database_url: String,
    broker_url: Option<String>,
    /// Locked by the fault that is at it.
    pub(super) worker: tokio::sync::Mutex<Option<Worker>>,
}

/// A worker process.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) process: Process,
    pub(super) born: u32,
    name: String,
}

impl Slot {
    pub(super) async fn new(role: Role, database: &str, broker: Option<&str>) -> Result<Self> {
        let wire = Proxy::to(database).await?;
        let (broker_url, broker) = match broker {
            Some(url) => {
                let wire = Proxy::to(url).await?;
                (Some(wire.url(url)), Some(wire))
            }
            None => (None, None),
        };
        Ok(Self {
            role,
            database_url: wire.url(database),
            broker_url,
            database: wire,
            broker,
            worker: tokio::sync::Mutex::default(),
        })
    }
}

impl Stage {
    /// Starts a worker, perhaps with its wall clock some seconds off.
    pub(super) fn hire(&self, slot: &Slot, clock: Option<i32>) -> Result<Worker> {
        let born = self.next_born();
        let name = format!("{}-{born}", slot.role.service());
        let job = Job {
            role: slot.role,
            born,
            seed: self.seed,
            database: slot.database_url.clone(),
            broker: slot.broker_url.clone(),
            journal: self.dir.join(&format!("{name}.journal")),
        };
        self.books_now().follow(born, job.journal.clone());
        let text = serde_json::to_string(&job)
            .map_err(|cause| Error::new(format!("a job that is no JSON: {cause}"), "mend it"))?;
        let mut launch = Launch::new(&self.program)
            .arg(text)
            // Handlers panic by the hundred.
            .env("RUST_BACKTRACE", "0")
            .takes_lines();
        if let Some(seconds) = clock {
            launch = launch.clock_offset(seconds)?;
        }
        let process = launch.spawn(&name, &self.dir.join(&format!("{name}.log")))?;
        Ok(Worker {
            process,
            born,
            name,
        })
    }
}

impl Worker {
    pub(super) fn tell(&self, order: Order) {
        // One that cannot hear it is dead, which is found elsewhere.
        let _ = serde_json::to_string(&order).map(|line| self.process.tell(&line));
    }

    /// Kills it, after a look whether it is still there to be killed.
    pub(super) fn kill(self) -> Option<String> {
        let problem = self.died();
        self.process.kill9();
        problem
    }

    /// Shuts it down, and says if it did not end well.
    pub(super) async fn stop(self) -> Option<String> {
        self.tell(Order::Stop);
        let name = self.name.clone();
        let waited = tokio::task::spawn_blocking(move || {
            let ended = self.process.wait(PATIENCE);
            (ended, crate::process::last_lines(self.process.log_path()))
        });
        match waited.await {
            Ok((Some(status), _)) if status == "exit status: 0" => None,
            Ok((Some(status), log)) => Some(format!("{name} stopped with {status}:\n{log}")),
            Ok((None, log)) => Some(format!("{name} did not stop within {PATIENCE:?}:\n{log}")),
            Err(failed) => Some(failed.to_string()),
        }
    }

    /// What it died of, if nobody has killed it.
    pub(super) fn died(&self) -> Option<String> {
        let status = self.process.exited()?;
        let log = crate::process::last_lines(self.process.log_path());
        Some(format!("{} died by itself ({status}):\n{log}", self.name))
    }
}

/// Where the outboxes are, for [`Slot::new`].
impl Database {
    pub(in crate::chaos) fn url(&self) -> String {
        self.server().url()
    }
}
