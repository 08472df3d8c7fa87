//! A job, a peer, and how it went.

use std::time::Duration;

use futures::future::LocalBoxFuture;

use crate::{
    Result,
    row::{Row, Spread},
};

/// How many write at once where transactions are counted.
pub(crate) const WRITERS: usize = 8;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// One business row and one message in a transaction; nobody relays.
    Tx,
    /// From the outbox to RabbitMQ, confirmed, and gone from the outbox or marked there.
    Relay,
    /// From RabbitMQ to a handler that does nothing, and acked.
    Consume,
    /// From a table in PostgreSQL to a handler that does nothing, and settled.
    Queue,
}

impl Job {
    /// In the order of the table.
    pub(crate) const ALL: [Self; 4] = [Self::Tx, Self::Relay, Self::Consume, Self::Queue];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|job| job.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tx => "tx",
            Self::Relay => "relay",
            Self::Consume => "consume",
            Self::Queue => "queue",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Tx => "tx/s, 8 writers",
            Self::Relay | Self::Consume => "messages/s",
            Self::Queue => "jobs/s",
        }
    }

    fn database(self) -> &'static str {
        if self == Self::Consume {
            "-"
        } else {
            "postgres"
        }
    }
}

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// How many messages wait.
    pub(crate) messages: u64,
    /// For how long transactions are made.
    pub(crate) time: Duration,
}

/// Does a job from start to end, and says how many per second. Not sent between threads: not every
/// peer's worker can be.
pub(crate) type Play = fn(Size) -> LocalBoxFuture<'static, Result<f64>>;

/// One peer at one job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contest {
    pub(crate) job: Job,
    /// Its name and version, and what was set if the defaults were not used.
    pub(crate) peer: &'static str,
    pub(crate) play: Play,
}

/// How it went.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) contest: Contest,
    pub(crate) ours: Spread,
    pub(crate) theirs: Spread,
    /// Ours over theirs, pair by pair.
    pub(crate) ratio: Spread,
}

impl Outcome {
    /// Both sides as rows like those of the other benchmarks.
    pub(crate) fn rows(&self) -> [Row; 2] {
        let Contest { job, peer, .. } = self.contest;
        let row = |side, metric, spread| Row {
            spread,
            ..Row::alone("peers", side, job.database(), metric, &[])
        };
        let (name, unit) = (job.name(), job.unit());
        [
            Row {
                ratio: Some(self.ratio),
                ..row("ours", format!("{name}, {unit}, beside {peer}"), self.ours)
            },
            row(peer, format!("{name}, {unit}"), self.theirs),
        ]
    }
}
