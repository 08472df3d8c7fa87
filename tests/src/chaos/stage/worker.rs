//! Worker processes and the places they work at.

use std::time::Duration;

use super::Stage;
use crate::{
    Error, Proxy, Result,
    chaos::work::{Job, Order, Role},
    process::{Launch, Process},
};

/// How long a worker may take to stop: far longer than its bus gives itself.
const PATIENCE: Duration = Duration::from_secs(180);

/// A slot for one worker at a time, with its own proxies to the servers.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) role: Role,
    /// Where the database has a server.
    pub(super) database: Option<Proxy>,
    /// Where there is RabbitMQ.
    pub(super) broker: Option<Proxy>,
    database_url: String,
    broker_url: Option<String>,
    /// A fault locks it while it acts on the worker.
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
        let is_file = database.starts_with("sqlite:");
        let (database_url, database) = match is_file {
            true => (database.to_owned(), None),
            false => wired(database).await?,
        };
        let (broker_url, broker) = match broker {
            Some(url) => {
                let (url, wire) = wired(url).await?;
                (Some(url), wire)
            }
            None => (None, None),
        };
        Ok(Self {
            role,
            database_url,
            broker_url,
            database,
            broker,
            worker: tokio::sync::Mutex::default(),
        })
    }
}

/// A proxy to a server, and the URL that leads through it.
async fn wired(url: &str) -> Result<(String, Option<Proxy>)> {
    let wire = Proxy::to(url).await?;
    Ok((wire.url(url), Some(wire)))
}

impl Stage {
    /// Starts a worker. Its wall clock may be wrong by some seconds.
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
            // Hundreds of handlers panic on purpose.
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
        // A worker that cannot read the order is dead, and another check finds that.
        let _ = serde_json::to_string(&order).map(|line| self.process.tell(&line));
    }

    /// Kills the worker. Returns a problem if it was already dead.
    pub(super) fn kill(self) -> Option<String> {
        let problem = self.died();
        self.process.kill9();
        problem
    }

    /// Shuts the worker down. Returns a problem if it did not end with exit code 0.
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

    /// Why the worker died, if it died by itself.
    pub(super) fn died(&self) -> Option<String> {
        let status = self.process.exited()?;
        let log = crate::process::last_lines(self.process.log_path());
        Some(format!("{} died by itself ({status}):\n{log}", self.name))
    }
}
