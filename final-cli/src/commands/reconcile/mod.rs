//! `final reconcile`: whether tables agree, and repairing rows that do not.
//!
//! | part | has |
//! | --- | --- |
//! | [`file`] | the file that names the jobs: ours, or cupid's |
//! | [`config`], [`sides`], [`bus`] | what ours says: jobs; a table; where messages come from |
//! | [`compare`] | compares once |
//! | [`run`], [`metrics`] | the service, and its numbers |
//! | [`status`], [`repairs`] | how jobs are; repairs that are not done |
//! | [`forget`] | what is left of a source or target that a job does not have any more |
//! | [`import_cupid`] | cupid's file as one of ours |

mod bus;
mod compare;
mod config;
mod file;
mod forget;
mod import_cupid;
mod metrics;
mod repairs;
mod run;
mod sides;
mod status;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use final_reconcile::ReconcileError;

use crate::{
    arguments::{FormatArgs, PlaceArgs},
    exit::{Exit, Failure},
    output::Output,
};

/// Compare tables with their copies in other databases, and repair rows that differ
///
/// Both databases make digests of the same ranges of rows, so rows that are equal stay where they are. Without a command
/// the jobs of a file run until they are told to stop, as by `run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: final reconcile compare --config reconcile.toml",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub(crate) struct ReconcileArgs {
    #[command(flatten)]
    pub(crate) format: FormatArgs,

    #[command(flatten)]
    serve: run::ServeArgs,

    #[command(subcommand)]
    command: Option<ReconcileCommand>,
}

#[derive(Debug, Subcommand)]
enum ReconcileCommand {
    Compare(compare::CompareArgs),
    Explain(compare::ExplainArgs),
    /// Look for differences and repair them, until told to stop
    #[command(after_help = "Example: final reconcile run --config reconcile.toml")]
    Run(run::ServeArgs),
    Status(status::StatusArgs),
    Resume(status::ResumeArgs),
    Repairs(repairs::RepairsArgs),
    Forget(forget::ForgetArgs),
    ImportCupid(import_cupid::ImportCupidArgs),
}

impl ReconcileArgs {
    /// Whether the jobs are to run.
    pub(crate) fn serves(&self) -> bool {
        matches!(&self.command, None | Some(ReconcileCommand::Run(_)))
    }

    /// Runs the jobs. They have a runtime and a log of their own.
    pub(crate) fn serve(self, place: &PlaceArgs) -> ExitCode {
        let args = match self.command {
            Some(ReconcileCommand::Run(args)) => args,
            _ => self.serve,
        };
        let ended = args.run(place);
        ended.unwrap_or_else(|failure| {
            let (code, line) = failure.end();
            if let Some(line) = line {
                eprintln!("final: {line}");
            }
            code
        })
    }

    pub(crate) async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        match self.command {
            Some(ReconcileCommand::Compare(args)) => args.run(out).await,
            Some(ReconcileCommand::Explain(args)) => args.run(out).await,
            Some(ReconcileCommand::Status(args)) => args.run(out).await,
            Some(ReconcileCommand::Resume(args)) => args.run().await,
            Some(ReconcileCommand::Repairs(args)) => args.run(out).await,
            Some(ReconcileCommand::Forget(args)) => args.run(out).await,
            Some(ReconcileCommand::ImportCupid(args)) => args.run(out),
            Some(ReconcileCommand::Run(_)) | None => {
                Err(Failure::usage("the jobs run without a session"))
            }
        }
    }
}

/// What is wrong with the job or its tables is a mistake of the file; a database that fails is not.
fn failed(job: &str, error: &ReconcileError) -> Failure {
    match error {
        ReconcileError::Database { .. }
        | ReconcileError::Row { .. }
        | ReconcileError::Caller { .. } => Failure::doing(format_args!("job {job}"), error),
        // It names the job itself.
        ReconcileError::Job { .. } => Failure::usage(error.to_string()),
        _ => Failure::usage(format!("job {job}: {error}")),
    }
}

/// The same where the state is read, which the first run makes.
fn state_failed(job: &str, error: &ReconcileError) -> Failure {
    match error {
        ReconcileError::Database { source, .. } if is_missing_table(source) => nothing_yet(),
        ReconcileError::Database { source, .. } if is_missing_column(source) => {
            Failure::Failed(format!(
                "an earlier state of 0.1.0 has made the tables of the state; `final reconcile run` says which statements remove \
                 them: {source}"
            ))
        }
        _ => failed(job, error),
    }
}

/// No job has run, so there is no state.
fn nothing_yet() -> Failure {
    Failure::Nothing("no job of the file has run yet".to_owned())
}

fn is_missing_table(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else {
        return false;
    };
    // SQLite has one code for many errors.
    matches!(error.code().as_deref(), Some("42P01" | "42S02"))
        || error.message().starts_with("no such table")
}

fn is_missing_column(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else {
        return false;
    };
    matches!(error.code().as_deref(), Some("42703" | "42S22"))
        || error.message().starts_with("no such column")
}
