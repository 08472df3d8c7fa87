//! What a message broker must do for the bus.
//!
//! A [`Broker`] is how to reach one; a [`Link`] is the open connection of one running bus. The bus
//! hands the link [`Outgoing`] messages and gets a [`Confirm`] for each; the link hands the bus
//! [`Delivery`]s and gets a [`Settlement`] for each. A broker never sees the outbox: a record is
//! settled by the confirm of its own message and by nothing else. A source of messages that is no bus uses
//! a link as well: by [`Outgoing::tracked`], it gets the confirms itself.
//!
//! ```text
//!   Bus ── open(Setup) ──▶ Broker ──▶ Opened { link, deliveries }
//!   Bus ── Outgoing ─────▶ Link ────▶ the broker ── Confirm ─────▶ the record is settled
//!   Bus ◀─ Delivery ────── Link ◀──── the broker ◀─ Settlement ── the handler is done
//! ```
//!
//! Three parts are optional: [`Staging`], for a broker whose tables are in the service's database;
//! [`DeadLetters`], for a broker whose dead letters can be listed, replayed and discarded; and
//! [`Link::dead_letters`], for a broker whose dead letters cannot, so that the bus keeps them in its database.
//! A broker may also let messages wait outside of its queue: see [`Postponing`].
//! `examples/own_broker.rs` of the repository is a whole broker made of these items.

mod collected;
mod confirm;
mod dead_letters;
mod delivery;
mod detour;
mod error;
mod letter_sql;
mod link;
mod memory;
mod outgoing;
mod staging;

use std::sync::Arc;

use futures::future::BoxFuture;

pub use self::{
    collected::{CollectedLetter, LetterDelivery, LetterSettler, LetterStream},
    confirm::Confirm,
    dead_letters::{Cause, DeadLetter, DeadLetterFilter, DeadLetters, LetterCursor},
    delivery::{Delivery, Holding, Place, Settlement, Settler},
    detour::{Detour, DetourTo, Detoured, Postponement, Postponing},
    error::{BrokerError, BrokerErrorKind},
    link::{Link, LinkBacklog, LinkCounts, LinkState, Opened, Settled, Setup},
    memory::MemoryBroker,
    outgoing::{Isolation, Outgoing, Sending},
    staging::{Staging, StagingRequest},
};
pub(crate) use self::{
    detour::{REPLAYED, TO_QUEUE, note, read_note},
    outgoing::Ticket,
};
use crate::Error;
pub use crate::message::Staged;

/// A message broker, as [`Bus::new`](crate::Bus::new) takes it.
///
/// Only [`open`](Self::open) is needed. A broker that keeps its messages in SQL tables also has a
/// migration, and can take messages straight from a transaction: see [`Staging`].
pub trait Broker: Send + Sync + 'static {
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

    /// Makes the broker's own tables in its database, if it has any.
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

    /// Offers to write messages inside the transactions of the bus's pool.
    ///
    /// Asked once, when the bus is made. A broker whose tables are in the same database
    /// [answers](StagingRequest::answer) the request, and the bus then needs no outbox for its
    /// messages. By default nothing is offered: messages go through the outbox.
    fn staging(&self, _request: &mut StagingRequest<'_>) {}

    /// Whether a message can be held at its place by [`Settlement::Hold`]. False by default: the start of a bus then
    /// fails if one of its routes holds messages that fail.
    fn can_hold(&self) -> bool {
        false
    }
}

/// A broker can be shared by several buses of one process.
///
/// `Arc<dyn Broker>` is a broker as well, for a service that chooses its broker at run time.
impl<B: Broker + ?Sized> Broker for Arc<B> {
    fn open(&self, setup: Setup) -> BoxFuture<'_, Result<Opened, BrokerError>> {
        self.as_ref().open(setup)
    }

    fn migrate(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.as_ref().migrate()
    }

    fn migration_sql(&self) -> String {
        self.as_ref().migration_sql()
    }

    fn staging(&self, request: &mut StagingRequest<'_>) {
        self.as_ref().staging(request);
    }

    fn can_hold(&self) -> bool {
        self.as_ref().can_hold()
    }
}
