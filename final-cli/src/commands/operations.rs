//! `final operations`: bulk actions, as they are written down.

use clap::{Args, Subcommand};
use final_core::{OutboxDatabase, admin::OperationFilter};

use super::change::{PaceArgs, carry_out};
use crate::{
    arguments::{FormatArgs, ServiceArgs},
    ask::ConsentArgs,
    exit::{Exit, Failure},
    filter::USUAL_LIMIT,
    output::Output,
    session::Session,
    views::{OperationView, operation_table},
};

/// See who has changed what, go on with an operation, stop one
#[derive(Debug, Args)]
#[command(after_help = "Example: final operations list --unfinished")]
pub(crate) struct OperationsArgs {
    #[command(flatten)]
    pub(crate) format: FormatArgs,

    #[command(subcommand)]
    command: OperationsCommand,
}

#[derive(Debug, Subcommand)]
enum OperationsCommand {
    /// List operations, the latest first
    #[command(after_help = "Example: final operations list --service shop")]
    List {
        #[command(flatten)]
        service: ServiceArgs,

        /// Only those that are not done
        #[arg(long)]
        unfinished: bool,

        /// This many at most
        #[arg(long, value_name = "NUMBER", default_value_t = USUAL_LIMIT)]
        limit: u32,

        /// Goes on with those of lower numbers
        #[arg(long, value_name = "OPERATION")]
        before: Option<i64>,
    },
    /// Carry out a plan of --dry-run, or go on with an operation that was stopped or interrupted
    #[command(after_help = "Example: final operations continue 17")]
    Continue {
        /// The number of the operation
        operation: i64,

        #[command(flatten)]
        pace: PaceArgs,

        #[command(flatten)]
        consent: ConsentArgs,
    },
    /// Stop an operation; the program that carries it out ends before its next batch
    #[command(after_help = "Example: final operations stop 17")]
    Stop {
        /// The number of the operation
        operation: i64,
    },
}

impl OperationsArgs {
    pub(crate) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let admin = session.admin();
        match self.command {
            OperationsCommand::List {
                service,
                unfinished,
                limit,
                before,
            } => {
                let mut filter = OperationFilter::all().limit(limit);
                if let Some(service) = service.service {
                    filter = filter.service(service);
                }
                if unfinished {
                    filter = filter.unfinished();
                }
                if let Some(before) = before {
                    filter = filter.before(before);
                }
                let operations = admin.operations(&filter).await?;
                if operations.is_empty() {
                    eprintln!("nothing matches");
                    return Ok(Exit::NothingMatched);
                }
                write(&operations, out)?;
                Ok(Exit::Done)
            }
            OperationsCommand::Continue {
                operation,
                pace,
                consent,
            } => {
                let found = admin.operation(operation).await?;
                write(std::slice::from_ref(&found), out)?;
                out.flush()?;
                let question = format!("Carry out operation {operation} in {}?", session.target);
                if !consent.ask(&session.context, &question)? {
                    return Ok(Exit::NotConfirmed);
                }
                carry_out(session, operation, found.total, pace, out).await
            }
            OperationsCommand::Stop { operation } => {
                let stopped = admin.stop(operation).await?;
                write(&[stopped], out)?;
                Ok(Exit::Done)
            }
        }
    }
}

fn write(operations: &[final_core::admin::Operation], out: &mut Output) -> Result<(), Failure> {
    match out.is_json() {
        true => operations
            .iter()
            .try_for_each(|operation| out.json("operation", &OperationView::from(operation))),
        false => out.table(&operation_table(operations)),
    }
}
