//! Makes messages of events.
//!
//! Input: the events of a transaction in their order. State: the transaction, and one message that waits to learn
//! whether it is the last. Output: [`Encoded`] messages, each with the place that is done with it.

use std::{fmt, sync::Arc};

use final_core::Message;

use crate::{
    position::{SourceIdentity, SourcePoint},
    select::Selection,
    source::{RowChange, Transaction},
    table::{Table, TableName},
};

/// Which changes are handed over one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// Those of one row, by its key.
    #[default]
    Row,
    /// Those of one table.
    Table,
    /// One message has all changes of a transaction, up to so many bytes. A larger transaction comes in parts.
    Transaction {
        /// How large a message may become.
        most_bytes: usize,
    },
}

/// How a message is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// JSON of ours.
    #[default]
    Json,
    /// The JSON of dbsync, byte for byte.
    Dbsync {
        /// Writes TEXT columns as text and not in base64.
        readable: bool,
    },
}

/// Makes the topic of a table.
pub type TopicFn = Arc<dyn Fn(&TableName) -> String + Send + Sync>;

/// What an encoder is made of.
#[derive(Clone)]
pub struct EncoderOptions {
    /// What is captured.
    pub selection: Selection,
    /// How a message is written.
    pub format: Format,
    /// What is handed over in order.
    pub order: Order,
    /// The topic of a table.
    pub topic: TopicFn,
}

impl fmt::Debug for EncoderOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncoderOptions")
            .field("format", &self.format)
            .field("order", &self.order)
            .finish_non_exhaustive()
    }
}

/// A message, and what is done of its transaction once it is.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The message.
    pub message: Message,
    /// How many changes of the transaction are done with this message: those with a lower index.
    pub changes: u64,
}

/// Why a change cannot be written. The message that says so is parked in its place.
#[derive(Debug, thiserror::Error)]
#[error("a change of {table} cannot be written: {why}")]
pub struct EncodeError {
    /// Which table.
    pub table: TableName,
    /// What is wrong, and what to do.
    pub why: String,
}

/// Makes messages of events.
#[derive(Debug)]
pub struct Encoder {
    _options: EncoderOptions,
    _identity: SourceIdentity,
}

impl Encoder {
    /// An encoder of one source.
    #[must_use]
    pub fn new(options: EncoderOptions, identity: SourceIdentity) -> Self {
        Self {
            _options: options,
            _identity: identity,
        }
    }

    /// A transaction begins. What was left of another one is forgotten.
    pub fn begin(&mut self, _transaction: Transaction) {}

    /// A change of it.
    ///
    /// # Errors
    ///
    /// Fails if the change cannot be written in this format.
    pub fn row(&mut self, _change: RowChange, _out: &mut Vec<Encoded>) -> Result<(), EncodeError> {
        Ok(())
    }

    /// Tables were emptied.
    ///
    /// # Errors
    ///
    /// Fails if that cannot be written in this format.
    pub fn truncate(
        &mut self,
        _tables: &[Arc<Table>],
        _index: u64,
        _out: &mut Vec<Encoded>,
    ) -> Result<(), EncodeError> {
        Ok(())
    }

    /// The transaction is complete: what waits comes out.
    pub fn commit(&mut self, _point: &SourcePoint, _out: &mut Vec<Encoded>) {}
}
