//! The words that say which rows are meant, the same in every command.
//!
//! Input: the command line. Output: filters of the admin API.

use std::time::Duration;

use clap::{Args, ValueEnum, builder::NonEmptyStringValueParser};
use final_core::{
    MessageId,
    admin::{FilterWords, RecordFilter, RecordState},
    broker::DeadLetterFilter,
};
use uuid::Uuid;

use crate::{exit::Failure, output::time};

/// Rows of a list, where the command line names no limit.
pub(crate) const USUAL_LIMIT: u32 = 100;

/// Ids that one filter takes.
const MOST_IDS: usize = 512;

/// Which rows are meant.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which ones")]
pub(crate) struct FilterArgs {
    /// Only those of the topic
    #[arg(long, value_name = "TOPIC", value_parser = NonEmptyStringValueParser::new())]
    topic: Option<String>,

    /// Only those with the key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    /// Only those messages; can be given more than once
    #[arg(long = "id", value_name = "ID", value_delimiter = ',')]
    ids: Vec<Uuid>,

    /// Only those whose reason has this text
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: Option<String>,

    /// Only those older than 90s, 15m, 1h30m, 2d
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    older_than: Option<Duration>,

    /// This many at most
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
}

/// A state of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Status {
    /// Waits to be sent
    Pending,
    /// A process is sending it
    InHand,
    /// Its topic has no queue
    Unroutable,
    /// It can never be sent as it is
    Failed,
    /// The broker has it, and it is kept for a while
    Acked,
}

impl From<Status> for RecordState {
    fn from(status: Status) -> Self {
        match status {
            Status::Pending => Self::Pending,
            Status::InHand => Self::InHand,
            Status::Unroutable => Self::Unroutable,
            Status::Failed => Self::Failed,
            Status::Acked => Self::Acked,
        }
    }
}

impl FilterArgs {
    /// Whether they name no rows. A limit names none.
    pub(crate) fn is_empty(&self) -> bool {
        let Self {
            topic,
            key,
            ids,
            reason,
            older_than,
            limit: _,
        } = self;
        topic.is_none()
            && key.is_none()
            && ids.is_empty()
            && reason.is_none()
            && older_than.is_none()
    }

    /// A filter of dead letters, the limit aside.
    pub(crate) fn letters(&self) -> Result<DeadLetterFilter, Failure> {
        Ok(self.words()?.into())
    }

    /// A filter of records in one of these states, the limit aside.
    pub(crate) fn records(&self, status: &[Status]) -> Result<RecordFilter, Failure> {
        let all = RecordFilter::from(self.words()?);
        let states = status.iter().map(|status| (*status).into());
        Ok(states.fold(all, RecordFilter::state))
    }

    /// The words of both filters, the limit aside.
    fn words(&self) -> Result<FilterWords, Failure> {
        if self.ids.len() > MOST_IDS {
            return Err(Failure::usage(format!(
                "one command takes {MOST_IDS} ids at most; use more commands"
            )));
        }
        let ids = self.ids.iter().copied().map(MessageId);
        let mut words = FilterWords::default();
        words.topic.clone_from(&self.topic);
        words.key.clone_from(&self.key);
        words.reason.clone_from(&self.reason);
        words.older_than = self.older_than;
        words.ids = (!self.ids.is_empty()).then(|| ids.collect());
        Ok(words)
    }
}
