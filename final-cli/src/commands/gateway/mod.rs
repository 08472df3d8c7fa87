//! `final gateway`: the gateway for other languages, and the apps that may use it.

mod apps;
mod serve;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use final_core::OutboxDatabase;

use crate::{
    arguments::{FormatArgs, PlaceArgs},
    exit::{Exit, Failure},
    output::Output,
    session::Session,
};

/// Run the gateway for other languages, and say which apps may use it
///
/// Redis clients and HTTP clients publish to the bus and consume from it. Without a command the gateway runs until it is
/// told to stop: by a file, as a demo, or with the defaults on the database that is named.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: final gateway --demo",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    pub(crate) format: FormatArgs,

    #[command(flatten)]
    serve: serve::ServeArgs,

    #[command(subcommand)]
    command: Option<GatewayCommand>,
}

#[derive(Debug, Subcommand)]
enum GatewayCommand {
    Apps(apps::AppsArgs),
}

impl GatewayArgs {
    /// Whether the gateway is to run, which needs no database of the command line.
    pub(crate) fn serves(&self) -> bool {
        self.command.is_none()
    }

    /// Runs the gateway. It has a runtime and a log of its own.
    pub(crate) fn serve(self, place: PlaceArgs) -> ExitCode {
        self.serve.run(place)
    }

    pub(crate) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        match self.command {
            Some(GatewayCommand::Apps(args)) => args.run(session, out).await,
            None => Err(Failure::usage("the gateway runs without a session")),
        }
    }
}
