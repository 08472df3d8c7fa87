//! `final gateway`: the gateway for other languages, and the apps that may use it.

mod apps;

use clap::{Args, Subcommand};
use final_core::OutboxDatabase;

use crate::{
    arguments::FormatArgs,
    exit::{Exit, Failure},
    output::Output,
    session::Session,
};

/// Say which apps may publish and consume through the gateway
#[derive(Debug, Args)]
#[command(after_help = "Example: final gateway apps list")]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    pub(crate) format: FormatArgs,

    #[command(subcommand)]
    command: GatewayCommand,
}

#[derive(Debug, Subcommand)]
enum GatewayCommand {
    Apps(apps::AppsArgs),
}

impl GatewayArgs {
    pub(crate) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        match self.command {
            GatewayCommand::Apps(args) => args.run(session, out).await,
        }
    }
}
