//! A message on its way to the broker, tied to the one that waits for its confirm: a record of the bus, or a function.
//!
//! Input: a message and its ticket. State: whether it is still to be written, is written, or is
//! settled. Output: one answer for the ticket: the broker's, or that the message was lost.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{Confirm, Detoured};
use crate::{Message, outbox::RecordId};

/// Whether other messages may be in flight beside a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Many others may be in flight on the same channel.
    Shared,
    /// Nothing else may be in flight on its channel, so that a fault there is this message's fault. A broker
    /// that always knows which message was refused need not tell the two apart.
    Alone,
}

/// What stands behind an [`Outgoing`] in the bus: the record, its slot in the window, its lease.
///
/// Settling consumes it, so a record is settled once, by its own confirm.
pub(crate) trait Ticket: Send {
    /// Until when the record is surely ours. `None` if no other process can have it.
    fn lease_end(&self) -> Option<Instant>;
    /// Whether the bus waits for the answer.
    fn wants_confirm(&self) -> bool {
        true
    }
    /// Takes the answer.
    fn settle(self: Box<Self>, confirm: Confirm);
}

/// A message handed to the broker. Dropping it settles it as [`Confirm::Lost`].
///
/// ```text
///   Outgoing ── into_sending ──▶ Sending ── confirm(answer) ──▶ record settled
///      │             └ lease over, or expired: settled as that, nothing to send
///      └ dropped ──▶ Lost ◀── dropped ┘
/// ```
#[must_use = "a dropped message counts as lost and is sent again"]
pub struct Outgoing(Sending);

impl Outgoing {
    pub(crate) fn new(
        record: RecordId,
        message: Message,
        expires: Option<Instant>,
        isolation: Isolation,
        ticket: Option<Box<dyn Ticket>>,
    ) -> Self {
        Self(Sending {
            tag: record.0,
            message,
            expires,
            isolation,
            ticket,
        })
    }

    /// Hands over a message of a source that is no bus. `answer` gets its confirm.
    ///
    /// Nothing stands in a database for the message: no record, no lease, no slot of a window. So the caller keeps what
    /// it needs to send the message again, until the answer is [`Confirm::Stored`], and bounds what is in flight. A bus
    /// reacts to the other answers with pauses and parking; the caller decides for itself. The message keeps the id that
    /// it has, also where it is sent again or others have the same id: the link tells it apart by a
    /// [tag](Sending::tag) of this hand-over.
    ///
    /// The answer comes exactly once: what is dropped anywhere on the way, also before it is sent, is
    /// [`Confirm::Lost`]. It is called by the task that found it out, which is mostly the link's. So it has to return at
    /// once and must not panic: it passes the confirm on to a channel, for example.
    ///
    /// ```
    /// # use final_core::{Message, MemoryBroker, broker::{Broker, Confirm, Isolation, Outgoing, Setup}};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (answer, mut answers) = tokio::sync::mpsc::unbounded_channel();
    /// let link = MemoryBroker::new().open(Setup::new("mirror", [""; 0])).await?.link;
    ///
    /// let message = Message::new("order.placed", "payload");
    /// link.send(Outgoing::tracked(message, Isolation::Shared, move |confirm| {
    ///     let _ = answer.send(confirm);
    /// }));
    /// // Nobody has subscribed to the topic.
    /// assert_eq!(answers.recv().await, Some(Confirm::Unroutable));
    /// # Ok(()) }
    /// ```
    pub fn tracked(
        message: Message,
        isolation: Isolation,
        answer: impl FnOnce(Confirm) + Send + 'static,
    ) -> Self {
        let ticket = Tracked {
            answer,
            lease_end: None,
        };
        Self::new(
            RecordId::new(),
            message,
            None,
            isolation,
            Some(Box::new(ticket)),
        )
    }

    /// The same with a lease that ends after so long, for the tests of a broker.
    #[doc(hidden)]
    pub fn tracked_leased(
        message: Message,
        lease: Duration,
        isolation: Isolation,
        answer: impl FnOnce(Confirm) + Send + 'static,
    ) -> Self {
        let ticket = Tracked {
            answer,
            lease_end: Some(Instant::now() + lease),
        };
        Self::new(
            RecordId::new(),
            message,
            None,
            isolation,
            Some(Box::new(ticket)),
        )
    }

    /// A message whose confirm nothing waits for, for the tests of a broker.
    #[doc(hidden)]
    pub fn untracked(message: Message) -> Self {
        let record = RecordId::of(message.id());
        Self::new(record, message, None, Isolation::Shared, None)
    }

