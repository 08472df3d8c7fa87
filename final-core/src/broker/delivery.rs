//! A message the broker delivered, to be settled once.

use std::{fmt, sync::Arc};

use crate::Message;

/// What the broker is to do with a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Forget it: the handler is done.
    Ack,
    /// Give it to somebody, perhaps to us, again.
    Requeue,
    /// Publish it to the service's dead letters, and forget it once they have it.
    DeadLetter(DeadLetter),
}

/// Why a message is put away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// What went wrong, at most [`MAX_REASON`](Self::MAX_REASON) bytes.
    pub reason: String,
    /// How often the handler was tried.
    pub attempts: u32,
}

impl DeadLetter {
    /// The longest reason that travels with a dead letter, in bytes.
    pub const MAX_REASON: usize = 1024;

    /// Makes one, cutting the reason to its limit at a character's border.
    pub fn new(reason: impl Into<String>, attempts: u32) -> Self {
        let mut reason = reason.into();
        if reason.len() > Self::MAX_REASON {
            let end = (0..=Self::MAX_REASON)
                .rev()
                .find(|at| reason.is_char_boundary(*at))
                .unwrap_or(0);
            reason.truncate(end);
        }
        Self { reason, attempts }
    }
}

/// Where a delivery's settlement goes: one incarnation of one consuming channel.
///
/// A settlement for an incarnation that is gone is void; the broker delivers the message again.
pub trait Settler: Send + Sync + 'static {
    /// Takes the settlement of the delivery with that tag. Never blocks.
    fn settle(&self, tag: u64, settlement: Settlement);
}

/// A delivery in hand. Dropping it hands it back to the broker.
#[must_use = "a dropped delivery is handed back to the broker"]
pub struct Delivery {
    content: Result<Message, String>,
    tag: u64,
    settler: Option<Arc<dyn Settler>>,
}

impl Delivery {
    /// Makes a delivery of a message, or of bytes that are none and the reason why.
    pub fn new(content: Result<Message, String>, tag: u64, settler: Arc<dyn Settler>) -> Self {
        Self {
            content,
            tag,
            settler: Some(settler),
        }
    }

    /// The message.
    ///
    /// # Errors
    ///
    /// The reason why the bytes cannot be understood as one.
    pub fn message(&self) -> Result<&Message, &str> {
        self.content.as_ref().map_err(String::as_str)
    }

    /// Settles it.
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
