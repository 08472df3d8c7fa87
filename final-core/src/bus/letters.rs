//! Dead letters that were collected from the broker: listed, replayed, discarded.
//!
//! Input: a service and a filter. State: none beside the table's. Output: letters; or how many were replayed or
//! discarded. The relay is woken for those that are replayed.

use std::fmt;

use futures::{FutureExt, future::BoxFuture};

use super::Bus;
use crate::{
    Error, OutboxDatabase,
    broker::{DeadLetter, DeadLetterFilter, DeadLetters},
    outbox::{Outbox, letters::LetterFate},
};

/// The most letters of a list.
const MOST: u64 = 1_000;

/// The dead letters that were taken out of the broker, in the table `final_<service>_dead` of a bus's database. Made
/// by [`Bus::collected_letters`].
///
/// A replay gives a message back to this service alone, with its id, its properties and its headers. The attempts of
/// its handler begin anew. The message goes through the outbox, so the broker may be away.
///
/// ```no_run
/// use final_core::{Error, PgBus, broker::{DeadLetterFilter, DeadLetters}};
///
/// async fn retry_timeouts(bus: &PgBus) -> Result<u64, Error> {
///     let timeouts = DeadLetterFilter::all().reason("timed out");
///     bus.collected_letters().replay("shop", &timeouts).await
/// }
/// ```
pub struct CollectedLetters<DB: OutboxDatabase>(Bus<DB>);

impl<DB: OutboxDatabase> Bus<DB> {
    /// The dead letters that were taken out of the broker, see
    /// [`Options::collect_dead_letters`](crate::Options::collect_dead_letters). The bus need not be started.
    ///
    /// It also knows the letters of the other services whose tables are in the same database.
    #[must_use]
    pub fn collected_letters(&self) -> CollectedLetters<DB> {
        CollectedLetters(self.clone())
    }
}

/// The outbox of a service: the bus's own, or one for a few questions.
enum Of<'a, DB: OutboxDatabase> {
    Own(&'a Outbox<DB>),
    Other(Box<Outbox<DB>>),
}

impl<DB: OutboxDatabase> CollectedLetters<DB> {
    fn of(&self, service: &str) -> Of<'_, DB> {
        let inner = &self.0.inner;
        if service == inner.name {
            return Of::Own(&inner.outbox);
        }
        let caller = inner.outbox.caller().clone();
        let lease = inner.options.lease;
        Of::Other(Box::new(Outbox::new(service.to_owned(), caller, lease)))
    }
}

impl<DB: OutboxDatabase> Of<'_, DB> {
    fn outbox(&self) -> &Outbox<DB> {
        match self {
            Self::Own(outbox) => outbox,
            Self::Other(outbox) => outbox,
        }
    }

    async fn end(self) {
        if let Self::Other(outbox) = self {
            outbox.close().await;
        }
    }
}

impl<DB: OutboxDatabase> CollectedLetters<DB> {
    async fn end_with(
        &self,
        service: &str,
        filter: &DeadLetterFilter,
        fate: LetterFate,
    ) -> Result<u64, Error> {
        let of = self.of(service);
        let ended = of.outbox().end_letters(filter, fate).await;
        of.end().await;
        self.0.wake();
        ended
    }
}

impl<DB: OutboxDatabase> DeadLetters for CollectedLetters<DB> {
    fn list<'a>(
        &'a self,
        service: &'a str,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<Vec<DeadLetter>, Error>> {
        async move {
            let of = self.of(service);
            let rows = of.outbox().list_letters(filter, MOST).await;
            of.end().await;
            Ok(rows?.into_iter().map(|row| row.letter(service)).collect())
        }
        .boxed()
    }

    fn replay<'a>(
        &'a self,
        service: &'a str,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<u64, Error>> {
        self.end_with(service, filter, LetterFate::Replay).boxed()
    }

    fn discard<'a>(
        &'a self,
        service: &'a str,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<u64, Error>> {
        self.end_with(service, filter, LetterFate::Discard).boxed()
    }
}

impl<DB: OutboxDatabase> fmt::Debug for CollectedLetters<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CollectedLetters").field(&self.0).finish()
    }
}
