//! Where messages go: the log, or another broker.
//!
//! Input: Lots of messages in order, each message with the place that is done with it. State: what is not proven
//! yet. Output: messages at the target, and the position saved with them or after them.
//!
//! | target | position is saved | a change comes |
//! | --- | --- | --- |
//! | the log, position in the same database | in the same transaction | exactly once |
//! | the log, position elsewhere | after the COMMIT | at least once |
//! | another broker | after the confirms | at least once |

pub(crate) mod broker;
mod builder;
pub(crate) mod desk;
pub(crate) mod log;
pub(crate) mod lots;
pub(crate) mod parked;

use std::{sync::Arc, time::Duration};

use final_core::Message;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

pub use self::builder::{OnPoison, Target};
use crate::{
    capture::{CaptureError, StopReason},
    engine::vitals::Vitals,
    position::{
        Partial, Position, PositionError, PositionStore, SourceIdentity, SourcePoint, Standing,
        Term,
    },
};

/// How many messages a lot has at most.
pub(crate) const LOT: usize = 2_000;
/// After how many bytes of payload a lot is full.
pub(crate) const LOT_BYTES: usize = 2 * 1024 * 1024;

/// Where the capture stands when a message is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) point: SourcePoint,
    pub(crate) partial: Option<Partial>,
    /// When its transaction was committed, if there is one: microseconds since 1970 by the source's clock.
    pub(crate) at: Option<i64>,
}

/// What is delivered, or why it cannot be.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Message(Message),
    /// A change that cannot be written in the format.
    Unwritable {
        topic: Arc<str>,
        key: Option<Arc<str>>,
        why: String,
    },
}

/// A topic, and a key in it.
pub(crate) type TopicKey = (Arc<str>, Arc<str>);

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) content: Content,
    pub(crate) mark: Mark,
    /// Whether a change ends with it. Only then may the position be saved after it.
    pub(crate) ends_change: bool,
}

/// Messages that go together. The last one ends a change.
#[derive(Clone, Debug)]
pub(crate) struct Lot {
    pub(crate) items: Vec<Item>,
    /// Where the capture stands when all of it is done.
    pub(crate) end: Mark,
    /// How many changes it has, for the counts.
    pub(crate) rows: u64,
}

impl Content {
    pub(crate) fn topic(&self) -> &str {
        match self {
            Self::Message(message) => message.topic(),
            Self::Unwritable { topic, .. } => topic,
        }
    }

    pub(crate) fn key(&self) -> Option<&str> {
        match self {
            Self::Message(message) => message.key(),
            Self::Unwritable { key, .. } => key.as_deref(),
        }
    }

    /// Its topic and its key, which keep an order of their own. A key is one of its topic.
    pub(crate) fn topic_key(&self) -> Option<TopicKey> {
        let key = self.key()?.into();
        let topic = match self {
            Self::Message(message) => message.shared_topic(),
            Self::Unwritable { topic, .. } => Arc::clone(topic),
        };
        Some((topic, key))
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Message(message) => message.payload().len(),
            Self::Unwritable { why, .. } => why.len(),
        }
    }
}

impl Mark {
    /// The position to save, with the number of the save.
    pub(crate) fn standing(&self, identity: &SourceIdentity, number: i64) -> Standing {
        Standing {
            position: Position {
                identity: identity.clone(),
                point: self.point.clone(),
                partial: self.partial.clone(),
            },
            at: self.at,
            number,
        }
    }
}

/// What a target is given for one term.
pub(crate) struct Job {
    pub(crate) term: Term,
    pub(crate) identity: SourceIdentity,
    /// The number of the last save.
    pub(crate) number: i64,
    pub(crate) lots: mpsc::Receiver<Lot>,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) on_poison: OnPoison,
    pub(crate) most_parked: u64,
    pub(crate) max_message_bytes: usize,
}

/// Why a target ends before it is told to.
#[derive(Debug)]
pub(crate) enum TargetEnd {
    /// Another reader has taken over.
    Deposed,
    /// For good.
    Stopped(StopReason),
}

impl From<PositionError> for TargetEnd {
    fn from(error: PositionError) -> Self {
        match error {
            PositionError::Deposed => Self::Deposed,
            error => Self::Stopped(StopReason::Position(error.to_string())),
        }
    }
}

/// A target, as the engine sees it.
pub(crate) trait Outlet: Send + Sync + 'static {
    /// What it is, for logs.
    fn kind(&self) -> &'static str;

    /// Where positions are.
    fn positions(&self) -> Arc<dyn PositionStore>;

    /// Makes the tables that it needs.
    fn migrate(&self) -> BoxFuture<'_, Result<(), CaptureError>>;

    /// Opens what it needs for as long as the capture runs. A target that is away is no error.
    fn open<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), CaptureError>>;

    /// Takes lots until there are no more, and ends when all of them are done.
    fn run(&self, job: Job) -> BoxFuture<'_, Result<(), TargetEnd>>;

    /// Closes what was opened.
    fn close(&self, limit: Duration) -> BoxFuture<'_, ()>;
}
