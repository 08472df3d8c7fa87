//! `final trail ID`: where one message is and why.

use clap::Args;
use final_core::{MessageId, OutboxDatabase};
use uuid::Uuid;

use crate::{
    arguments::FormatArgs,
    exit::{Exit, Failure},
    output::{Output, text::harmless},
    session::Session,
    views::TrailView,
};

/// Tell where one message is and why: in an outbox, in the log, at each group, among the dead letters
#[derive(Debug, Args)]
#[command(after_help = "Example: final trail 019372d0-5a5e-7c3a-a4bb-0d9c51c0b7a4")]
pub(crate) struct TrailArgs {
    /// The id of the message
    id: Uuid,

    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

impl TrailArgs {
    pub(crate) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let trail = session.admin().trail(MessageId(self.id)).await?;
        match out.is_json() {
            true => out.json("trail", &TrailView::from(&trail))?,
            false => {
                for line in trail.to_string().lines() {
                    out.line(&harmless(line))?;
                }
            }
        }
        Ok(match trail.stations.is_empty() {
            true => Exit::NothingMatched,
            false => Exit::Done,
        })
    }
}
