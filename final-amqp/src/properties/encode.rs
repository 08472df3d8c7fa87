//! Makes what is written for a message that is published.
//!
//! Input: the message, the service, and the largest frame. Output: a [`WireMessage`], or the reason why the
//! message can never be sent.

use std::time::Duration;

use final_core::{Message, broker::Sending};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use uuid::Uuid;

use super::{DEAD_LETTER_ROOM, WireMessage, fits, now, tag_header};
use crate::names;

/// What the properties depend on besides the message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WireOptions<'a> {
    /// The publishing service. The Go predecessor reads it from `reply_to`.
    pub(crate) service: &'a str,
    /// Its queue, for messages that come back.
    pub(crate) queue: &'a str,
    /// The largest frame of the connection.
    pub(crate) frame_max: u32,
}

/// Makes a message ready to be written. The error says why this is not possible.
pub(crate) fn encode(
    options: &WireOptions<'_>,
    sending: &Sending,
    mandatory: bool,
) -> Result<WireMessage, String> {
    let message = sending.message();
    let tag = Some(sending.tag()).filter(|tag| *tag != message.id().0);
    Ok(WireMessage {
        exchange: short("topic", message.topic())?,
        routing_key: short("topic", message.topic())?,
        properties: properties(options, message, tag, sending.expires_in())?,
        payload: message.payload().clone(),
        mandatory,
    })
}

/// The properties of a message, with a tag if the message's id is not its tag.
pub(super) fn properties(
    options: &WireOptions<'_>,
    message: &Message,
    tag: Option<Uuid>,
    expires_in: Option<Duration>,
) -> Result<BasicProperties, String> {
    let mut headers = FieldTable::default();
    for (name, value) in message.headers().iter() {
        headers.insert(short("header name", name)?, long(value));
    }
    headers.insert(short("header name", names::TOPIC)?, long(message.topic()));
    if let Some((name, tag)) = tag.map(tag_header) {
        headers.insert(name, tag);
    }
    if let Some(key) = message.key() {
        headers.insert(short("header name", names::KEY)?, long(key));
    }
    let properties = BasicProperties::default()
        .with_headers(headers)
        .with_message_id(short("message id", &message.id().to_string())?)
        .with_content_type(short("content type", message.content_type())?)
        .with_delivery_mode(if message.is_durable() { 2 } else { 1 })
        .with_timestamp(now())
        .with_reply_to(short("service name", options.service)?);
    let properties = match message.content_encoding() {
        Some(encoding) => properties.with_content_encoding(short("content encoding", encoding)?),
        None => properties,
    };
    let properties = match expires_in {
        Some(left) => properties.with_expiration(short("expiration", &expiration(left))?),
        None => properties,
    };
    if !fits(&properties, DEAD_LETTER_ROOM, options.frame_max) {
        return Err(format!(
            "its headers do not fit into one frame of the broker ({} bytes)",
            options.frame_max
        ));
    }
    Ok(properties)
}

/// The expiration in AMQP: milliseconds as text. With 0 RabbitMQ drops the message unless a consumer is ready,
/// and above 2^32 - 1 it closes the channel.
fn expiration(left: Duration) -> String {
    left.as_millis().clamp(1, u128::from(u32::MAX)).to_string()
}

fn short(what: &str, text: &str) -> Result<ShortString, String> {
    names::short(text).map_err(|_| format!("its {what} is longer than 255 bytes"))
}

pub(super) fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}
