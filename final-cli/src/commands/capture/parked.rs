//! `final capture parked`: changes that a target has refused, and those behind them.
//!
//! Input: the table of parked changes. Output: rows; marks, which the reader of the capture carries out in order.

use std::time::{Duration, UNIX_EPOCH};

use clap::{ArgGroup, Args, Subcommand};
use final_capture::position::{ParkedHead, ParkedMark, PositionStore, SqlPositions};
use final_core::OutboxDatabase;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::FileArgs;
use crate::{
    ask::ConsentArgs,
    exit::{Exit, Failure},
    output::{Cell, Output, Table, time::utc},
    session::Session,
};

/// How long the reader has to carry a mark out, before the command says that it has not.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const PACE: Duration = Duration::from_millis(200);
/// How many rows are read at a time.
const PAGE: u32 = 1_000;

/// See changes that the target has refused, put them back, and skip them
#[derive(Debug, Args)]
#[command(after_help = "Example: final capture parked list shop")]
pub(super) struct ParkedArgs {
    #[command(flatten)]
    pub(super) file: FileArgs,

    #[command(subcommand)]
    command: ParkedCommand,
}

#[derive(Debug, Subcommand)]
enum ParkedCommand {
    /// List parked changes in their order; those without a reason wait behind one that has a reason
    #[command(after_help = "Example: final capture parked list shop --limit 20")]
    List {
        /// The capture
        capture: String,

        /// At most so many
        #[arg(long, value_name = "NUMBER", default_value_t = 100)]
        limit: u32,
    },
    /// Put parked changes back, once the cause is mended: each key in its order
    #[command(
        override_usage = "final capture parked retry [OPTIONS] <CAPTURE> <NUMBER...|--all>",
        after_help = "Example: final capture parked retry shop --all"
    )]
    Retry {
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Leave a refused change out for good, and put back what waits behind it
    #[command(
        override_usage = "final capture parked skip [OPTIONS] <CAPTURE> <NUMBER...|--all>",
        after_help = "Example: final capture parked skip shop 65537"
    )]
    Skip {
        #[command(flatten)]
        which: WhichArgs,

        #[command(flatten)]
        consent: ConsentArgs,
    },
}

/// Which changes are meant.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["numbers", "all"])))]
struct WhichArgs {
    /// The capture
    capture: String,

    /// The numbers of the changes, as `list` shows them
    #[arg(value_name = "NUMBER")]
    numbers: Vec<i64>,

    /// All parked changes of the capture
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct ParkedView<'a> {
    number: i64,
    topic: &'a str,
    key: Option<&'a str>,
    message_id: Option<String>,
    reason: Option<&'a str>,
    position: &'a str,
    parked_at: String,
    bytes: Option<u64>,
    mark: Option<&'static str>,
}

impl ParkedArgs {
    pub(super) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let positions = SqlPositions::new(session.pool.clone());
        match self.command {
            ParkedCommand::List { capture, limit } => {
                let parked = positions.parked(&capture, false, -1, limit).await;
                let parked = parked.map_err(failed)?;
                if parked.is_empty() {
                    eprintln!("{capture} has no parked changes");
                    return Ok(Exit::NothingMatched);
                }
                write(&parked, out)?;
                Ok(Exit::Done)
            }
            ParkedCommand::Retry { which } => mark(&positions, which, ParkedMark::Retry).await,
            ParkedCommand::Skip { which, consent } => {
                let count = wanted(&positions, &which).await?.len();
                if count == 0 {
                    return nothing(&which);
                }
                let question =
                    format!("leave {count} change(s) of {} out for good?", which.capture);
                if !consent.ask(&session.context, &question)? {
                    return Ok(Exit::NotConfirmed);
                }
                mark(&positions, which, ParkedMark::Skip).await
            }
        }
    }
}

/// Marks changes, and waits until the reader has carried that out.
async fn mark<DB: OutboxDatabase>(
    positions: &SqlPositions<DB>,
    which: WhichArgs,
    mark: ParkedMark,
) -> Result<Exit, Failure> {
    let numbers = (!which.all).then_some(which.numbers.as_slice());
    let marked = positions.mark(&which.capture, numbers, mark).await;
    let marked = marked.map_err(failed)?;
    if marked == 0 {
        return nothing(&which);
    }
    let until = Instant::now() + PATIENCE;
    loop {
        let left = wanted(positions, &which).await?;
        let waiting = left.iter().filter(|change| change.mark.is_some()).count();
        if waiting == 0 {
            // A change without a mark was refused again.
            let refused = left.len();
            eprintln!(
                "{} of {marked} change(s) went on; {refused} stay parked",
                marked.saturating_sub(refused as u64)
            );
            return Ok(match refused {
                0 => Exit::Done,
                _ => Exit::Found,
            });
        }
        if Instant::now() > until {
            eprintln!(
                "{marked} change(s) are marked, and {waiting} of them wait for the reader of {}; look by \
                 `final capture status` whether one runs, and restart a capture that has stopped",
                which.capture
            );
            return Ok(Exit::Found);
        }
        sleep(PACE).await;
    }
}

/// The changes that are meant, as they are now.
async fn wanted<DB: OutboxDatabase>(
    positions: &SqlPositions<DB>,
    which: &WhichArgs,
) -> Result<Vec<ParkedHead>, Failure> {
    let (mut all, mut after) = (Vec::new(), -1);
    loop {
        let page = positions.parked(&which.capture, false, after, PAGE).await;
        let page = page.map_err(failed)?;
        let is_last = page.len() < PAGE as usize;
        after = page.last().map_or(after, |change| change.id);
        let is_meant = |change: &ParkedHead| which.all || which.numbers.contains(&change.id);
        all.extend(page.into_iter().filter(is_meant));
        if is_last {
            return Ok(all);
        }
    }
}

fn nothing(which: &WhichArgs) -> Result<Exit, Failure> {
    eprintln!("{} has no such parked changes", which.capture);
    Ok(Exit::NothingMatched)
}

fn failed(error: final_capture::position::PositionError) -> Failure {
    Failure::doing("parked changes cannot be read", &error)
}

fn write(parked: &[ParkedHead], out: &mut Output) -> Result<(), Failure> {
    let at = |change: &ParkedHead| {
        let micros = u64::try_from(change.parked_at).unwrap_or_default();
        utc(UNIX_EPOCH + Duration::from_micros(micros))
    };
    let word = |change: &ParkedHead| {
        change.mark.map(|mark| match mark {
            ParkedMark::Retry => "retry",
            ParkedMark::Skip => "skip",
        })
    };
    if out.is_json() {
        return parked.iter().try_for_each(|change| {
            let view = ParkedView {
                number: change.id,
                topic: &change.topic,
                key: change.key.as_deref(),
                message_id: change.message_id.map(|id| id.to_string()),
                reason: change.reason.as_deref(),
                position: &change.position,
                parked_at: at(change),
                bytes: change.bytes,
                mark: word(change),
            };
            out.json("parked", &view)
        });
    }
    let mut table = Table::new(&[
        ">number", "topic", "key", "reason", "position", "parked", "mark",
    ]);
    for change in parked {
        table.row([
            change.id.to_string().into(),
            (&*change.topic).into(),
            change.key.as_deref().unwrap_or_default().into(),
            Cell::new(change.reason.as_deref().unwrap_or_default()).bad(true),
            change.position.as_str().into(),
            at(change).into(),
            word(change).unwrap_or_default().into(),
        ]);
    }
    out.table(&table)
}
