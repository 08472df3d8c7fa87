//! How messages are made.

use std::{fmt, sync::Arc};

use super::topic::{self, DEFAULT_TOPIC};
use crate::{
    select::{SelectError, Selection},
    table::TableName,
};

/// Which changes are handed over one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// Those of one row, by its key. Those of a table without a key come in the order of the table.
    ///
    /// An UPDATE that changes the key comes as a delete of the old key and an insert of the new key. Each of the two
    /// names the other key. A TRUNCATE concerns all keys, and has no order with them: see
    /// [`Table`](Self::Table) for tables that are truncated.
    #[default]
    Row,
    /// Those of one table.
    Table,
    /// One message has all changes of a transaction, up to so many bytes. A larger transaction comes in parts. All
    /// messages come one after the other.
    Transaction {
        /// How large a message may become. A single change can be larger.
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
    /// The JSON of dbsync.
    Dbsync {
        /// Writes TEXT and JSON columns as text and not in base64.
        readable: bool,
    },
}

/// Makes the topic of a table.
pub type TopicFn = Arc<dyn Fn(&TableName) -> String + Send + Sync>;

/// What an encoder is made of.
#[derive(Clone)]
#[non_exhaustive]
pub struct EncoderOptions {
    /// What is captured.
    pub selection: Selection,
    /// How a message is written.
    pub format: Format,
    /// What is handed over in order.
    pub order: Order,
    /// The topic of a table. [`DEFAULT_TOPIC`] otherwise.
    pub topic: TopicFn,
    /// The topic of all messages of [`Order::Transaction`], since a transaction can change several tables.
    /// `cdc.transactions` otherwise.
    pub transaction_topic: Arc<str>,
    /// Writes whole numbers beyond 2⁵³ as text, for readers such as JavaScript that would lose digits.
    pub big_integers_as_text: bool,
}

impl EncoderOptions {
    /// The usual options: JSON of ours, in order by rows, topics `cdc.<schema>.<table>`.
    #[must_use]
    pub fn new(selection: Selection) -> Self {
        Self {
            selection,
            format: Format::default(),
            order: Order::default(),
            topic: topic::topic_template(DEFAULT_TOPIC)
                .unwrap_or_else(|_| Arc::new(|name: &TableName| format!("cdc.{name}"))),
            transaction_topic: "cdc.transactions".into(),
            big_integers_as_text: false,
        }
    }

    /// Checks what can be checked without a server.
    ///
    /// # Errors
    ///
    /// Tells what is wrong with the selection, or which options exclude each other.
    pub fn check(&self) -> Result<(), OptionsError> {
        self.selection.check()?;
        let transaction = matches!(self.order, Order::Transaction { .. });
        if transaction && matches!(self.format, Format::Dbsync { .. }) {
            return Err(OptionsError::TransactionsOfDbsync);
        }
        if transaction && let Some(why) = topic::fault(&self.transaction_topic) {
            return Err(OptionsError::TransactionTopic {
                topic: self.transaction_topic.to_string(),
                why,
            });
        }
        Ok(())
    }
}

impl fmt::Debug for EncoderOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncoderOptions")
            .field("selection", &self.selection)
            .field("format", &self.format)
            .field("order", &self.order)
            .field("transaction_topic", &self.transaction_topic)
            .field("big_integers_as_text", &self.big_integers_as_text)
            .finish_non_exhaustive()
    }
}

/// Options that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// The selection is wrong.
    #[error(transparent)]
    Selection(#[from] SelectError),
    /// dbsync knows no transactions.
    #[error(
        "the format of dbsync has one message for each row, so it cannot be combined with the order of transactions; \
         choose the order `table`, which is what dbsync has"
    )]
    TransactionsOfDbsync,
    /// The topic of transactions cannot be used.
    #[error("the topic `{topic}` of transactions cannot be used: {why}")]
    TransactionTopic {
        /// The topic.
        topic: String,
        /// What is wrong with it.
        why: &'static str,
    },
}
