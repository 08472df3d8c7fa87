//! The id of a message.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// Identifies a message from its publication to its last repeat: a UUID, version 7.
///
/// Delivery is at least once, so a handler can be given the same message twice. It then has the same
/// id, which is what to be idempotent by.
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

    /// Reads an id that another system may have written.
    ///
    /// Text that is not a UUID becomes one that depends on the text alone (version 5, RFC 9562), so
    /// that a repeat of the message still has the same id.
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
