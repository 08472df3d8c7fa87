//! `final held`: messages that a service holds, because their handlers have failed.

use std::time::Duration;

use clap::{Args, Subcommand};
use final_core::{
    MessageId, OutboxDatabase,
    admin::{HeldMessage, HeldWish, ServiceAdmin},
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    arguments::{FormatArgs, ServiceArgs},
    ask::ConsentArgs,
    exit::{Exit, Failure},
    output::{Output, text::harmless},
    session::Session,
    views::{HeldView, held_table},
    who::who,
};

/// How long a running bus has to carry out what is asked.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const PACE: Duration = Duration::from_millis(200);

/// See messages that hold what comes after them, try them now, and skip them
#[derive(Debug, Args)]
#[command(after_help = "Example: final held list --service mirror")]
pub(crate) struct HeldArgs {
    #[command(flatten)]
    service: ServiceArgs,

    #[command(flatten)]
    pub(crate) format: FormatArgs,

    #[command(subcommand)]
    command: HeldCommand,
}

#[derive(Debug, Subcommand)]
enum HeldCommand {
    /// List held messages in the order of the log
    #[command(after_help = "Example: final held list --json | jq .reason")]
    List,
    /// Try held messages now, once their cause is mended
    #[command(after_help = "Example: final held retry --all")]
    Retry {
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Give held messages to the dead letters, so that what waits behind them goes on
    #[command(
        after_help = "Example: final held skip 019372d0-5a5e-7c3a-a4bb-0d9c51c0b7a4 --reason 'customer is gone'"
    )]
    Skip {
        #[command(flatten)]
        which: WhichArgs,

        /// Why; it is written into the dead letter
        #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        reason: String,

        #[command(flatten)]
        consent: ConsentArgs,
    },
}

/// Which held messages are meant.
#[derive(Clone, Copy, Debug, Args)]
#[group(required = true, multiple = false)]
struct WhichArgs {
    /// The id of the message
    id: Option<Uuid>,

    /// Takes all held messages of the service
    #[arg(long)]
    all: bool,
}

impl WhichArgs {
    fn id(self) -> Option<MessageId> {
        self.id.map(MessageId)
    }

    fn has(self, message: &HeldMessage) -> bool {
        self.id.is_none_or(|id| message.id.0 == id)
    }
}

impl HeldArgs {
    pub(crate) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let service = session.service(&self.service).await?;
        let admin = session.admin().service(&service);
        match self.command {
            HeldCommand::List => {
                let held = admin.held().await?;
                if held.is_empty() {
                    eprintln!("{service} holds no message");
                    return Ok(Exit::NothingMatched);
                }
                show(&held, out)?;
                Ok(Exit::Done)
            }
            HeldCommand::Retry { which } => {
                if admin.retry_held(which.id()).await? == 0 {
                    return nothing(&service);
                }
                carried_out(&admin, which, HeldWish::Retry).await
            }
            HeldCommand::Skip {
                which,
                reason,
                consent,
            } => {
                let mut held = admin.held().await?;
                held.retain(|message| which.has(message));
                if held.is_empty() {
                    return nothing(&service);
                }
                show(&held, out)?;
                out.flush()?;
                let question = harmless(&format!(
                    "Skip {} held messages of {service} in {}? They go to its dead letters, and what waits behind \
                     them goes on without them.",
                    held.len(),
                    session.target
                ));
                if !consent.ask(&session.context, &question)? {
                    return Ok(Exit::NotConfirmed);
                }
                if admin.skip_held(which.id(), &who(), &reason).await? == 0 {
                    return nothing(&service);
                }
                carried_out(&admin, which, HeldWish::Skip).await
            }
        }
    }
}

fn nothing(service: &str) -> Result<Exit, Failure> {
    eprintln!("{service} holds no such message; nothing was changed");
    Ok(Exit::NothingMatched)
}

fn show(held: &[HeldMessage], out: &mut Output) -> Result<(), Failure> {
    match out.is_json() {
        true => held
            .iter()
            .try_for_each(|message| out.json("held", &HeldView::from(message))),
        false => out.table(&held_table(held)),
    }
}

/// Waits until a running bus has carried out what was asked, and tells if none does.
async fn carried_out<DB: OutboxDatabase>(
    admin: &ServiceAdmin<DB>,
    which: WhichArgs,
    wish: HeldWish,
) -> Result<Exit, Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        let held = admin.held().await?;
        let waiting = held
            .iter()
            .filter(|message| which.has(message) && message.wish == Some(wish))
            .count();
        if waiting == 0 {
            return Ok(Exit::Done);
        }
        if Instant::now() >= until {
            eprintln!(
                "{waiting} are asked for and not done yet: no running instance of {} has them. It is done once one \
                 runs, or once the handler that has one now comes to an end.",
                admin.name()
            );
            return Ok(Exit::Done);
        }
        sleep(PACE).await;
    }
}
