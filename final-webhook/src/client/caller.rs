//! The caller: takes one call to an endpoint, and says what came of it.
//!
//! Input: an endpoint and a call. Output: an outcome. State: the contacts of its endpoints, and how many connections
//! there are.
//!
//! ```text
//! call ─ contact ─ paused? ─ place of the endpoint ─ circuit admits ─ exchange ─ verdict ─▶ outcome
//!                    │ yes            │ none in time       │ no                    └▶ circuit
//!                    ▼                ▼                    ▼
//!                  Paused         Retry: Busy            Paused
//! ```

use std::{
    fmt,
    sync::{Arc, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, time::timeout};

use crate::{
    Call, CallOutcome, CallerBuilder, CallerError, Clock, Endpoint, NotDone, Resolver,
    client::circuit::{Change, Evidence, Ticket},
    client::contact::{Contact, Contacts},
    client::lock::lock,
    client::tls::Trust,
    client::verdict,
};

/// Calls endpoints. It is cheap to clone, and all clones share circuits and connections.
///
/// A caller has no tasks of its own: all that it does, it does while a call is awaited.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use final_webhook::{Call, CallOutcome, Caller, Endpoint};
///
/// let caller = Caller::new()?;
/// let endpoint = Endpoint::new("https://shop.example/hooks/orders")?;
/// let call = Call::new(r#"{"order":7}"#, "application/json", "order-7-placed")?;
/// match caller.call(&endpoint, &call).await {
///     CallOutcome::Done(_) => {}
///     CallOutcome::Gone => {}                       // stop calling this endpoint
///     CallOutcome::Retry { after, why } => {}       // later, and not before `after`
///     CallOutcome::Paused { until } => {}           // nothing was sent
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Caller {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) contacts: Contacts,
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) most_connections: usize,
    /// Calls that wait for the place of a connection.
    pub(crate) waiting: AtomicUsize,
    pub(crate) connect_timeout: Duration,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) trust: Trust,
}

/// How much a caller has in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallerStats {
    /// Endpoints that it remembers.
    pub endpoints: usize,
    /// Connections that are open or being made, with the idle ones.
    pub connections: usize,
}

impl Caller {
    /// A caller with default limits. It reads the root certificates of the machine.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub fn new() -> Result<Self, CallerError> {
        Self::builder().build()
    }

    /// Sets limits, and what else can be set.
    pub fn builder() -> CallerBuilder {
        CallerBuilder::default()
    }

    /// Calls the endpoint once.
    ///
    /// It takes the endpoint's timeout at most three times: while it waits for a place among the calls to the
    /// endpoint, for one among all connections, and for the call itself. A connection that was used before and
    /// turns out to be closed is replaced within the same call.
    ///
    /// Dropping the future ends the call. The endpoint may have received it all the same.
    pub async fn call(&self, endpoint: &Endpoint, call: &Call) -> CallOutcome {
        let busy = NotDone::Busy {
            limit: endpoint.timeout,
        };
        let Some(contact) = self.inner.contacts.of(endpoint, self.inner.clock.now()) else {
            return verdict::of_failure(busy, call).0;
        };
        let message = call.message();
        let paused = lock(&contact.circuit).paused(Some(message), self.inner.clock.now());
        if let Some(until) = paused {
            return CallOutcome::Paused { until };
        }
        let Ok(Ok(_place)) = timeout(endpoint.timeout, contact.places.acquire()).await else {
            return verdict::of_failure(busy, call).0;
        };
        let turn = match self.turn(&contact, endpoint, message) {
            Ok(turn) => turn,
            // It has opened while this call waited.
            Err(until) => return CallOutcome::Paused { until },
        };
        let (outcome, evidence) = match self.inner.exchange(&contact, endpoint, call).await {
            Ok(answer) => verdict::of_answer(&answer, endpoint, call, self.inner.clock.wall()),
            Err(why) => verdict::of_failure(why, call),
        };
        turn.settle(evidence, &outcome);
        outcome
    }

    /// Until when calls to the endpoint are paused, if they are. A call at which it has failed is paused for longer.
    ///
    /// A scheduler asks this before it takes work for the endpoint out of its queue.
    pub fn paused_until(&self, endpoint: &Endpoint) -> Option<Instant> {
        let contact = self.inner.contacts.known(endpoint)?;
        lock(&contact.circuit).paused(None, self.inner.clock.now())
    }

    /// How much it has in hand now.
    pub fn stats(&self) -> CallerStats {
        let free = self.inner.connections.available_permits();
        CallerStats {
            endpoints: self.inner.contacts.len(),
            connections: self.inner.most_connections.saturating_sub(free),
        }
    }

    fn turn<'a>(
        &'a self,
        contact: &'a Contact,
        endpoint: &'a Endpoint,
        message: u64,
    ) -> Result<Turn<'a>, Instant> {
        // The time of the call, of waiting for a connection, and some for a busy machine.
        let limit = endpoint.timeout * 2 + Duration::from_secs(1);
        let clock = &*self.inner.clock;
        let ticket = lock(&contact.circuit).admit(message, clock.now(), limit)?;
        Ok(Turn {
            contact,
            endpoint,
            clock,
            ticket: Some(ticket),
        })
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// The right to make one call, which goes back if the call is dropped.
struct Turn<'a> {
    contact: &'a Contact,
    endpoint: &'a Endpoint,
    clock: &'a dyn Clock,
    ticket: Option<Ticket>,
}

impl Turn<'_> {
    fn settle(mut self, evidence: Evidence, outcome: &CallOutcome) {
        let Some(ticket) = self.ticket.take() else {
            return;
        };
        let now = self.clock.now();
        let change = lock(&self.contact.circuit).settle(ticket, evidence, now, fastrand::f64());
        if let Some(change) = change {
            tell(self.endpoint, change, outcome);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            lock(&self.contact.circuit).abandon(ticket, self.clock.now());
        }
    }
}

fn tell(endpoint: &Endpoint, change: Change, outcome: &CallOutcome) {
    let error = match outcome {
        CallOutcome::Retry { why, .. } => why.to_string(),
        _ => String::new(),
    };
    match change {
        Change::Opened { pause } => tracing::warn!(
            target: "final::webhook",
            %endpoint, error, ?pause,
            "an endpoint has failed several times in a row; calls to it pause, and one call tries it after each pause"
        ),
        Change::StillFails { pause } => tracing::debug!(
            target: "final::webhook",
            %endpoint, error, ?pause,
            "an endpoint that was tried after a pause still fails; the next pause is longer"
        ),
        Change::Rests { pause } => tracing::debug!(
            target: "final::webhook",
            %endpoint, error, ?pause,
            "an endpoint asks for a rest; calls to it pause"
        ),
        Change::Closed => tracing::info!(
            target: "final::webhook",
            %endpoint,
            "an endpoint answers again"
        ),
    }
}
