//! Publishing outside a transaction, or into a transaction that is only borrowed.
//!
//! Input: a topic, a payload, and the policy that the builder sets. Output: the message's id, once the message
//! is committed; for a borrowed transaction once it is written; with `confirm(false)` once it is handed to the
//! broker.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
};

use bytes::Bytes;

use super::{
    Bus, Inner, Phase,
    policy::{Draft, policy_setters},
};
use crate::{Error, MessageId, OutboxDatabase, payload::IntoPayload};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl<DB: OutboxDatabase> Bus<DB> {
    /// Publishes a message on its own: one INSERT into the outbox that is its own commit.
    ///
    /// Ok means committed, also where the pool lends a connection that has a transaction open or does not
    /// commit by itself: the message is then written on a connection of the bus's own, and what is open
    /// stays as it is.
    ///
    /// The payload is `&T` (msgpack, with field names), [`Json`](crate::Json)`(&t)` or
    /// [`Bytes`]. Await the builder to publish; it gives the message's id, and the
    /// message is then as safe as the database keeps it.
    ///
    /// # Errors
    ///
    /// Fails if the topic, a header, the size or the policy is refused, or the database fails.
    /// [`Error::Encode`] if no handler could read the payload ([`IntoPayload`] tells what).
    /// [`Error::CommitUnknown`] if the connection was lost after the INSERT had been sent, and
    /// [`Error::OpenTransaction`] if a SQLite database in memory has a transaction open.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future after its first poll does not take the message back: it is published or
    /// not, as if the call had been a little earlier or later.
    pub fn publish(&self, topic: impl AsRef<str>, payload: impl IntoPayload) -> Publish<DB> {
        Publish {
            inner: Arc::clone(&self.inner),
            draft: Draft::new(topic, payload),
        }
    }

    /// Publishes bytes as they are. Otherwise like [`publish`](Self::publish).
    pub fn publish_bytes(&self, topic: impl AsRef<str>, payload: impl Into<Bytes>) -> Publish<DB> {
        self.publish(topic, payload.into())
    }

    /// Writes a message at once into a transaction that other code commits.
    ///
    /// After their COMMIT the message is found by the next scan; [`wake`](Self::wake) makes that
    /// soon.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish). After an error the transaction should be rolled back.
    ///
    /// # Cancel safety
    ///
    /// As sqlx: a dropped statement leaves the connection busy until it is finished or closed.
    pub fn publish_in<'c>(
        &self,
        conn: &'c mut DB::Connection,
        topic: impl AsRef<str>,
        payload: impl IntoPayload,
    ) -> PublishIn<'c, DB> {
        PublishIn {
            inner: Arc::clone(&self.inner),
            conn,
            draft: Draft::new(topic, payload),
        }
    }
}

/// A message to be published; made by [`Bus::publish`].
#[must_use = "nothing is published until this is awaited"]
pub struct Publish<DB: OutboxDatabase> {
    inner: Arc<Inner<DB>>,
    draft: Draft,
}

impl<DB: OutboxDatabase> Publish<DB> {
    policy_setters!(draft);

    /// Sets whether the message goes through the outbox and waits for the broker's confirm; true
    /// otherwise.
    ///
    /// With `false` it is handed to the broker at once and forgotten: it can be lost. Not with a
    /// delay, and refused while the broker is away or the window is full.
    pub fn confirm(mut self, confirm: bool) -> Self {
        self.draft.policy.unconfirmed = !confirm;
        self
    }
}

impl<DB: OutboxDatabase> IntoFuture for Publish<DB> {
    type Output = Result<MessageId, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { inner, mut draft } = self;
        draft.inject(&inner.hook);
        Box::pin(async move {
            inner.service()?;
            let unconfirmed = draft.policy.unconfirmed;
            let staged = draft.check(&inner.options)?;
            let id = staged.message.id();
            if unconfirmed {
                let running = inner.running().ok_or_else(|| inner.not_running())?;
                if !running.relay.send_unconfirmed(staged) {
                    return Err(Error::NotSent);
                }
            } else {
                inner.insert_alone(staged).await?;
            }
            Ok(id)
        })
    }
}

/// A message to be written into a borrowed transaction; made by [`Bus::publish_in`].
#[must_use = "nothing is published until this is awaited"]
pub struct PublishIn<'c, DB: OutboxDatabase> {
    inner: Arc<Inner<DB>>,
    conn: &'c mut DB::Connection,
    draft: Draft,
}

impl<DB: OutboxDatabase> PublishIn<'_, DB> {
    policy_setters!(draft);
}

impl<'c, DB: OutboxDatabase> IntoFuture for PublishIn<'c, DB> {
    type Output = Result<MessageId, Error>;
    type IntoFuture = BoxFuture<'c, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self {
            inner,
            conn,
            mut draft,
        } = self;
        draft.inject(&inner.hook);
        Box::pin(async move {
            inner.service()?;
            let staged = draft.check(&inner.options)?;
            let id = staged.message.id();
            // Not leased: the bus does not learn when, or whether, the owner commits.
            inner.write_unreserved(conn, &[staged]).await?;
            Ok(id)
        })
    }
}

impl<DB: OutboxDatabase> Inner<DB> {
    fn not_running(&self) -> Error {
        match self.phase() {
            Phase::Stopping | Phase::Stopped => Error::ShutDown,
            Phase::New | Phase::Starting | Phase::Running => Error::NotStarted,
        }
    }
}

impl<DB: OutboxDatabase> fmt::Debug for Publish<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish")
            .field("topic", &self.draft.topic)
            .finish_non_exhaustive()
    }
}

impl<DB: OutboxDatabase> fmt::Debug for PublishIn<'_, DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishIn")
            .field("topic", &self.draft.topic)
            .finish_non_exhaustive()
    }
}