    /// The same message with another [tag](Sending::tag), for the tests of a broker.
    #[doc(hidden)]
    pub fn tagged(mut self, tag: Uuid) -> Self {
        self.0.tag = tag;
        self
    }

    /// The same message with a time to live, for the tests of a broker.
    #[doc(hidden)]
    pub fn expiring(mut self, ttl: Duration) -> Self {
        self.0.expires = Some(Instant::now() + ttl);
        self
    }

    /// The message's topic.
    pub fn topic(&self) -> &str {
        self.0.message.topic()
    }

    /// The message's topic, shared.
    pub fn shared_topic(&self) -> Arc<str> {
        self.0.message.shared_topic()
    }

    /// Whether it comes back from a detour, see [`Sending::detoured`].
    pub fn is_detoured(&self) -> bool {
        Detoured::is_in(&self.0.message)
    }

    /// Whether other messages may be in flight beside it.
    pub fn isolation(&self) -> Isolation {
        self.0.isolation
    }

    /// Whether the bus waits for a confirm. False for `confirm(false)`: fire and forget.
    pub fn wants_confirm(&self) -> bool {
        self.0
            .ticket
            .as_ref()
            .is_some_and(|ticket| ticket.wants_confirm())
    }

    /// The message, if it may be written now. Call it right before writing.
    ///
    /// `None` if the lease on its record is over or its time to live has passed; it is settled then.
    pub fn into_sending(self) -> Option<Sending> {
        let now = Instant::now();
        if !self.0.is_ours() {
            self.0.confirm(Confirm::LeaseOver);
            return None;
        }
        if self.0.expires.is_some_and(|expires| expires <= now) {
            self.0.confirm(Confirm::Expired);
            return None;
        }
        Some(self.0)
    }

    /// Settles it without sending.
    pub fn confirm(self, confirm: Confirm) {
        self.0.confirm(confirm);
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Outgoing")
            .field(&self.0.message.id())
            .field(&self.0.isolation)
            .finish()
    }
}

/// A message that is being written, or waits for its answer. Dropping it settles it as
/// [`Confirm::Lost`].
#[must_use = "a dropped message counts as lost and is sent again"]
pub struct Sending {
    tag: Uuid,
    message: Message,
    expires: Option<Instant>,
    isolation: Isolation,
    ticket: Option<Box<dyn Ticket>>,
}

impl Sending {
    /// What tells it from all others that the bus has in flight.
    ///
    /// The id of its message does not: a publisher may give several messages the same id. Where it gave none, the tag
    /// is that id. It is the same each time the record is sent. A [tracked](Outgoing::tracked) message has another tag
    /// each time it is handed over.
    pub fn tag(&self) -> Uuid {
        self.tag
    }

    /// What to send.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// What it is, if it comes back from a detour. It then goes to the service's own queue or dead letters, and
    /// [`message`](Self::message) is only its record. It never is for a link without
    /// [`Postponing::Outbox`](super::Postponing::Outbox).
    pub fn detoured(&self) -> Option<Detoured> {
        Detoured::read(&self.message)
    }

    /// Whether it comes back from a detour as a dead letter.
    pub fn is_dead_letter(&self) -> bool {
        Detoured::is_dead_letter(&self.message)
    }

    /// Whether its record is still surely ours. To be asked again when much time has passed between
    /// [`Outgoing::into_sending`] and the writing.
    pub fn is_ours(&self) -> bool {
        self.ticket
            .as_ref()
            .and_then(|ticket| ticket.lease_end())
            .is_none_or(|end| end > Instant::now())
    }

    /// What is left of its time to live.
    pub fn expires_in(&self) -> Option<Duration> {
        self.expires
            .map(|expires| expires.saturating_duration_since(Instant::now()))
    }

    /// Takes the broker's answer and settles the record with it.
    pub fn confirm(mut self, confirm: Confirm) {
        self.settle(confirm);
    }

    fn settle(&mut self, confirm: Confirm) {
        if let Some(ticket) = self.ticket.take() {
            ticket.settle(confirm);
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.settle(Confirm::Lost);
    }
}

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sending")
            .field(&self.message.id())
            .field(&self.isolation)
            .finish()
    }
}

/// The ticket of a message without a record: a function that wants the confirm.
struct Tracked<F> {
    answer: F,
    lease_end: Option<Instant>,
}

impl<F: FnOnce(Confirm) + Send> Ticket for Tracked<F> {
    fn lease_end(&self) -> Option<Instant> {
        self.lease_end
    }

    fn settle(self: Box<Self>, confirm: Confirm) {
        (self.answer)(confirm);
    }
}
