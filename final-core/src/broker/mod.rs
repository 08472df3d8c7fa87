//! What a message broker must do for the bus.
//!
//! A [`Broker`] is how to reach one; a [`Link`] is the open connection of one running bus. The bus
//! hands it [`Outgoing`] messages and gets a [`Confirm`] for each; it gets [`Delivery`]s and gives
//! each a [`Settlement`]. Whoever writes a broker never sees the outbox: a record is settled by the
//! confirm of its own message and by nothing else.

mod confirm;
mod delivery;
mod error;
mod link;
mod memory;
mod outgoing;

use std::sync::Arc;

use futures::future::BoxFuture;
use sqlx::Pool;

pub(crate) use self::outgoing::Ticket;
pub use self::{
    confirm::Confirm,
    delivery::{DeadLetter, Delivery, Settlement, Settler},
    error::{BrokerError, BrokerErrorKind},
    link::{Link, LinkState, Opened, Setup},
    memory::{DeadMessage, MemoryBroker},
    outgoing::{Lane, Outgoing, Sending},
};
pub use crate::message::Staged;
use crate::{Error, OutboxDatabase};

/// A message broker, as [`Bus::new`](crate::Bus::new) takes it.
pub trait Broker<DB: OutboxDatabase>: Send + Sync + 'static {
    /// Connects, declares what the service needs, and starts to keep the link alive.
    ///
    /// A broker that cannot be reached is no error: the link then begins
    /// [`Away`](LinkState::Away) and keeps trying (unless `setup.purge` is set, which needs it).
    ///
    /// # Errors
    ///
    /// Fails if the broker can be reached and will never serve: refused login or virtual host, bad
    /// certificate, a queue of that name with other arguments.
    fn open(&self, setup: Setup) -> BoxFuture<'_, Result<Opened, BrokerError>>;

    /// Whether messages can be [staged](Self::stage) in transactions of that pool: the broker's tables
    /// are in its database. Asked once, and of no interest for a broker that stages nothing.
    fn lives_in(&self, _pool: &Pool<DB>) -> bool {
        true
    }

    /// Makes the broker's own tables in the database, if it has any.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    fn migrate(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// The statements [`migrate`](Self::migrate) runs, as SQL text; empty if there are none.
    fn migration_sql(&self) -> String {
        String::new()
    }

    /// Writes the messages into the broker's own tables, inside the caller's transaction.
    ///
    /// For a broker that [lives](Self::lives_in) in the same database. The bus then writes no outbox
    /// record, and calls [`committed`](Self::committed) after the COMMIT. The default `None` means:
    /// through the outbox.
    fn stage<'a>(
        &'a self,
        _conn: &'a mut DB::Connection,
        _messages: &'a [Staged],
    ) -> Option<BoxFuture<'a, Result<(), Error>>> {
        None
    }

    /// The same for one message by a statement that is its own commit.
    ///
    /// False, and nothing is written, where the connection has a transaction open or does not commit
    /// by itself, or where that cannot be told, as by default. The bus then begins a transaction for it.
    fn stage_alone<'a>(
        &'a self,
        conn: &'a mut DB::Connection,
        message: &'a Staged,
    ) -> Option<BoxFuture<'a, Result<bool, Error>>> {
        // Not polled: it only tells whether this broker stages.
        let _stages = self.stage(conn, std::slice::from_ref(message))?;
        Some(Box::pin(std::future::ready(Ok(false))))
    }

    /// Says that a transaction in which messages were [staged](Self::stage) has committed.
    fn committed(&self) {}
}

/// A broker can be shared by several buses of one process.
impl<DB: OutboxDatabase, B: Broker<DB>> Broker<DB> for Arc<B> {
    fn open(&self, setup: Setup) -> BoxFuture<'_, Result<Opened, BrokerError>> {
        self.as_ref().open(setup)
    }

    fn lives_in(&self, pool: &Pool<DB>) -> bool {
        self.as_ref().lives_in(pool)
    }

    fn migrate(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.as_ref().migrate()
    }

    fn migration_sql(&self) -> String {
        self.as_ref().migration_sql()
    }

    fn stage<'a>(
        &'a self,
        conn: &'a mut DB::Connection,
        messages: &'a [Staged],
    ) -> Option<BoxFuture<'a, Result<(), Error>>> {
        self.as_ref().stage(conn, messages)
    }

    fn stage_alone<'a>(
        &'a self,
        conn: &'a mut DB::Connection,
        message: &'a Staged,
    ) -> Option<BoxFuture<'a, Result<bool, Error>>> {
        self.as_ref().stage_alone(conn, message)
    }

    fn committed(&self) {
        self.as_ref().committed();
    }
}
