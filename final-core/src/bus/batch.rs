//! Messages of other programs, published together: a gateway or an import has them with their ids and content types.
//!
//! Input: messages. Output: they are committed together on a connection of the bus's own and handed over; or an error,
//! and nothing is written; or [`Error::CommitUnknown`].

use std::sync::Arc;

use super::{Bus, Inner};
use crate::{
    Error, Message, OutboxDatabase,
    broker::Staged,
    database::refused::{is_victim, roll_back},
    runtime::finishing::Finishing,
};

/// How often a transaction is sent again that the server has chosen to end, because it and others waited for each
/// other.
const AGAIN: u32 = 4;

impl<DB: OutboxDatabase> Bus<DB> {
    /// Publishes messages as they are, in one transaction of the bus's own: all of them or none, in their order. They
    /// keep their ids, keys, headers and content types. When this returns they are on the disk, also where
    /// `synchronous_commit` is off.
    ///
    /// For programs that publish messages of others. A service publishes by [`publish`](Self::publish), or in a
    /// [`transaction`](Self::transaction). The telemetry of the bus does not see these messages.
    ///
    /// # Errors
    ///
    /// Fails for a message that the bus could not publish itself, see [`Message::check`], and if the database does;
    /// nothing is written then. [`Error::CommitUnknown`] if the answer to the COMMIT was lost.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the work: the messages may be published.
    pub async fn publish_all(&self, messages: Vec<Message>) -> Result<(), Error> {
        let inner = Arc::clone(&self.inner);
        inner.service()?;
        for message in &messages {
            message.check(inner.options.max_message_bytes)?;
        }
        let ids = messages.iter().map(Message::id).collect();
        let underway = inner.writes.token();
        let written = Finishing::new(async move {
            let _underway = underway;
            let staged: Vec<Staged> = messages.into_iter().map(Staged::new).collect();
            inner.publish_batch(&staged).await
        })
        .await;
        // Without a result the driver panicked, and the COMMIT may have taken place.
        written.unwrap_or(Err(Error::CommitUnknown { ids }))
    }
}

impl<DB: OutboxDatabase> Inner<DB> {
    async fn publish_batch(&self, staged: &[Staged]) -> Result<(), Error> {
        if staged.is_empty() {
            return Ok(());
        }
        let mut tries = 0;
        loop {
            match self.publish_batch_once(staged).await {
                Err(Error::Database { source, .. })
                    if tries < AGAIN && is_victim::<DB>(&source) => {}
                published => return published,
            }
            tries += 1;
        }
    }

    async fn publish_batch_once(&self, staged: &[Staged]) -> Result<(), Error> {
        let (mut tx, writing) = self.outbox.begin_durably().await?;
        let relay = self.running().map(|running| Arc::clone(&running.relay));
        let write = async {
            match self.write(&mut tx, relay.as_deref(), staged).await {
                Err(Error::Database { source, .. }) => Err(source),
                written => Ok(written),
            }
        };
        let written = match self.outbox.in_time(write).await {
            Ok(written) => written,
            Err(source) => Err(Error::Database {
                doing: "writing messages",
                source,
            }),
        };
        let reserved = match written {
            Ok(reserved) => reserved,
            Err(error) => {
                let _ = self.outbox.in_time(roll_back(tx)).await;
                return Err(error);
            }
        };
        let committed = self.outbox.in_time(tx.commit()).await;
        drop(writing);
        match committed {
            Ok(()) => {}
            Err(source) if self.outbox.is_surely_rolled_back(&source) => {
                return Err(Error::Database {
                    doing: "committing",
                    source,
                });
            }
            Err(error) => {
                drop(reserved);
                return Err(self.unknown(relay, staged, &error));
            }
        }
        self.tell_committed();
        if let Some(relay) = relay {
            relay.hand_over(reserved);
        }
        Ok(())
    }
}
