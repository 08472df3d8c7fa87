//! Where messages are written: the log, or an outbox in front of another broker.
//!
//! Input: messages of one transaction. Output: they are on the disk, all of them or none, with the places of those that
//! want one; or an error.

use futures::future::BoxFuture;

use final_core::{Bus, Error, Message, OutboxDatabase, SqlBroker, broker::Place};

/// A place where messages are written.
pub(crate) trait Store: Send + Sync + 'static {
    /// Writes messages in one transaction. An error other than [`Error::CommitUnknown`] means that nothing is written.
    /// Ends within its own time limits.
    fn write<'a>(
        &'a self,
        messages: &'a [Message],
        wants_place: &'a [bool],
    ) -> BoxFuture<'a, Result<Vec<Option<Place>>, Error>>;
}

/// The log of a database.
pub(crate) struct LogStore<DB: OutboxDatabase>(pub(crate) SqlBroker<DB>);

impl<DB: OutboxDatabase> Store for LogStore<DB> {
    fn write<'a>(
        &'a self,
        messages: &'a [Message],
        wants_place: &'a [bool],
    ) -> BoxFuture<'a, Result<Vec<Option<Place>>, Error>> {
        let wants = |at: usize| wants_place.get(at).copied().unwrap_or_default();
        Box::pin(async move { self.0.publish(messages, wants).await })
    }
}

/// The outbox of the gateway. Its messages have no places.
pub(crate) struct OutboxStore<DB: OutboxDatabase>(pub(crate) Bus<DB>);

impl<DB: OutboxDatabase> Store for OutboxStore<DB> {
    fn write<'a>(
        &'a self,
        messages: &'a [Message],
        _: &'a [bool],
    ) -> BoxFuture<'a, Result<Vec<Option<Place>>, Error>> {
        Box::pin(async move {
            self.0.publish_all(messages.to_vec()).await?;
            Ok(vec![None; messages.len()])
        })
    }
}
