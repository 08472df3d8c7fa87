//! `final capture`: changes of a database become messages; how captures are, and what their targets have refused.

mod config;
mod doctor;
mod import_dbsync;
mod parked;
mod serve;
mod status;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use final_capture::position::SourcePoint;
use final_core::OutboxDatabase;

use crate::{
    arguments::{DatabaseUrl, FormatArgs, PlaceArgs},
    exit::{Exit, Failure},
    output::Output,
    service::RunArgs,
    session::Session,
};

/// Make a message of each committed change of a database, and see how that goes
///
/// Without a command the capture of a file runs until it is told to stop.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: final capture --config capture.toml",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct CaptureArgs {
    #[command(flatten)]
    pub(crate) format: FormatArgs,

    /// The configuration in TOML; docs/capture.md has all its keys
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where a capture begins that has no position yet, as file:mysql-bin.000010:1234, gtid:0-1-345 or lsn:16/B374D848
    #[arg(long, value_name = "POSITION")]
    from: Option<SourcePoint>,

    #[command(flatten)]
    run: RunArgs,

    #[command(subcommand)]
    command: Option<CaptureCommand>,
}

#[derive(Debug, Subcommand)]
enum CaptureCommand {
    Status(status::StatusArgs),
    Doctor(doctor::DoctorArgs),
    Parked(parked::ParkedArgs),
    ImportDbsync(import_dbsync::ImportDbsyncArgs),
}

/// The file that names the database of the positions.
#[derive(Debug, Args)]
struct FileArgs {
    /// The capture's configuration, which names the database
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

impl CaptureArgs {
    /// The database of the positions: that of the capture's own file, else that of the command line.
    pub(crate) fn place(&mut self, place: PlaceArgs) -> Result<PlaceArgs, Failure> {
        let file = match &self.command {
            Some(CaptureCommand::Status(args)) => &args.file.config,
            Some(CaptureCommand::Parked(args)) => &args.file.config,
            Some(CaptureCommand::Doctor(_) | CaptureCommand::ImportDbsync(_)) | None => &None,
        };
        let Some(file) = file else { return Ok(place) };
        no_place(&place)?;
        let config = serve::load(file)?;
        let url = config.positions_at();
        let url = url.map_err(|error| Failure::usage(serve::wrong(file, &*error)))?;
        let place = PlaceArgs {
            database_url: Some(DatabaseUrl::from(url.expose())),
            context: None,
        };
        if let Some(CaptureCommand::Status(args)) = &mut self.command {
            args.capture.get_or_insert(config.name);
        }
        Ok(place)
    }

    /// Whether the command needs no database of the command line.
    pub(crate) fn serves(&self) -> bool {
        match &self.command {
            None | Some(CaptureCommand::Doctor(_) | CaptureCommand::ImportDbsync(_)) => true,
            Some(CaptureCommand::Status(_) | CaptureCommand::Parked(_)) => false,
        }
    }

    /// Runs the capture, or examines its source. It has a runtime of its own.
    pub(crate) fn serve(self, place: PlaceArgs) -> ExitCode {
        let ended = match self.command {
            Some(CaptureCommand::Doctor(args)) => args.run(&place, self.format),
            Some(CaptureCommand::ImportDbsync(args)) => args.run(self.format),
            _ => serve::run(self.config, self.from, self.run, &place),
        };
        ended.unwrap_or_else(|failure| {
            let (code, line) = failure.end();
            if let Some(line) = line {
                eprintln!("final: {line}");
            }
            code
        })
    }

    pub(crate) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        match self.command {
            Some(CaptureCommand::Status(args)) => args.run(session, out).await,
            Some(CaptureCommand::Parked(args)) => args.run(session, out).await,
            Some(CaptureCommand::Doctor(_) | CaptureCommand::ImportDbsync(_)) | None => {
                Err(Failure::usage("this command runs without a session"))
            }
        }
    }
}

/// A configuration names the database, so that the command line must not.
fn no_place(place: &PlaceArgs) -> Result<(), Failure> {
    match place.database_url.is_some() || place.context.is_some() {
        true => Err(Failure::usage(
            "the file of --config names all databases; leave out --database-url and --context",
        )),
        false => Ok(()),
    }
}
