//! Messages that a broker takes inside the caller's own transaction.
//!
//! Input: a [`StagingRequest`], which the bus makes once; then messages and a connection of the caller's.
//! Output: a broker that can do it answers with its [`Staging`], which writes the messages into the broker's
//! tables.
//!
//! A broker whose tables are in the service's database needs no outbox: its INSERT is part of the transaction,
//! so the message is there if, and only if, the transaction commits.

use std::{any::Any, fmt, sync::Arc};

use futures::future::BoxFuture;
use sqlx::Pool;

use super::Staged;
use crate::{Error, OutboxDatabase};

/// Writes messages into a broker's tables, inside transactions on a service's database.
pub trait Staging<DB: OutboxDatabase>: Send + Sync + 'static {
    /// Writes the messages inside the caller's transaction.
    ///
    /// The bus then writes no outbox record, and calls [`committed`](Self::committed) after the COMMIT.
    ///
    /// # Errors
    ///
    /// Fails if the database does. The bus then rolls back, or leaves that to the caller.
    fn stage<'a>(
        &'a self,
        conn: &'a mut DB::Connection,
        messages: &'a [Staged],
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// Writes one message by a statement that is its own commit.
    ///
    /// `Ok(false)`, with nothing written, where the connection has a transaction open, does not commit
    /// by itself, or where the broker cannot tell, as by default. The bus then begins a transaction for
    /// the message.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    fn stage_alone<'a>(
        &'a self,
        _conn: &'a mut DB::Connection,
        _message: &'a Staged,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(std::future::ready(Ok(false)))
    }

    /// Says that a transaction with staged messages may have committed.
    ///
    /// Called after each COMMIT of the bus and by [`Bus::wake`](crate::Bus::wake). Must not block.
    fn committed(&self) {}
}

/// The question of a bus whether its broker can write inside the transactions of the bus's pool.
///
/// ```
/// # use std::sync::Arc;
/// # use final_core::{OutboxDatabase, broker::{Staging, StagingRequest}};
/// # fn ask<DB: OutboxDatabase>(tables: Arc<dyn Staging<DB>>, request: &mut StagingRequest<'_>) {
/// // In `Broker::staging` of a broker with tables in a database of type `DB`:
/// request.answer(|pool: &sqlx::Pool<DB>| {
///     // … look at the pool's options: is it the same database?
///     Some(tables)
/// });
/// # }
/// ```
pub struct StagingRequest<'a> {
    /// A `Pool<DB>`, for the `DB` of the bus.
    pool: &'a dyn Any,
    /// An `Arc<dyn Staging<DB>>`, for the same `DB`.
    answer: Option<Box<dyn Any>>,
}

impl<'a> StagingRequest<'a> {
    /// Asks a broker, for a bus on that pool.
    pub(crate) fn ask<DB: OutboxDatabase>(
        pool: &'a Pool<DB>,
        broker: &dyn super::Broker,
    ) -> Option<Arc<dyn Staging<DB>>> {
        let mut request = Self { pool, answer: None };
        broker.staging(&mut request);
        let answer = request.answer?.downcast::<Arc<dyn Staging<DB>>>();
        answer.ok().map(|staging| *staging)
    }

    /// Answers, if the bus's database is of type `DB`.
    ///
    /// `staging` is given the bus's pool, and returns `None` if the broker's tables are in another
    /// database. A broker for several types of databases calls this once for each.
    pub fn answer<DB: OutboxDatabase>(
        &mut self,
        staging: impl FnOnce(&Pool<DB>) -> Option<Arc<dyn Staging<DB>>>,
    ) {
        if let Some(pool) = self.pool.downcast_ref()
            && let Some(staging) = staging(pool)
        {
            self.answer = Some(Box::new(staging));
        }
    }
}

impl fmt::Debug for StagingRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StagingRequest")
            .field("answered", &self.answer.is_some())
            .finish_non_exhaustive()
    }
}
