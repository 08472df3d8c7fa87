//! Makes messages of events.
//!
//! Input: the events of a transaction in their order. State: the transaction, and one message that waits to learn
//! whether it is the last. Output: [`Encoded`] messages, each with what is done of the transaction once it is.

mod dbsync;
mod dbsync_table;
mod encoder;
mod go;
mod ids;
mod json;
mod key;
mod options;
mod piece;
mod plan;
mod topic;

use std::sync::Arc;

use final_core::Message;

pub use self::{
    encoder::Encoder,
    options::{EncoderOptions, Format, OptionsError, Order, TopicFn},
    topic::{DEFAULT_TOPIC, TopicError, topic_template},
};
use crate::table::TableName;

/// A message, and what is done of its transaction once it is.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The message.
    pub message: Message,
    /// How many changes of the transaction are done with this message: those with a lower index.
    pub changes: u64,
    /// Whether it is the last message of its change. A change of the key comes as two messages, and a TRUNCATE of several
    /// tables as one for each. A position must not be saved between them: the first would come again.
    pub ends_change: bool,
}

/// Why a change cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a change of {table} cannot be written: {why}")]
pub struct EncodeError {
    /// Which table.
    pub table: TableName,
    /// The key of the message that could not be made, if it is known.
    pub key: Option<Arc<str>>,
    /// What is wrong, and what to do.
    pub why: String,
    /// Whether the configuration is wrong for the whole table, so that the capture must stop. Otherwise the change is
    /// parked.
    pub stops: bool,
}
