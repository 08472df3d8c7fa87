//! A message that the target has refused for good, as it is stored.
//!
//! Input: a message, or the words why none could be made. Output: columns of a table, and the message again.

use std::sync::Arc;

use final_core::{Message, MessageId};
use serde::{Deserialize, Serialize};

/// A save has fewer messages than this. The number of a parked message is that of its save times this, and its place.
pub(crate) const PER_SAVE: i64 = 1 << 16;

/// What an operator has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkedMark {
    /// Try it again, and what is behind it.
    Retry,
    /// Leave it out, and go on with what is behind it.
    Skip,
}

impl ParkedMark {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Skip => "skip",
        }
    }

    pub(crate) fn of(text: &str) -> Option<Self> {
        match text {
            "retry" => Some(Self::Retry),
            "skip" => Some(Self::Skip),
            _ => None,
        }
    }
}

/// A change that is to wait, because the target has refused its message, or because it is behind one that was refused.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ParkedChange {
    /// Its number: later ones have higher numbers.
    pub id: i64,
    /// The topic of its message.
    pub topic: Arc<str>,
    /// The key of its message. Later messages of the topic with this key wait behind it.
    pub key: Option<Arc<str>>,
    /// The message. `None` if the change cannot be written in the format: it can only be skipped.
    pub message: Option<Message>,
    /// Why it was refused. `None` if it only waits behind another one.
    pub reason: Option<String>,
    /// Where it stands in the source.
    pub position: String,
}

/// A change that waits, as lists have it: without its payload, so that many fit in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParkedHead {
    /// Its number: later ones have higher numbers.
    pub id: i64,
    /// The topic of its message.
    pub topic: Arc<str>,
    /// The key of its message. Later messages of the topic with this key wait behind it.
    pub key: Option<Arc<str>>,
    /// The id of its message. `None` if the change cannot be written in the format: it can only be skipped.
    pub message_id: Option<MessageId>,
    /// How large the payload of its message is.
    pub bytes: Option<u64>,
    /// Why it was refused. `None` if it only waits behind another one.
    pub reason: Option<String>,
    /// Where it stands in the source.
    pub position: String,
    /// When it was parked, by the database's clock: microseconds since 1970.
    pub parked_at: i64,
    /// What an operator has asked for.
    pub mark: Option<ParkedMark>,
}

/// Everything of a message but its payload, as JSON.
#[derive(Serialize, Deserialize)]
struct ParkedEnvelope {
    id: String,
    topic: String,
    key: Option<String>,
    headers: Vec<(String, String)>,
    content_type: String,
    content_encoding: Option<String>,
}

/// The columns of a message: its envelope and its payload.
pub(super) fn columns(change: &ParkedChange) -> (Vec<u8>, Option<Vec<u8>>) {
    let message = change.message.as_ref();
    let envelope = ParkedEnvelope {
        id: message.map_or_else(String::new, |message| message.id().to_string()),
        topic: change.topic.to_string(),
        key: change.key.as_deref().map(str::to_owned),
        headers: message.map_or_else(Vec::new, |message| {
            let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
            message.headers().iter().map(pair).collect()
        }),
        content_type: message.map_or_else(String::new, |message| message.content_type().to_owned()),
        content_encoding: message.and_then(|message| message.content_encoding().map(str::to_owned)),
    };
    // A struct of texts is always JSON.
    let envelope = serde_json::to_vec(&envelope).unwrap_or_default();
    (envelope, message.map(|message| message.payload().to_vec()))
}

/// Topic, key and id of the message.
type HeadParts = (Arc<str>, Option<Arc<str>>, Option<MessageId>);

/// What the envelope says of a message. The error is a text.
pub(super) fn read_head(envelope: &[u8]) -> Result<HeadParts, String> {
    let envelope = ParkedEnvelope::read(envelope)?;
    let id = match &*envelope.id {
        "" => None,
        id => Some(message_id(id)?),
    };
    Ok((envelope.topic.into(), envelope.key.map(Into::into), id))
}

/// The message of the columns. The error is a text.
pub(super) fn read_message(envelope: &[u8], payload: Vec<u8>) -> Result<Message, String> {
    let envelope = ParkedEnvelope::read(envelope)?;
    let id = message_id(&envelope.id)?;
    let mut message =
        Message::identified(id, envelope.topic, payload).with_content_type(envelope.content_type);
    if let Some(key) = envelope.key {
        message = message.with_key(key);
    }
    if let Some(encoding) = envelope.content_encoding {
        message = message.with_content_encoding(encoding);
    }
    for (name, value) in envelope.headers {
        message = message.with_header(name, value);
    }
    Ok(message)
}

fn message_id(text: &str) -> Result<MessageId, String> {
    text.parse().map_err(|_| "its id is none".to_owned())
}

impl ParkedEnvelope {
    fn read(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json).map_err(|error| error.to_string())
    }
}
