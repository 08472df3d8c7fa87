//! A message that is published without a transaction. It is committed when its publish returns Ok, also if the
//! pool lends a connection that does not commit by itself.
//!
//! Input: a staged message. Output: it is committed and handed over; or an error; or [`Error::CommitUnknown`]
//! if the answer was lost.
//!
//! ```text
//!   the pool's connection
//!     ├─ its INSERT can tell ────┬─ it is its own commit ──────────────▶ handed over
//!     │                          └─ it would not be: nothing is written ─┐
//!     └─ no INSERT can tell ─────┬─ INSERT and COMMIT in a transaction ──┼─▶ handed over
//!                                └─ a transaction is open already ───────┤
//!                                                                        ▼
//!              a connection of our own pool ─ INSERT and COMMIT in a transaction ─▶ handed over
//! ```
//!
//! A transaction that was left open on a connection of the pool is neither committed nor rolled back here.

use std::sync::{Arc, atomic::Ordering};

use sqlx::Transaction;

use super::{
    Inner,
    write::{Open, is_connection_lost},
};
use crate::{
    Error, OutboxDatabase,
    broker::{Staged, Staging},
    database::{
        Lone,
        writers::{Turn, Writing},
    },
    outbox::LoneEarly,
    relay::Reserved,
    runtime::finishing::Finishing,
};

impl<DB: OutboxDatabase> Inner<DB> {
    /// Writes one message, commits it, and hands it over.
    pub(crate) async fn insert_alone(self: &Arc<Self>, staged: Staged) -> Result<(), Error> {
        let ids = vec![staged.message.id()];
        let inner = Arc::clone(self);
        let underway = self.writes.token();
        // Before the work, so that a caller who gives up leaves the line.
        let mut lone = self.outbox.lone_early();
        let turn = self.outbox.writers().callers_turn(&mut lone).await;
        let written = Finishing::new(async move {
            let _underway = underway;
            inner.insert_alone_here(staged, turn, lone).await
        })
        .await;
        written.unwrap_or(Err(Error::CommitUnknown { ids }))
    }

    async fn insert_alone_here(
        &self,
        staged: Staged,
        turn: Turn,
        lone: LoneEarly<DB>,
    ) -> Result<(), Error> {
        match self.outbox.lone(lone).await? {
            Lone::Connection(mut conn) => match self.insert_on(&mut conn, &staged).await {
                Ok(true) => return Ok(()),
                Ok(false) => drop(conn),
                Err(error) => {
                    // The pool would lend it again for up to half an hour. The next one may reach the new server.
                    if is_of_no_use::<DB>(&error) {
                        conn.close_on_drop();
                    }
                    return Err(error);
                }
            },
            Lone::Transaction(tx) => {
                return self.insert_and_commit(tx, turn.begun(), staged).await;
            }
            Lone::Taken => drop(turn),
        }
        self.insert_elsewhere(staged).await
    }

    /// Writes by one statement that commits by itself. False, and nothing is written, if it would not.
    async fn insert_on(&self, conn: &mut DB::Connection, staged: &Staged) -> Result<bool, Error> {
        if let Some(staging) = &self.staging {
            return Self::stage_on(&**staging, conn, staged).await;
        }
        let staged = std::slice::from_ref(staged);
        let relay = self.running().map(|running| Arc::clone(&running.relay));
        let reserved = relay
            .as_ref()
            .map_or_else(|| Reserved::none(staged), |relay| relay.reserve(staged));
        let [record] = &reserved.records[..] else {
            return Ok(false);
        };
        match self.outbox.insert_alone(conn, record).await {
            Ok(false) => Ok(false),
            Ok(true) => {
                if let Some(relay) = relay {
                    relay.hand_over(reserved);
                }
                Ok(true)
            }
            // The statement commits by itself, so after a lost answer it is unknown whether it did.
            Err(source) if is_connection_lost(&source) => {
                drop(reserved);
                Err(self.unknown(relay, staged, &source))
            }
            Err(error) => Err(self.outbox.explain(error, "writing messages to the outbox")),
        }
    }

    /// The same, straight into the broker's tables.
    async fn stage_on(
        staging: &dyn Staging<DB>,
        conn: &mut DB::Connection,
        staged: &Staged,
    ) -> Result<bool, Error> {
        let written = staging.stage_alone(conn, staged).await;
        staging.committed();
        written.map_err(|error| match error {
            Error::Database { source, .. } if is_connection_lost(&source) => Error::CommitUnknown {
                ids: vec![staged.message.id()],
            },
            error => error,
        })
    }

    /// Writes on a connection of the bus's own pool, whose session no other code has changed.
    async fn insert_elsewhere(&self, staged: Staged) -> Result<(), Error> {
        let (tx, writing) = self.outbox.begin_elsewhere().await?;
        if !self.told_of_open.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                target: "final::publish",
                service = self.name,
                "the pool lent a connection that has a transaction open or does not commit by itself; \
                 messages are then written on a connection of the bus's own, which takes longer. \
                 Look for a BEGIN without an end, a hook of the pool, or `autocommit = 0`. \
                 This is logged once"
            );
        }
        self.insert_and_commit(tx, writing, staged).await
    }

    async fn insert_and_commit(
        &self,
        tx: Transaction<'static, DB>,
        writing: Writing,
        staged: Staged,
    ) -> Result<(), Error> {
        let staged = vec![staged];
        self.commit_here(Open {
            tx,
            staged,
            flushed: false,
            writing,
        })
        .await
    }
}

/// Whether the error says that the connection's server takes no writes.
fn is_of_no_use<DB: OutboxDatabase>(error: &Error) -> bool {
    matches!(error, Error::Database { source, .. } if DB::must_reconnect(source))
}
