//! A message that the broker has delivered, to be settled once.
//!
//! Input: a message, or the reason why there is none; perhaps the settlement of an earlier delivery of it. State:
//! whether it was settled. Output: one [`Settlement`], to the channel that has delivered it.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{Cause, Postponement, Postponing};
use crate::Message;

/// What the broker is to do with a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settlement {
    /// Forget the message: the handler is done.
    Ack,
    /// Deliver the message again, to this instance of the service or to another one.
    Requeue,
    /// Put the message to the service's dead letters, and forget it once it is stored there.
    DeadLetter(Cause),
    /// Forget the message: the bus has stored it elsewhere, and it was not handled. Only for deliveries that
    /// allow [`Postponing::Outbox`].
    Moved,
    /// Deliver the message again later, to this service alone, and forget this delivery once that is stored. Only
    /// for deliveries that allow [`Postponing::Settlement`].
    Postpone(Postponement),
    /// Keep the message at its place, and what comes after it behind it, and deliver it again later. Only for brokers
    /// that [can hold](super::Broker::can_hold).
    Hold(Holding),
}

/// Why a message is held, and when it is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holding {
    /// What went wrong, and how often the handler was tried.
    pub why: Cause,
    /// The pause that the handler asks for. Otherwise the pauses grow.
    pub pause: Option<Duration>,
    /// Whether it is tried again by itself. Otherwise only an operator lets it go: its handler may take the process
    /// down.
    pub retries: bool,
}

impl Holding {
    /// A message that is tried again, after pauses that grow.
    #[must_use]
    pub fn new(why: Cause) -> Self {
        Self {
            why,
            pause: None,
            retries: true,
        }
    }
}

/// Where the log has a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Place {
    /// The partition: one of the sixteen lanes. Messages of one key are in the same one.
    pub partition: u8,
    /// The sequence number. It is given at the INSERT, so a lower one can become visible after a higher one.
    pub number: i64,
}

impl Place {
    /// A place.
    #[must_use]
    pub fn new(partition: u8, number: i64) -> Self {
        Self { partition, number }
    }
}

/// Where a delivery's settlement goes: one incarnation of one consuming channel.
///
/// A settlement for an incarnation that is gone is void; the broker delivers the message again.
pub trait Settler: Send + Sync + 'static {
    /// Takes the settlement of the delivery with that tag. Never blocks.
    fn settle(&self, tag: u64, settlement: Settlement);

    /// Whether a settlement of the delivery with that tag is void by now.
    ///
    /// The bus asks before each attempt, and begins none for a message that the broker delivers again. By default
    /// it is not known.
    fn is_void(&self, _tag: u64) -> bool {
        false
    }

    /// How a message of this settler's deliveries can wait outside of the queue. Not at all, by default.
    fn postponing(&self, _message: &Message) -> Postponing {
        Postponing::Never
    }

    /// Hears that the delivery with that tag waits for something other than a handler, its retry for example;
    /// or that it waits no longer. A link may deliver another one in its place meanwhile. Never blocks.
    fn waits(&self, _tag: u64, _waits: bool) {}
}

/// A message that the bus has to settle. Dropping it gives it back to the broker: [`Settlement::Requeue`].
#[must_use = "a dropped delivery goes back to the broker"]
pub struct Delivery {
    content: Result<Message, String>,
    tag: u64,
    is_suspect: bool,
    place: Option<Place>,
    times: u32,
    settler: Option<Arc<dyn Settler>>,
    earlier: Option<oneshot::Receiver<Settlement>>,
}

impl Delivery {
    /// Makes a delivery: of a message, or of the reason why the bytes cannot be read as one.
    pub fn new(content: Result<Message, String>, tag: u64, settler: Arc<dyn Settler>) -> Self {
        Self {
            content,
            tag,
            is_suspect: false,
            place: None,
            times: 1,
            settler: Some(settler),
            earlier: None,
        }
    }

    /// Says that the bus still has an earlier delivery of the same message, whose settlement is void.
    ///
    /// The bus begins no handler beside the one that may run. It settles this delivery with what `earlier` gives.
    /// If that is a requeue or nothing, the message was not finished, and this delivery is handled as any other.
    pub fn after(mut self, earlier: oneshot::Receiver<Settlement>) -> Self {
        self.earlier = Some(earlier);
        self
    }

    /// What will be the settlement of an earlier delivery of the same message, see [`after`](Self::after). For a caller that
    /// takes deliveries without the bus.
    pub fn take_earlier(&mut self) -> Option<oneshot::Receiver<Settlement>> {
        self.earlier.take()
    }

    /// Whether a settlement has no effect any more, so that the broker delivers the message again.
    pub fn is_void(&self) -> bool {
        self.settler
            .as_ref()
            .is_none_or(|settler| settler.is_void(self.tag))
    }

    /// Says whether the message is a suspect: it was delivered before, and this process did not give it back. So
    /// it may be the reason why another process ended. By default it is none.
    pub fn suspected(mut self, is_suspect: bool) -> Self {
        self.is_suspect = is_suspect;
        self
    }

    /// Whether the message may be the reason why another process ended, see [`suspected`](Self::suspected).
    pub fn is_suspect(&self) -> bool {
        self.is_suspect
    }

    /// Says where the log has the message.
    pub fn placed(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Where the log has the message. `None` for a broker that is no log. A message that was given back may have
    /// another place when it comes again.
    pub fn place(&self) -> Option<Place> {
        self.place
    }

    /// Says how often the message was delivered, this time included.
    pub fn delivered(mut self, times: u32) -> Self {
        self.times = times.max(1);
        self
    }

    /// How often the message was delivered, this time included, as far as the broker knows. The first time is 1. A
    /// message that comes back from a [detour](Postponing) goes on with the attempts that were made before.
    ///
    /// | broker | knows |
    /// | --- | --- |
    /// | the log | how often this process gave the message back; 2 if another process had it and ended |
    /// | RabbitMQ, quorum queue | how often it was given back, or its consumer was lost |
    /// | RabbitMQ, classic queue | 2 if it was delivered before, however often |
    /// | in-process | how often it was given back |
    pub fn times(&self) -> u32 {
        let attempt = self.content.as_ref().map_or(1, Message::attempt);
        self.times.max(attempt)
    }

    /// The message.
    ///
    /// # Errors
    ///
    /// The reason why the bytes cannot be understood as one.
    pub fn message(&self) -> Result<&Message, &str> {
        self.content.as_ref().map_err(String::as_str)
    }

    /// How its message can wait outside of the queue.
    pub fn postponing(&self) -> Postponing {
        match (&self.content, &self.settler) {
            (Ok(message), Some(settler)) => settler.postponing(message),
            _ => Postponing::Never,
        }
    }

    /// Tells the link whether the message waits for something other than a handler.
    pub(crate) fn wait(&self, waits: bool) {
        if let Some(settler) = &self.settler {
            settler.waits(self.tag, waits);
        }
    }

    /// Settles the delivery.
    pub fn settle(mut self, settlement: Settlement) {
        if let Some(settler) = self.settler.take() {
            settler.settle(self.tag, settlement);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(settler) = self.settler.take() {
            settler.settle(self.tag, Settlement::Requeue);
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("tag", &self.tag)
            .field("content", &self.content)
            .finish_non_exhaustive()
    }
}
