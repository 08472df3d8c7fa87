//! `final gateway apps`: which apps there are, and what each may.

use clap::{Args, Subcommand};
use final_core::OutboxDatabase;

use crate::{
    exit::{Exit, Failure},
    output::Output,
    session::Session,
};

/// See and change which apps may use the gateway, and what each may
#[derive(Debug, Args)]
#[command(after_help = "Example: final gateway apps list")]
pub(crate) struct AppsArgs {
    #[command(subcommand)]
    command: AppsCommand,
}

#[derive(Debug, Subcommand)]
enum AppsCommand {
    /// List apps with their rights
    #[command(after_help = "Example: final gateway apps list")]
    List,
}

impl AppsArgs {
    pub(crate) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let _ = (session, out);
        match self.command {
            AppsCommand::List => Ok(Exit::NothingMatched),
        }
    }
}
