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

    /// The id that depends on these bytes alone: the same in every process and each time (version 5, RFC 9562).
    ///
    /// For a source that may send a message again after a crash: made of what the message is about, its id is the same,
    /// and a handler that compares ids drops the repeat. The same bytes in another namespace give another id, so each
    /// source has a namespace of its own. Where the bytes are several texts in a row, each text begins with its length:
    /// otherwise `ab`, `c` and `a`, `bc` would have the same id.
    ///
    /// ```
    /// # use final_core::MessageId;
    /// # use uuid::Uuid;
    /// let source = Uuid::from_u128(0x6ba7_b814_9dad_11d1_80b4_00c0_4fd4_30c8);
    ///
    /// let id = MessageId::derived(source, b"transaction 17, row 3");
    /// assert_eq!(id, MessageId::derived(source, b"transaction 17, row 3"));
    /// assert_ne!(id, MessageId::derived(source, b"transaction 17, row 4"));
    /// ```
    pub fn derived(namespace: Uuid, bytes: impl AsRef<[u8]>) -> Self {
        Self(Uuid::new_v5(&namespace, bytes.as_ref()))
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
            return Some(Self::derived(Uuid::NAMESPACE_OID, said));
        };
        (!id.is_nil() && !id.is_max()).then_some(Self(id))
    }

    /// Reads an id without knowing where the message comes from.
    ///
    /// Text that is not a UUID becomes one that depends on the text alone (version 5, RFC 9562), so
    /// that a repeat of the message still has the same id. What arrives by RabbitMQ is read by
    /// [`foreign`](Self::foreign).
    pub fn from_text(text: &str) -> Self {
        Uuid::try_parse(text).map_or_else(|_| Self::derived(Uuid::NAMESPACE_OID, text), Self)
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
