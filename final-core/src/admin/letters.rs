//! Dead letters of a service: those of the log, and those collected from its broker, in one list.
//!
//! Input: a [`DeadLetterFilter`](crate::broker::DeadLetterFilter). Output: a page of [`Letter`]s, without payloads;
//! or [`WholeLetter`]s.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use crate::{Message, MessageId, broker::LetterCursor};

/// Where a dead letter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LetterSource {
    /// In the log's own table.
    Log,
    /// In the table of letters that were collected from the service's broker.
    Collected,
}

/// `log`, or `broker`.
impl fmt::Display for LetterSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Log => "log",
            Self::Collected => "broker",
        })
    }
}

/// A dead letter, without its payload and headers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Letter {
    /// Its place in the list, to go on after it and to show it.
    pub cursor: LetterCursor,
    /// Where it is.
    pub source: LetterSource,
    /// The service that could not handle it.
    pub service: String,
    /// The message's id.
    pub id: MessageId,
    /// The topic it was published to.
    pub topic: String,
    /// The message's key.
    pub key: Option<String>,
    /// What went wrong.
    pub reason: String,
    /// How often the handler was tried.
    pub attempts: u32,
    /// When it died, by the database's clock.
    pub died_at: SystemTime,
    /// How long it has been dead.
    pub age: Duration,
}

/// A dead letter with its message.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WholeLetter {
    /// Everything but headers and payload.
    pub letter: Letter,
    /// The message, or the reason why what is stored cannot be read as one.
    pub message: Result<Message, String>,
}
