//! Dead letters that a broker gives away, so that the bus can keep them in the service's database.
//!
//! Input: a dead letter in the broker, as the link has read it. State: whether it is stored. Output: the broker is
//! told that the bus has the letter; or the letter stays with the broker.
//!
//! ```text
//!   the broker ── CollectedLetter ──▶ LetterDelivery ── INSERT, COMMIT ─▶ stored ──▶ the broker forgets it
//!       ▲                                  └ dropped ──▶ it stays with the broker, and comes again
//!       └───────── wanted, or not for now ── LetterStream
//! ```

use std::{fmt, sync::Arc, time::SystemTime};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::Cause;
use crate::{Message, MessageId};

/// A dead letter as a link has read it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CollectedLetter {
    /// The same whenever this letter is delivered, and another one for a letter with other content.
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

    /// The same for a letter that cannot be read as a message, for the reason `why`. Its identity comes with the id
    /// that its message is to have.
    pub fn unreadable(
        (identity, id): (Uuid, MessageId),
        topic: &str,
        payload: Bytes,
        why: String,
        cause: Cause,
        envelope: String,
    ) -> Self {
        Self {
            identity,
            id,
            topic: topic.to_owned(),
            message: Err(why),
            payload,
            cause,
            died_at: None,
            queue: String::new(),
            envelope,
        }
    }
}

/// The dead letters that a link gives away, one after the other.
///
/// The bus says whether it wants any: while its database is away it wants none for long, and the link then gives what
/// it has delivered back to the broker.
#[derive(Debug)]
pub struct LetterStream {
    letters: mpsc::Receiver<LetterDelivery>,
    wanted: watch::Sender<bool>,
}

impl LetterStream {
    /// Makes a stream of a channel, which bounds what waits in memory. Letters are wanted at first; the link watches
    /// whether they still are.
    pub fn new(letters: mpsc::Receiver<LetterDelivery>) -> (Self, watch::Receiver<bool>) {
        let (wanted, watched) = watch::channel(true);
        (Self { letters, wanted }, watched)
    }

    /// The next letter. `None` once the link gives no more.
    pub(crate) async fn recv(&mut self) -> Option<LetterDelivery> {
        self.letters.recv().await
    }

    /// The next letter, if it is there already.
    pub(crate) fn ready(&mut self) -> Option<LetterDelivery> {
        self.letters.try_recv().ok()
    }

    /// Says whether letters are wanted now.
    pub(crate) fn want(&self, is_wanted: bool) {
        self.wanted.send_replace(is_wanted);
    }
}

/// Where the end of a [`LetterDelivery`] is told: one incarnation of the link's channel for dead letters.
pub trait LetterSettler: Send + Sync + 'static {
    /// Hears that the bus has stored the letter with that tag, and that the broker may forget it. Never blocks.
    fn stored(&self, tag: u64);

    /// Hears that the bus has dropped the letter with that tag. The letter stays with the broker. Never blocks.
    fn dropped(&self, tag: u64);

    /// Hears that the database refuses the letter with that tag, and that the bus keeps it to try again later. Never
    /// blocks.
    fn refused(&self, _tag: u64) {}

    /// Whether the broker delivers the letter with that tag again in any case, because its channel is gone for example.
    fn is_void(&self, tag: u64) -> bool;
}

/// A dead letter that the bus is asked to store. Dropping it leaves the letter with the broker.
#[must_use = "a dropped letter stays with the broker"]
pub struct LetterDelivery {
    letter: CollectedLetter,
    tag: u64,
    repeated: Option<u32>,
    settler: Option<Arc<dyn LetterSettler>>,
}

impl LetterDelivery {
    /// Makes a delivery.
    ///
    /// `repeated` is `None` for a letter that the broker delivers for the first time. It is then a new letter, also
    /// where another one is equal. A letter that was delivered before may be stored already: it has how many equal
    /// ones came again before it on this channel.
    pub fn new(
        letter: CollectedLetter,
        tag: u64,
        repeated: Option<u32>,
        settler: Arc<dyn LetterSettler>,
    ) -> Self {
        Self {
            letter,
            tag,
            repeated,
            settler: Some(settler),
        }
    }

    /// The letter.
    pub fn letter(&self) -> &CollectedLetter {
        &self.letter
    }

    /// How many equal letters came again before this one; `None` if it came for the first time.
    pub fn repeated(&self) -> Option<u32> {
        self.repeated
    }

    /// Whether the broker delivers the letter again, whatever becomes of this delivery.
    pub fn is_void(&self) -> bool {
        self.settler
            .as_ref()
            .is_none_or(|settler| settler.is_void(self.tag))
    }

    /// Tells the link that the database refuses the letter for now.
    pub(crate) fn refused(&self) {
        if let Some(settler) = &self.settler {
            settler.refused(self.tag);
        }
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
