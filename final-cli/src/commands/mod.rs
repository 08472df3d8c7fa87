//! The commands, one file each.
//!
//! A new command is a file with its arguments and `run`, a line in [`Command`], and a line in each `match` below.

#[cfg(feature = "capture")]
mod capture;
mod change;
mod completions;
mod dead;
mod doctor;
#[cfg(feature = "gateway")]
mod gateway;
mod held;
mod import_hookq;
mod list;
mod log;
mod migrate;
mod operations;
mod outbox;
mod publish;
#[cfg(feature = "reconcile")]
mod reconcile;
mod status;
mod tail;
mod trail;

use std::process::ExitCode;

use clap::Subcommand;
use final_core::OutboxDatabase;

use crate::{
    arguments::PlaceArgs,
    exit::{Exit, Failure},
    output::Output,
    session::{Place, Session},
};

/// What is done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Status(status::StatusArgs),
    Outbox(outbox::OutboxArgs),
    Dead(dead::DeadArgs),
    Held(held::HeldArgs),
    Log(log::LogArgs),
    Trail(trail::TrailArgs),
    Tail(tail::TailArgs),
    Publish(publish::PublishArgs),
    Operations(operations::OperationsArgs),
    Doctor(doctor::DoctorArgs),
    Migrate(migrate::MigrateArgs),
    #[cfg(feature = "gateway")]
    Gateway(gateway::GatewayArgs),
    #[cfg(feature = "reconcile")]
    Reconcile(reconcile::ReconcileArgs),
    #[cfg(feature = "capture")]
    Capture(capture::CaptureArgs),
    Completions(completions::CompletionsArgs),
}

/// What a command works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// No database and no broker.
    Nothing,
    /// The dialect of a database, but no connection.
    Dialect,
    /// A connection to a database.
    Database,
    /// A broker in place of a database.
    Broker,
    /// A file of its own, which names databases.
    File,
}

impl Command {
    /// Whether `--json` stands behind the command's name.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Publish(_) | Self::Completions(_) => false,
            Self::Status(args) => args.format.json,
            Self::Outbox(args) => args.format.json,
            Self::Dead(args) => args.format.json,
            Self::Held(args) => args.format.json,
            Self::Log(args) => args.format.json,
            Self::Trail(args) => args.format.json,
            Self::Tail(args) => args.format.json,
            Self::Operations(args) => args.format.json,
            Self::Doctor(args) => args.format.json,
            Self::Migrate(args) => args.format.json,
            #[cfg(feature = "gateway")]
            Self::Gateway(args) => args.format.json,
            #[cfg(feature = "reconcile")]
            Self::Reconcile(args) => args.format.json,
            #[cfg(feature = "capture")]
            Self::Capture(args) => args.format.json,
        }
    }

    /// Runs a command that is a service, with a runtime and a log of its own. Any other command comes back.
    pub(crate) fn serve(self, place: PlaceArgs) -> Result<ExitCode, Box<(PlaceArgs, Self)>> {
        match self {
            #[cfg(feature = "gateway")]
            Self::Gateway(args) if args.serves() => Ok(args.serve(place)),
            #[cfg(feature = "capture")]
            Self::Capture(args) if args.serves() => Ok(args.serve(place)),
            #[cfg(feature = "reconcile")]
            Self::Reconcile(args) if args.serves() => Ok(args.serve(&place)),
            command => Err(Box::new((place, command))),
        }
    }

    /// The database: that of the command's own file, else that of the command line.
    pub(crate) fn place(&mut self, place: PlaceArgs) -> Result<PlaceArgs, Failure> {
        match self {
            #[cfg(feature = "capture")]
            Self::Capture(args) => args.place(place),
            _ => Ok(place),
        }
    }

    /// What has to be there before it runs.
    pub(crate) fn needs(&self) -> Needs {
        match self {
            Self::Completions(_) => Needs::Nothing,
            #[cfg(feature = "reconcile")]
            Self::Reconcile(_) => Needs::File,
            Self::Migrate(args) if args.sql => Needs::Dialect,
            Self::Tail(args) if args.is_on_rabbitmq() => Needs::Broker,
            _ => Needs::Database,
        }
    }

    /// Runs a command that needs nothing but the words of the whole program.
    pub(crate) fn run_alone(
        self,
        program: clap::Command,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        match self {
            Self::Completions(args) => args.run(program, out),
            _ => Err(Failure::usage("this command needs a database")),
        }
    }

    /// Runs a command that works with a file of its own.
    pub(crate) async fn run_with_file(self, out: &mut Output) -> Result<Exit, Failure> {
        match self {
            #[cfg(feature = "reconcile")]
            Self::Reconcile(args) => args.run(out).await,
            _ => {
                let _ = out;
                Err(Failure::usage("this command needs a database"))
            }
        }
    }

    /// Runs a command that works with a broker.
    pub(crate) async fn run_with_broker(
        self,
        place: &Place,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        match self {
            Self::Tail(args) => args.run_with_broker(place, out).await,
            _ => Err(Failure::usage("this command needs a database")),
        }
    }

    /// Runs a command that works with a database.
    pub(crate) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        match self {
            Self::Status(args) => args.run(session, out).await,
            Self::Outbox(args) => args.run(session, out).await,
            Self::Dead(args) => args.run(session, out).await,
            Self::Held(args) => args.run(session, out).await,
            Self::Log(args) => args.run(session, out).await,
            Self::Trail(args) => args.run(session, out).await,
            Self::Tail(args) => args.run(session, out).await,
            Self::Publish(args) => args.run(session, out).await,
            Self::Operations(args) => args.run(session, out).await,
            Self::Doctor(args) => args.run(session, out).await,
            Self::Migrate(args) => args.run(session, out).await,
            #[cfg(feature = "gateway")]
            Self::Gateway(args) => args.run(session, out).await,
            #[cfg(feature = "reconcile")]
            Self::Reconcile(args) => args.run(out).await,
            #[cfg(feature = "capture")]
            Self::Capture(args) => args.run(session, out).await,
            Self::Completions(_) => Err(Failure::usage("this command needs no database")),
        }
    }
}
