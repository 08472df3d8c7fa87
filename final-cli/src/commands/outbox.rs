//! `final outbox`: the records of a service's outbox.

use clap::{Args, Subcommand};
use final_core::{
    MessageId, OutboxDatabase,
    admin::{Action, RecordCursor},
};
use uuid::Uuid;

use super::{change::ChangeArgs, list};
use crate::{
    arguments::{FormatArgs, ServiceArgs},
    exit::{Exit, Failure},
    filter::{FilterArgs, Status, USUAL_LIMIT},
    output::Output,
    session::Session,
    views::{RecordView, WholeRecordView, record_table},
};

/// See, retry and discard the records of an outbox
#[derive(Debug, Args)]
#[command(after_help = "Example: final outbox list --service shop --status failed")]
pub(crate) struct OutboxArgs {
    #[command(flatten)]
    service: ServiceArgs,

    #[command(flatten)]
    pub(crate) format: FormatArgs,

    #[command(subcommand)]
    command: OutboxCommand,
}

#[derive(Debug, Subcommand)]
enum OutboxCommand {
    /// List records: the failed ones first, then the unroutable, those in hand, the pending ones
    #[command(after_help = "Example: final outbox list --topic order.placed --older-than 15m")]
    List(ListArgs),
    /// Show one record with its headers and payload
    #[command(after_help = "Example: final outbox show 019372d0-5a5e-7c3a-a4bb-0d9c51c0b7a4")]
    Show {
        /// The id of its message
        id: Uuid,
    },
    /// Make failed or unroutable records pending again, their attempts forgotten
    #[command(after_help = "Example: final outbox retry --topic order.placed")]
    Retry(StuckArgs),
    /// Delete failed or unroutable records for good
    #[command(after_help = "Example: final outbox discard --reason 'too large' --older-than 7d")]
    Discard(StuckArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only those in the state; can be given more than once
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    status: Vec<Status>,

    #[command(flatten)]
    filter: FilterArgs,

    /// Goes on after the cursor of a list before
    #[arg(long, value_name = "CURSOR")]
    after: Option<RecordCursor>,
}

#[derive(Debug, Args)]
struct StuckArgs {
    /// Which of the two kinds of stuck records; the failed ones, if nothing is said
    #[arg(long, value_name = "STATE", value_parser = stuck)]
    status: Option<Status>,

    #[command(flatten)]
    change: ChangeArgs,
}

impl OutboxArgs {
    pub(crate) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        if let OutboxCommand::Retry(args) | OutboxCommand::Discard(args) = &self.command {
            args.change.check(args.status.is_some())?;
        }
        let service = session.service(&self.service).await?;
        match self.command {
            OutboxCommand::List(args) => args.run(session, &service, out).await,
            OutboxCommand::Show { id } => {
                let outbox = session.admin().service(&service);
                let Some(record) = outbox.record(MessageId(id)).await? else {
                    eprintln!(
                        "the outbox of {service} has no record {id}; `final trail {id}` looks everywhere"
                    );
                    return Ok(Exit::NothingMatched);
                };
                WholeRecordView::new(&service, &record).write(out)?;
                Ok(Exit::Done)
            }
            OutboxCommand::Retry(args) => args.run(session, &service, Action::Retry, out).await,
            OutboxCommand::Discard(args) => args.run(session, &service, Action::Discard, out).await,
        }
    }
}

impl ListArgs {
    async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        service: &str,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let outbox = session.admin().service(service);
        let filter = self.filter.records(&self.status)?;
        let page = async |limit: u32, after: Option<&RecordCursor>| {
            let filter = filter.clone().limit(limit);
            let filter = match after {
                Some(after) => filter.after(after.clone()),
                None => filter,
            };
            outbox.records(&filter).await
        };
        let limit = self.filter.limit.unwrap_or(USUAL_LIMIT);
        let json =
            |record: &_, out: &mut Output| out.json("record", &RecordView::new(service, record));
        list::pages(limit, self.after, page, record_table, json, out).await
    }
}

impl StuckArgs {
    async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        service: &str,
        action: Action,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let status = self.status.unwrap_or(Status::Failed);
        let filter = self.change.filter.records(&[status])?;
        let filter = match self.change.filter.limit {
            Some(limit) => filter.limit(limit),
            None => filter,
        };
        self.change.run(session, service, action, filter, out).await
    }
}

fn stuck(text: &str) -> Result<Status, String> {
    match text {
        "failed" => Ok(Status::Failed),
        "unroutable" => Ok(Status::Unroutable),
        _ => Err(
            "only `failed` and `unroutable` records are stuck; the bus sends all others by itself"
                .into(),
        ),
    }
}
