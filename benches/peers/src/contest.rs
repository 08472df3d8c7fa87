//! A job, a peer, and the rounds they play with us.

use std::time::Duration;

use futures::future::LocalBoxFuture;

use crate::{
    Result,
    args::Args,
    peers::{self, ours},
    report,
    row::{Row, Spread, ratios},
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

    fn ours(self) -> Play {
        match self {
            Self::Tx => |size| Box::pin(ours::tx(size)),
            Self::Relay => |size| Box::pin(ours::relay(size)),
            Self::Consume => |size| Box::pin(ours::consume(size)),
            Self::Queue => |size| Box::pin(ours::queue(size)),
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
    fn rows(&self) -> [Row; 2] {
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

/// Plays all that is asked for.
pub(crate) async fn play(args: &Args) -> Result<Vec<Outcome>> {
    // Even then more than two batches of the largest, so that all have to go on.
    let (size, rounds) = if args.smoke {
        (
            Size {
                messages: 1_200,
                time: Duration::from_millis(300),
            },
            1,
        )
    } else {
        (
            Size {
                messages: 20_000,
                time: Duration::from_secs(3),
            },
            6,
        )
    };
    let mut outcomes = Vec::new();
    for contest in peers::contests().into_iter().filter(|it| args.wants(it)) {
        let said = |error| format!("{} with {}: {error}", contest.job.name(), contest.peer);
        let outcome = rounds_of(contest, size, rounds).await.map_err(said)?;
        for row in outcome.rows() {
            if args.json {
                println!("{}", row.json());
            } else {
                println!("{}", report::line(&row));
            }
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// A B, B A, …; the first round warms up and does not count, unless it is the only one.
async fn rounds_of(contest: Contest, size: Size, rounds: usize) -> Result<Outcome> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let sides = [(&mut ours, contest.job.ours()), (&mut theirs, contest.play)];
        let mut turns = Vec::from(sides);
        turns.rotate_left(round % 2);
        for (rates, play) in turns {
            let rate = play(size).await?;
            if round > 0 || rounds == 1 {
                rates.push(rate);
            }
        }
    }
    Ok(Outcome {
        contest,
        ours: Spread::of(&ours),
        theirs: Spread::of(&theirs),
        ratio: ratios(&ours, &theirs),
    })
}
