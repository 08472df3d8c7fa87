//! Dead letters that a broker gives away, so that the bus can keep them in the service's database.
//!
//! Input: a dead letter in the broker, as the link has read it. State: whether it is stored. Output: the broker is
//! told that the bus has the letter; or the letter stays with the broker.
//!
//! ```text
//!   the broker ── CollectedLetter ──▶ LetterDelivery ── INSERT, COMMIT ─▶ stored ──▶ the broker forgets it
//!                                          └ dropped ──▶ it stays with the broker, and comes again
//! ```

use std::{fmt, sync::Arc, time::SystemTime};

use bytes::Bytes;
use uuid::Uuid;

use super::Cause;
use crate::{Message, MessageId};

/// A dead letter as a link has read it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CollectedLetter {
    /// The same whenever this letter is delivered, and another one for every letter with other content.
    pub identity: Uuid,
    /// The id of the message.
    pub id: MessageId,
    /// The topic it was published to, as far as that is known.
    pub topic: String,
    /// The message; or why the letter cannot be read as one.
    pub message: Result<Message, String>,
    /// The payload as it came.
    pub payload: Bytes,
    /// Why it is dead, and how often a handler was tried.
    pub cause: Cause,
    /// When it died, if the letter says that.
    pub died_at: Option<SystemTime>,
    /// The queue that it was taken from.
    pub queue: String,
    /// Everything but the payload, as the link needs it to send the message to the service again: what
    /// [`Detoured::envelope`](super::Detoured) is. In printable ASCII, without quotes and backslashes.
    pub envelope: String,
}

impl CollectedLetter {
    /// Puts the parts together. Its id, topic and payload are those of the message.
    pub fn new(identity: Uuid, message: Message, cause: Cause, envelope: String) -> Self {
        Self {
            identity,
            id: message.id(),
            topic: message.topic().to_owned(),
            payload: message.payload().clone(),
            message: Ok(message),
            cause,
            died_at: None,
            queue: String::new(),
            envelope,
        }
    }
}

/// Where the end of a [`LetterDelivery`] is told: one incarnation of the link's channel for dead letters.
pub trait LetterSettler: Send + Sync + 'static {
    /// Hears that the bus has stored the letter with that tag, and that the broker may forget it. Never blocks.
    fn stored(&self, tag: u64);

    /// Hears that the bus has dropped the letter with that tag. The letter stays with the broker. Never blocks.
    fn dropped(&self, tag: u64);

    /// Whether the channel is gone, so that the broker delivers the letters again that were not stored.
    fn is_void(&self) -> bool;
}

/// A dead letter that the bus is asked to store. Dropping it leaves the letter with the broker.
#[must_use = "a dropped letter stays with the broker"]
pub struct LetterDelivery {
    letter: CollectedLetter,
    tag: u64,
    is_repeated: bool,
    settler: Option<Arc<dyn LetterSettler>>,
}

impl LetterDelivery {
    /// Makes a delivery. `is_repeated` says that the broker may have delivered the letter before, so that it may be
    /// stored already. If it is false, the letter is a new one, also where another one is equal.
    pub fn new(
        letter: CollectedLetter,
        tag: u64,
        is_repeated: bool,
        settler: Arc<dyn LetterSettler>,
    ) -> Self {
        Self {
            letter,
            tag,
            is_repeated,
            settler: Some(settler),
        }
    }

    /// The letter.
    pub fn letter(&self) -> &CollectedLetter {
        &self.letter
    }

    /// Whether the broker may have delivered the letter before.
    pub fn is_repeated(&self) -> bool {
        self.is_repeated
    }

    /// Whether the broker delivers the letter again, whatever becomes of this delivery.
    pub fn is_void(&self) -> bool {
        self.settler
            .as_ref()
            .is_none_or(|settler| settler.is_void())
    }

    /// Tells the link that the letter is stored.
    pub fn stored(mut self) {
        if let Some(settler) = self.settler.take() {
            settler.stored(self.tag);
        }
    }
}

impl Drop for LetterDelivery {
    fn drop(&mut self) {
        if let Some(settler) = self.settler.take() {
            settler.dropped(self.tag);
        }
    }
}

impl fmt::Debug for LetterDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LetterDelivery")
            .field("tag", &self.tag)
            .field("id", &self.letter.id)
            .finish_non_exhaustive()
    }
}
