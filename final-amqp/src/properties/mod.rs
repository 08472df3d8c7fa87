//! Converts messages to AMQP properties and back.
//!
//! Input and output: a message of the bus on one side, properties and payload on the other. Any producer may
//! have sent what arrives. So no conversion panics: what cannot be understood is left out or becomes an error
//! that says why.

mod dead_letter;
mod decode;
mod detour;
mod encode;
mod envelope;
mod fingerprint;
mod original;

use bytes::Bytes;
use final_core::broker::Sending;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use uuid::Uuid;

#[cfg(any(test, feature = "__fuzzing"))]
pub(crate) use self::envelope::open;
pub(crate) use self::{
    dead_letter::{WireForm, dead_letter},
    decode::{decode, topic},
    encode::WireOptions,
    envelope::{envelope, letter_envelope},
    fingerprint::fingerprint,
    original::Original,
};
use crate::names;

/// The content type that the Go predecessor sends, whatever the payload is.
const GO_CONTENT_TYPE: &str = "string";
/// The content type of a message without one.
const MSGPACK: &str = "application/msgpack";

/// A message ready to be written.
#[derive(Debug)]
pub(crate) struct WireMessage {
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) properties: BasicProperties,
    pub(crate) payload: Bytes,
    /// Whether the broker returns the message if no queue takes it.
    pub(crate) mandatory: bool,
}

/// Makes a message ready to be written. The error says why this is not possible.
pub(crate) fn encode(
    options: &WireOptions<'_>,
    sending: &Sending,
    mandatory: bool,
) -> Result<WireMessage, String> {
    match sending.detoured() {
        Some(detoured) => detour::encode(options, detoured, sending.tag()),
        None => encode::encode(options, sending, mandatory),
    }
}

/// The id as it is on the wire; empty if there is none.
pub(crate) fn id(properties: &BasicProperties) -> String {
    let id = properties.message_id().as_ref();
    id.map_or_else(String::new, |id| id.as_str().to_owned())
}

/// The header with a tag, for a message whose id is not its tag.
fn tag_header(tag: Uuid) -> (ShortString, AMQPValue) {
    (names::TAG.into(), encode::long(&tag.to_string()))
}

/// What tells a message that the broker has returned from all others that were in flight, see [`Sending::tag`].
pub(crate) fn tag(properties: &BasicProperties) -> Uuid {
    let headers = properties.headers().as_ref();
    let tag = headers.and_then(|headers| text(headers.inner().get(names::TAG)?));
    let id = properties.message_id().as_ref().map(ShortString::as_str);
    tag.or(id)
        .and_then(|text| Uuid::try_parse(text).ok())
        .unwrap_or_default()
}

/// Seconds since 1970.
fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// A header's text, if it is one.
pub(crate) fn text(value: &AMQPValue) -> Option<&str> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

/// Room that a publisher leaves in the frame, so that a message it sends still fits into one frame as a
/// dead letter. A dead letter adds at most 1.4 KiB of headers and keeps [`BROKER_ROOM`] free.
const DEAD_LETTER_ROOM: usize = 2 * 1024;
/// Room for the headers that RabbitMQ itself adds on delivery, such as `x-delivery-count`.
const BROKER_ROOM: usize = 512;

/// Whether these properties fit into one frame with room left. AMQP splits payloads over several frames,
/// but never properties.
fn fits(properties: &BasicProperties, room: usize, frame_max: u32) -> bool {
    frame_size(properties) + room <= frame_max as usize
}

/// Bytes that the frame of these properties takes on the wire, at most.
fn frame_size(properties: &BasicProperties) -> usize {
    /// Frame type, channel, length and end; class, weight, payload size and flags; length of the headers.
    const FIXED: usize = 8 + 14 + 4;
    /// Delivery mode, priority and timestamp.
    const NUMBERS: usize = 1 + 1 + 8;
    let texts = [
        properties.content_type(),
        properties.content_encoding(),
        properties.correlation_id(),
        properties.reply_to(),
        properties.expiration(),
        properties.message_id(),
        properties.kind(),
        properties.user_id(),
        properties.app_id(),
        properties.cluster_id(),
    ];
    let texts = texts.into_iter().flatten();
    let texts: usize = texts.map(|text| 1 + text.as_str().len()).sum();
    FIXED + NUMBERS + texts + properties.headers().as_ref().map_or(0, size)
}

/// Bytes a table takes on the wire, at most.
fn size(table: &FieldTable) -> usize {
    let entries = table.inner().iter();
    entries.map(|(name, value)| entry_size(name, value)).sum()
}

fn entry_size(name: &ShortString, value: &AMQPValue) -> usize {
    name.as_str().len() + 2 + value_size(value)
}

fn value_size(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::LongString(text) => 4 + text.len(),
        AMQPValue::ShortString(text) => 4 + text.as_str().len(),
        AMQPValue::ByteArray(bytes) => 4 + bytes.len(),
        AMQPValue::FieldTable(table) => 4 + size(table),
        AMQPValue::FieldArray(array) => {
            4 + array
                .as_slice()
                .iter()
                .map(|one| 1 + value_size(one))
                .sum::<usize>()
        }
        _ => 8,
    }
}

#[cfg(test)]
mod tests;
