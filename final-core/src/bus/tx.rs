//! A transaction that can publish.
//!
//! Input: the caller's transaction; then SQL and messages. State: [`TxBus`], with the transaction and the
//! staged messages. Output: it ends in [`write`](super::write), by `commit`, or when the closure of
//! [`Bus::transaction`] returns.

use std::{
    fmt,
    future::{IntoFuture, Ready, ready},
    marker::PhantomData,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use sqlx::Transaction;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{
    Bus, Inner,
    policy::{Draft, policy_setters},
    write::Open,
};
use crate::{Error, MessageId, OutboxDatabase, broker::Staged, payload::IntoPayload};

/// Marks a [`TxBus`] whose transaction is ended by [`Bus::transaction`].
#[derive(Debug)]
pub enum InClosure {}

/// Marks a [`TxBus`] whose owner ends the transaction: [`TxBus::commit`] or [`TxBus::rollback`].
#[derive(Debug)]
pub enum ByHand {}

/// A transaction that [`Bus::transaction`] has lent to its closure. When the closure's handle is dropped,
/// `Bus::transaction` is the only owner again.
pub(super) type Lent<DB> = Arc<Mutex<Open<DB>>>;

/// The transaction of a handle.
enum Held<DB: OutboxDatabase> {
    Owned(Open<DB>),
    /// Only this handle locks it.
    Borrowed(OwnedMutexGuard<Open<DB>>),
}

/// The caller's transaction, and the messages that belong to it.
///
/// SQL runs on [`conn`](Self::conn). [`publish`](Self::publish) keeps messages in memory; they are
/// written just before the COMMIT, in one INSERT unless there are many.
///
/// After a `ROLLBACK TO SAVEPOINT` of your own the messages published since the savepoint are still
/// staged: publish after the part that may be rolled back.
///
/// ```text
///   open ── closure returns Ok, or commit() ──▶ INSERT, COMMIT, hand over
///    ├── closure returns Err, or rollback() ──▶ rolled back
///    └── dropped ─────────────────────────────▶ rolled back
/// ```
pub struct TxBus<DB: OutboxDatabase, M = InClosure> {
    inner: Arc<Inner<DB>>,
    tx: Held<DB>,
    mode: PhantomData<fn() -> M>,
}

impl<DB: OutboxDatabase> Bus<DB> {
    /// Makes a transaction able to publish, where a closure cannot be used.
    ///
    /// End it with [`TxBus::commit`] or [`TxBus::rollback`]. Dropped, it is rolled back.
    pub fn with_tx(&self, tx: Transaction<'static, DB>) -> TxBus<DB, ByHand> {
        let open = Open::new(tx, self.inner.outbox.writers().take_over());
        TxBus::new(&self.inner, Held::Owned(open))
    }
}

impl<DB: OutboxDatabase, M> TxBus<DB, M> {
    fn new(inner: &Arc<Inner<DB>>, tx: Held<DB>) -> Self {
        Self {
            inner: Arc::clone(inner),
            tx,
            mode: PhantomData,
        }
    }

    /// The connection of the transaction, for the caller's SQL.
    pub fn conn(&mut self) -> &mut DB::Connection {
        &mut self.open_mut().tx
    }

    /// Publishes a message when, and only when, the transaction commits.
    ///
    /// It is staged in memory when the builder is awaited, and written with the others just before
    /// the COMMIT; [`flush`](Self::flush) writes earlier.
    ///
    /// # Errors
    ///
    /// Fails if the topic, a header, the size or the policy is refused. The transaction stays as it
    /// is.
    ///
    /// # Cancel safety
    ///
    /// The builder is ready at once: there is no await in it.
    pub fn publish(
        &mut self,
        topic: impl AsRef<str>,
        payload: impl IntoPayload,
    ) -> TxPublish<'_, DB> {
        let draft = Draft::new(topic, payload);
        let inner = Arc::clone(&self.inner);
        TxPublish {
            inner,
            staged: &mut self.open_mut().staged,
            draft,
        }
    }

    /// Publishes bytes as they are. Otherwise like [`publish`](Self::publish).
    pub fn publish_bytes(
        &mut self,
        topic: impl AsRef<str>,
        payload: impl Into<bytes::Bytes>,
    ) -> TxPublish<'_, DB> {
        self.publish(topic, payload.into())
    }

    /// Writes what is staged now, for an early error.
    ///
    /// Messages written early are sent by the next scan after the COMMIT and not handed over: a
    /// COMMIT can end in a rollback that the driver does not report, and only the table knows.
    ///
    /// # Errors
    ///
    /// Fails if the database does. What was staged stays staged.
    ///
    /// # Cancel safety
    ///
    /// As sqlx: dropped in the middle, the statement may or may not have taken place. Roll back.
    pub async fn flush(&mut self) -> Result<(), Error> {
        let inner = Arc::clone(&self.inner);
        let open = self.open_mut();
        if !open.staged.is_empty() {
            inner.write_unreserved(&mut open.tx, &open.staged).await?;
            open.staged.clear();
            open.flushed = true;
        }
        Ok(())
    }

    fn open(&self) -> &Open<DB> {
        match &self.tx {
            Held::Owned(open) => open,
            Held::Borrowed(open) => open,
        }
    }

    fn open_mut(&mut self) -> &mut Open<DB> {
        match &mut self.tx {
            Held::Owned(open) => open,
            Held::Borrowed(open) => open,
        }
    }
}

