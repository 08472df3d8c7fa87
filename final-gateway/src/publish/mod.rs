//! Publishing: many clients' messages in one transaction.
//!
//! Input: messages of all connections. State: the queue of those that wait for the next transaction, bounded in messages
//! and bytes. Output: rows of the log or of the outbox, and one answer for each message after its COMMIT.
//!
//! ```text
//!   submit ─▶ queue ─▶ BEGIN, one INSERT, COMMIT ─▶ answers
//!               ▲ what arrives meanwhile is the next transaction; no timer waits for more to come
//! ```

mod committer;
mod halves;
mod queue;
mod store;
#[cfg(test)]
mod tests;

use std::{future::Future, sync::Arc, time::Duration};

use final_core::{Message, MessageId, broker::Place};

pub use self::queue::PublishStats;
use self::queue::{Queue, Ticket};
pub(crate) use self::{
    committer::Committer,
    queue::QueueLimits,
    store::{LogStore, OutboxStore, Store},
};

/// A message that is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The id under which consumers get it.
    pub id: MessageId,
    /// Where the log has it, if that was asked for and the engine is the log.
    pub place: Option<Place>,
}

/// Why a message was not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The message can never be published as it is. Nothing was written.
    #[error("refused: {0}")]
    Refused(String),
    /// The database is away. Nothing was written; publish again.
    #[error("the database is away: {0}")]
    Away(String),
    /// The answer to the COMMIT was lost, so the message may be there. Published again it may come twice, unless it
    /// has an id of its own that consumers keep.
    #[error("the database did not answer the COMMIT; the message may be there")]
    Unknown,
    /// Too many messages wait for the database. Nothing was written; publish again later.
    #[error("too many messages wait for the database; publish again later")]
    Busy,
    /// The gateway is being stopped. Nothing was written.
    #[error("the gateway is being stopped")]
    Stopping,
}

impl PublishError {
    /// Whether the same message may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}

/// The way in for messages. Clones share one queue.
#[derive(Clone, Debug)]
pub struct Publisher {
    queue: Arc<Queue>,
}

impl Publisher {
    /// Puts a message into the queue and waits for room in it, `patience` at most. The future that it returns ends after
    /// the COMMIT; dropping that one takes nothing back. Messages that one caller submits one after the other are
    /// committed in this order.
    ///
    /// # Errors
    ///
    /// [`PublishError::Refused`] for a message that no bus could publish: its topic, its key, its headers (`x-final-…`
    /// belongs to the bus) or its content type cannot be used, or its payload is larger than `max_message_bytes`.
    /// [`PublishError::Busy`] if there was no room in time, [`PublishError::Stopping`] during a shutdown.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it returns, nothing is published.
    pub async fn submit(
        &self,
        message: Message,
        wants_place: bool,
        patience: Duration,
    ) -> Result<impl Future<Output = Result<Published, PublishError>> + Send + use<>, PublishError>
    {
        let id = message.id();
        let answer = self.queue.put(message, wants_place, patience).await?;
        Ok(async move {
            match answer.await {
                Ok(answer) => answer.map(|place| Published { id, place }),
                // The committer has panicked with the message in its hands.
                Err(_) => Err(PublishError::Unknown),
            }
        })
    }

    /// What the queue has counted, and what waits in it.
    #[must_use]
    pub fn stats(&self) -> PublishStats {
        self.queue.stats()
    }
}

/// An error with its causes, as a client is told it.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let level = error.to_string();
        if !text.contains(&level) {
            text.push_str(": ");
            text.push_str(&level);
        }
        cause = error.source();
        // Enough for a line of a protocol.
        if text.len() > 1_000 {
            break;
        }
    }
    text
}
