//! Messages of a source that is no bus: another queue that is moved into the log, an import.
//!
//! Input: a service, its topics, messages, a transaction of the caller's. Output: a group that gets messages from now
//! on; rows of the log for that group alone.

use std::sync::Arc;

use super::SqlBroker;
use crate::{
    Error, Message, OutboxDatabase,
    broker::Place,
    log::tuning::StartFrom,
    names::{ServiceName, check_subscription, check_topic},
};

impl<DB: OutboxDatabase> SqlBroker<DB> {
    /// Subscribes topics for a service that does not run yet. It gets what is published from now on, and the log keeps
    /// that for it. Of a topic that nobody has subscribed before, it also gets everything that waits. Topics that it has subscribed already stay as they are.
    ///
    /// # Errors
    ///
    /// Fails for a name that is not valid, and if the database does or the tables are missing.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether the topics were subscribed. Calling it again makes sure.
    pub async fn subscribe<T: AsRef<str> + Sync>(
        &self,
        service: &str,
        topics: &[T],
    ) -> Result<(), Error> {
        let service = ServiceName::new(service)?;
        let topics: Vec<Arc<str>> = topics.iter().map(|topic| topic.as_ref().into()).collect();
        topics
            .iter()
            .try_for_each(|topic| check_subscription(topic))?;
        self.log
            .subscribe(service.as_str(), &topics, StartFrom::New)
            .await
            .map_err(Error::database("subscribing topics of the log"))
    }

    /// Writes messages into the caller's transaction, in their order. Every service that has subscribed their topics
    /// gets them after the COMMIT.
    ///
    /// Call [`committed`](Self::committed) after the COMMIT, so that services of this process get them at once.
    ///
    /// The id of a message need not be new: consumers that keep ids drop repeats.
    ///
    /// ```no_run
    /// # async fn bring(pool: sqlx::SqlitePool) -> Result<(), final_core::BoxError> {
    /// use final_core::{Message, SqlBroker};
    ///
    /// let log = SqlBroker::new(pool.clone());
    /// let mut tx = pool.begin().await?;
    /// log.append(&mut tx, &[Message::new("order.placed", "payload")]).await?;
    /// tx.commit().await?;
    /// log.committed();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Fails for a message that no bus could publish ([`Message::check`], whatever its size), if the database does, or
    /// the tables are missing. If the database has failed, the transaction is of no more use.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves some messages written and some not. Roll the transaction back.
    pub async fn append(
        &self,
        conn: &mut DB::Connection,
        messages: &[Message],
    ) -> Result<(), Error> {
        check(messages)?;
        self.log.append_messages(conn, messages).await
    }

    /// The same as [`append`](Self::append). Returns where each message stands, in their order.
    ///
    /// On MySQL, which has no `RETURNING`, each message takes two statements of its own.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    ///
    /// # Cancel safety
    ///
    /// As [`append`](Self::append).
    pub async fn append_placed(
        &self,
        conn: &mut DB::Connection,
        messages: &[Message],
    ) -> Result<Vec<Place>, Error> {
        check(messages)?;
        self.log.append_placed(conn, messages).await
    }

    /// Says that a transaction with appended messages may have committed: wakes the services of this process at once.
    /// Another process hears of it where the database tells, and if a link of this broker is open here; else it finds
    /// the messages within its `poll_interval`. Does not block.
    pub fn committed(&self) {
        self.wakeups.committed();
    }

    /// Publishes messages in a transaction of the log's own, in their order: all of them or none. They are on the disk
    /// when this returns, also where `synchronous_commit` is off. Returns where those messages stand for whose place
    /// in the list `wants_place` says so.
    ///
    /// A transaction that the server ends because of a deadlock is sent again. Each statement has 15 s.
    ///
    /// # Errors
    ///
    /// Fails as [`append`](Self::append) does, and nothing is written then. [`Error::CommitUnknown`] if the answer to
    /// the COMMIT was lost; it is not looked up later.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether the messages were published.
    pub async fn publish(
        &self,
        messages: &[Message],
        wants_place: impl Fn(usize) -> bool + Sync,
    ) -> Result<Vec<Option<Place>>, Error> {
        check(messages)?;
        let places = self.log.publish(messages, &wants_place).await;
        // Also after an error: the COMMIT may have taken place.
        self.wakeups.committed();
        places
    }

    /// Writes messages for one service alone into the caller's transaction, in their order. Other services of the topic
    /// do not get them.
    ///
    /// The service has to be [subscribed](Self::subscribe) before. A running one finds the messages after the COMMIT,
    /// at the latest after its `poll_interval`.
    ///
    /// ```no_run
    /// # async fn bring(pool: sqlx::SqlitePool) -> Result<(), final_core::BoxError> {
    /// use final_core::{Message, MessageId, SqlBroker};
    ///
    /// let log = SqlBroker::new(pool.clone());
    /// log.subscribe("billing", &["order.placed"]).await?;
    ///
    /// let mut tx = pool.begin().await?;
    /// // The same id each time row 17 is brought, so that a handler can tell a repeat.
    /// let id = MessageId::foreign("17", "orders", "old queue").ok_or("no id")?;
    /// let message = Message::identified(id, "order.placed", "payload");
    /// log.append_for(&mut tx, "billing", &[message]).await?;
    /// sqlx::query("UPDATE old_queue SET position = 17").execute(&mut *tx).await?;
    /// tx.commit().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Fails for a name or a topic that is not valid, if the database does, or the tables are missing. The transaction
    /// is then of no more use.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves some messages written and some not. Roll the transaction back.
    pub async fn append_for(
        &self,
        conn: &mut DB::Connection,
        service: &str,
        messages: &[Message],
    ) -> Result<(), Error> {
        let service = ServiceName::new(service)?;
        messages
            .iter()
            .try_for_each(|message| check_topic(message.topic()))?;
        self.log.append_for(conn, service.as_str(), messages).await
    }
}

fn check(messages: &[Message]) -> Result<(), Error> {
    messages
        .iter()
        .try_for_each(|message| message.check(usize::MAX))
}
