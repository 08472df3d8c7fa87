//! A message that was put away, as the in-process broker keeps it.

use std::sync::Arc;

use crate::Message;

/// A message in the dead letters of a service, and why it is there.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadMessage {
    /// The message as it was published.
    pub message: Message,
    /// What went wrong: the last error of the handler, `expired`, or why nobody handled it.
    pub reason: String,
    /// How often the handler was tried.
    pub attempts: u32,
    /// The service that could not handle it.
    pub service: Arc<str>,
}

impl DeadMessage {
    /// The topic it was published to.
    pub fn topic(&self) -> &str {
        self.message.topic()
    }
}
