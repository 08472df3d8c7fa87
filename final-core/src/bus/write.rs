//! Writing to the outbox: the INSERT, the COMMIT, and the hand-over after it.
//!
//! Input: a transaction and the messages staged in it. Output: committed and handed over, rolled back, or
//! [`Error::CommitUnknown`] and a look at the table later.
//!
//! From the last INSERT on, the work goes on also if its caller drops the future. Otherwise a caller that
//! drops it in the middle of a COMMIT, such as a request whose client went away, would leave messages that are
//! committed and that no task knows of.

use std::sync::Arc;

use sqlx::Transaction;

use super::Inner;
use crate::{
    Error, MessageId, OutboxDatabase,
    broker::Staged,
    database::writers::Writing,
    failpoint::{Failpoint, pass},
    relay::{Relay, Reserved},
    runtime::finishing::Finishing,
};

/// A transaction and what is still to be written into it.
pub(crate) struct Open<DB: OutboxDatabase> {
    pub(crate) tx: Transaction<'static, DB>,
    pub(crate) staged: Vec<Staged>,
    /// Whether messages were written by an early flush. They are not leased, so only a scan sends them: only
    /// the table knows whether the COMMIT committed them.
    pub(crate) flushed: bool,
    /// After the transaction, so that the next writer is told when the transaction has ended.
    pub(crate) writing: Writing,
}

impl<DB: OutboxDatabase> Open<DB> {
    pub(super) fn new(tx: Transaction<'static, DB>, writing: Writing) -> Self {
        Self {
            tx,
            staged: Vec::new(),
            flushed: false,
            writing,
        }
    }
}

impl<DB: OutboxDatabase> Inner<DB> {
    /// Writes the staged messages, commits, and hands them over.
    pub(crate) async fn commit(self: &Arc<Self>, open: Open<DB>) -> Result<(), Error> {
        let ids = ids(&open.staged);
        let inner = Arc::clone(self);
        let underway = self.writes.token();
        let written = Finishing::new(async move {
            let _underway = underway;
            inner.commit_here(open).await
        })
        .await;
        // Without a result the driver panicked, and the COMMIT may have taken place.
        written.unwrap_or(Err(Error::CommitUnknown { ids }))
    }

    /// Rolls back, and waits for it.
    ///
    /// A failure is only logged: the database rolls back by itself when the connection is gone.
    pub(crate) async fn roll_back(self: &Arc<Self>, open: Open<DB>) {
        let service = self.name.clone();
        let underway = self.writes.token();
        let rolled_back = Finishing::new(async move {
            let _underway = underway;
            let Open { tx, writing, .. } = open;
            let rolled_back = tx.rollback().await;
            drop(writing);
            if let Err(error) = rolled_back {
                tracing::debug!(
                    target: "final::publish", service, %error,
                    "a rollback failed; the connection is closed instead"
                );
            }
        });
        let _ = rolled_back.await;
    }

    pub(super) async fn commit_here(&self, open: Open<DB>) -> Result<(), Error> {
        let Open {
            mut tx,
            staged,
            flushed,
            writing,
        } = open;
        let relay = self.running().map(|running| Arc::clone(&running.relay));
        let written = match staged.is_empty() {
            true => self.confirm_open(&mut tx, flushed).await,
            false => {
                self.write_patiently(&mut tx, relay.as_deref(), &staged)
                    .await
            }
        };
        let reserved = match written {
            Ok(reserved) => reserved,
            Err(error) => {
                let _ = tx.rollback().await;
                return Err(error);
            }
        };
        pass(Failpoint::AfterInsert);
        let committed = tx.commit().await;
        drop(writing);
        if let Err(error) = committed {
            if self.outbox.is_surely_rolled_back(&error) {
                return Err(Error::Database {
                    doing: "committing",
                    source: error,
                });
            }
            drop(reserved);
            return Err(self.unknown(relay, &staged, &error));
        }
        pass(Failpoint::AfterCommit);
        self.tell_committed();
        if let Some(relay) = relay {
            relay.hand_over(reserved);
            if flushed {
                relay.ring();
            }
        }
        Ok(())
    }

    /// Writes into a transaction that may not have SQLite's lock yet: it was begun deferred, or is a message's own.
    async fn write_patiently<'a>(
        &self,
        conn: &mut DB::Connection,
        relay: Option<&Relay<DB>>,
        staged: &'a [Staged],
    ) -> Result<Reserved<'a>, Error> {
        let asking = self.outbox.writers().asking();
        loop {
            match self.write(conn, relay, staged).await {
                Err(Error::Database { source, .. }) if asking.again::<DB>(&source).await => {}
                written => return written,
            }
        }
    }

    /// Asks whether the transaction is still open. With staged messages, their INSERT tells that.
    async fn confirm_open(
        &self,
        conn: &mut DB::Connection,
        flushed: bool,
    ) -> Result<Reserved<'static>, Error> {
        match self.outbox.is_open(conn, flushed).await? {
            true => Ok(Reserved::none(&[])),
            false => Err(Error::NotInTransaction),
        }
    }

    /// Writes messages into a transaction: into the broker's tables if they are in this database, else into
    /// the outbox. With a relay, slots are reserved for what it can send right after the COMMIT.
    pub(super) async fn write<'a>(
        &self,
        conn: &mut DB::Connection,
        relay: Option<&Relay<DB>>,
        staged: &'a [Staged],
    ) -> Result<Reserved<'a>, Error> {
        if let Some(staging) = &self.staging {
            staging.stage(conn, staged).await?;
            return Ok(Reserved::none(&[]));
        }
        let reserved = relay.map_or_else(|| Reserved::none(staged), |relay| relay.reserve(staged));
        self.outbox.insert(conn, &reserved.records).await?;
        Ok(reserved)
    }

    /// Writes messages into a transaction whose COMMIT this bus does not see, so they are not leased.
    pub(crate) async fn write_unreserved(
        &self,
        conn: &mut DB::Connection,
        staged: &[Staged],
    ) -> Result<(), Error> {
        self.write(conn, None, staged).await.map(drop)
    }

    /// Tells the broker that messages in its tables may have been committed.
    pub(super) fn tell_committed(&self) {
        if let Some(staging) = &self.staging {
            staging.committed();
        }
    }

    /// The error of a COMMIT without an answer. The messages may be committed, so the relay looks them up in
    /// the table as soon as the database answers.
    pub(super) fn unknown(
        &self,
        relay: Option<Arc<Relay<DB>>>,
        staged: &[Staged],
        error: &sqlx::Error,
    ) -> Error {
        let ids = ids(staged);
        tracing::warn!(
            target: "final::publish",
            service = self.name, messages = ids.len(), %error,
            "the database did not answer COMMIT; the records are looked up when it answers again"
        );
        if let Some(relay) = relay {
            let records = staged.iter().map(|staged| staged.record).collect();
            self.writes
                .spawn(async move { relay.look_up(records).await });
        }
        Error::CommitUnknown { ids }
    }
}

fn ids(staged: &[Staged]) -> Vec<MessageId> {
    staged.iter().map(|staged| staged.message.id()).collect()
}

/// Whether the connection was lost, so that the statement may have taken place.
pub(super) fn is_connection_lost(error: &sqlx::Error) -> bool {
    !matches!(
        error,
        sqlx::Error::Database(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Encode(_)
            | sqlx::Error::Configuration(_)
            | sqlx::Error::ColumnNotFound(_)
    )
}
