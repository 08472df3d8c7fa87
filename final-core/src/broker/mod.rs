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

    /// Writes the messages into the broker's own tables, inside the caller's transaction.
    ///
    /// For a broker that lives in the same database. The bus then writes no outbox record, and calls
    /// [`committed`](Self::committed) after the COMMIT. The default `None` means: through the outbox.
    fn stage<'a>(
        &'a self,
        _conn: &'a mut DB::Connection,
        _messages: &'a [Staged],
    ) -> Option<BoxFuture<'a, Result<(), Error>>> {
        None
    }

    /// Says that a transaction in which messages were [staged](Self::stage) has committed.
    fn committed(&self) {}
}

/// A broker can be shared by several buses of one process.
impl<DB: OutboxDatabase, B: Broker<DB>> Broker<DB> for Arc<B> {
    fn open(&self, setup: Setup) -> BoxFuture<'_, Result<Opened, BrokerError>> {
        self.as_ref().open(setup)
    }

    fn stage<'a>(
        &'a self,
        conn: &'a mut DB::Connection,
        messages: &'a [Staged],
    ) -> Option<BoxFuture<'a, Result<(), Error>>> {
        self.as_ref().stage(conn, messages)
    }

    fn committed(&self) {
        self.as_ref().committed();
    }
}