impl<DB: OutboxDatabase> TxBus<DB> {
    /// A handle for a closure, and the transaction that it borrows.
    pub(super) async fn lend(
        inner: &Arc<Inner<DB>>,
        tx: Transaction<'static, DB>,
    ) -> (Self, Lent<DB>) {
        let open = Open::new(tx, inner.outbox.writers().take_over());
        let lent = Arc::new(Mutex::new(open));
        let borrowed = Held::Borrowed(Arc::clone(&lent).lock_owned().await);
        (Self::new(inner, borrowed), lent)
    }
}

impl<DB: OutboxDatabase> TxBus<DB, ByHand> {
    /// Writes what is staged, commits, and hands the messages over.
    ///
    /// # Errors
    ///
    /// If the INSERT fails, the transaction is rolled back. [`Error::CommitUnknown`] if the
    /// database did not answer COMMIT. On PostgreSQL also if an error before, which was not returned,
    /// has made COMMIT a rollback, and on MariaDB [`Error::NotInTransaction`] if what was flushed is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future after its first poll stops neither the commit nor the hand-over.
    pub async fn commit(self) -> Result<(), Error> {
        match self.tx {
            Held::Owned(open) => self.inner.commit(open).await,
            // Only a closure borrows, and its handle cannot be committed.
            Held::Borrowed(_) => Err(Error::Escaped),
        }
    }

    /// Rolls back. Nothing that was published here is sent.
    ///
    /// # Errors
    ///
    /// None today: if the rollback cannot be sent, the connection is closed, which rolls back too.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future after its first poll does not stop the rollback.
    pub async fn rollback(self) -> Result<(), Error> {
        if let Held::Owned(open) = self.tx {
            self.inner.roll_back(open).await;
        }
        Ok(())
    }
}

impl<DB: OutboxDatabase, M> Deref for TxBus<DB, M> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        &self.open().tx
    }
}

impl<DB: OutboxDatabase, M> DerefMut for TxBus<DB, M> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        self.conn()
    }
}

/// A message to be staged; made by [`TxBus::publish`].
#[must_use = "nothing is published until this is awaited"]
pub struct TxPublish<'a, DB: OutboxDatabase> {
    inner: Arc<Inner<DB>>,
    staged: &'a mut Vec<Staged>,
    draft: Draft,
}

impl<DB: OutboxDatabase> TxPublish<'_, DB> {
    policy_setters!(draft);
}

impl<DB: OutboxDatabase> IntoFuture for TxPublish<'_, DB> {
    type Output = Result<MessageId, Error>;
    type IntoFuture = Ready<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self {
            inner,
            staged,
            mut draft,
        } = self;
        draft.inject(&inner.hook);
        ready(
            inner
                .service()
                .and_then(|_| draft.check(&inner.options))
                .map(|message| {
                    let id = message.message.id();
                    staged.push(message);
                    id
                }),
        )
    }
}

impl<DB: OutboxDatabase, M> fmt::Debug for TxBus<DB, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxBus")
            .field("service", &self.inner.name)
            .field("staged", &self.open().staged.len())
            .finish_non_exhaustive()
    }
}

impl<DB: OutboxDatabase> fmt::Debug for TxPublish<'_, DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxPublish")
            .field("topic", &self.draft.topic)
            .finish_non_exhaustive()
    }
}
