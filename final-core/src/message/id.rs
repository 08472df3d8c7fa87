//! The id of a message.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// Identifies a message from its publication to its last repeat: a UUID, version 7.
///
/// Delivery is at least once, so a handler can receive the same message twice. Both have the same id, so
/// an idempotent handler compares ids. A bus gives no two messages the same id. Where a publisher chooses the id,
/// messages of one id count as one message that comes several times.
///
/// A message of another system has the id that its producer gave it: see [`foreign`](Self::foreign). If
/// the producer gave none, a repeat of the message cannot be told from another message that is equal.
/// Such a message gets an id from this process, and
/// [`Message::is_identified`](crate::Message::is_identified) is false: the id is the same while the process
/// lives, and another one in another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub Uuid);

impl MessageId {
    /// Makes a new id. Later ids of one process sort after earlier ones.
    #[expect(
        clippy::new_without_default,
        reason = "two defaults would not be equal"
    )]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// Reads the id that the producer of a message on this topic gave it.
    ///
    /// A UUID is that UUID, however it is written: in capitals, in braces, as a URN, without hyphens. Any other text
    /// becomes one that depends on the text, the topic and the application (version 5, RFC 9562): many
    /// producers count their messages, and number 1 of one topic is not number 1 of the other. `None` for
    /// a text that identifies nothing: blank, or a UUID of zeros or ones only.
    ///
    /// ```
    /// # use final_core::MessageId;
    /// let id = |text| MessageId::foreign(text, "order.placed", "shop");
    ///
    /// assert_eq!(id("17"), id("17"));
    /// assert_ne!(id("17"), MessageId::foreign("17", "order.cancelled", "shop"));
    /// assert_eq!(id(""), None);
    /// ```
    pub fn foreign(text: &str, topic: &str, application: &str) -> Option<Self> {
        if text.trim().is_empty() {
            return None;
        }
        let Ok(id) = Uuid::try_parse(text) else {
            // Lengths, so that no two ways to cut the same bytes are one.
            let mut said = Vec::new();
            for part in [topic, application, text] {
                said.extend((part.len() as u64).to_be_bytes());
                said.extend(part.as_bytes());
            }
            return Some(Self(Uuid::new_v5(&Uuid::NAMESPACE_OID, &said)));
        };
        (!id.is_nil() && !id.is_max()).then_some(Self(id))
    }

    /// Reads an id without knowing where the message comes from.
    ///
    /// Text that is not a UUID becomes one that depends on the text alone (version 5, RFC 9562), so
    /// that a repeat of the message still has the same id. What arrives by RabbitMQ is read by
    /// [`foreign`](Self::foreign).
    pub fn from_text(text: &str) -> Self {
        Self(
            Uuid::try_parse(text)
                .unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes())),
        )
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for MessageId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self)
    }
}

impl From<Uuid> for MessageId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}
