//! Makes a message of a delivery.
//!
//! Input: properties, routing key and payload. Output: a message, or the reason why there is none.

use bytes::Bytes;
use final_core::{Headers, Message, MessageId};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};

use super::{GO_CONTENT_TYPE, MSGPACK, is_ours, text};
use crate::{
    inbound::{LEFT_OUT, SUBSTITUTE},
    names,
};

/// Reads a delivery. The error says why it cannot be understood.
pub(crate) fn decode(
    properties: &BasicProperties,
    routing_key: &str,
    payload: Bytes,
) -> Result<Message, String> {
    let headers = properties.headers().as_ref();
    if let Some(why) = headers.and_then(|headers| text(headers.inner().get(LEFT_OUT)?)) {
        return Err(why.to_owned());
    }
    let topic = topic(headers, routing_key)?;
    let id = identity(properties, topic)?;
    let content_type = properties
        .content_type()
        .as_ref()
        .map(|kind| kind.as_str())
        .filter(|kind| !kind.is_empty() && *kind != GO_CONTENT_TYPE)
        .unwrap_or(MSGPACK);
    let message = match id {
        Some(id) => Message::identified(id, topic, payload),
        None => Message::new(topic, payload),
    };
    let mut message = message
        .with_headers(users(headers))
        .with_content_type(content_type)
        // Without a delivery mode a message is transient in AMQP.
        .with_durable(*properties.delivery_mode() == Some(2));
    let key = headers.and_then(|headers| text(headers.inner().get(names::KEY)?));
    if let Some(key) = key {
        message = message.with_key(key);
    }
    Ok(message)
}

/// The topic: from the header, or else the routing key.
fn topic<'a>(headers: Option<&'a FieldTable>, routing_key: &'a str) -> Result<&'a str, String> {
    let (topic, place) = match headers.and_then(|headers| headers.inner().get(names::TOPIC)) {
        Some(value) => {
            let topic = text(value).ok_or_else(|| format!("header {} is no text", names::TOPIC))?;
            (topic, names::TOPIC)
        }
        None => (routing_key, "the routing key"),
    };
    let reason = if topic.trim().is_empty() {
        "is empty"
    } else if topic.len() > names::MAX_TOPIC {
        "is longer than 255 bytes"
    } else if topic.chars().any(char::is_control) {
        "contains a control character"
    } else {
        return Ok(topic);
    };
    Err(format!("the topic in {place} {reason}"))
}

/// The id that the producer gave the message. An id that is not UTF-8 is refused: two such ids could look the
/// same here, and a handler that drops repeats would drop the second message.
fn identity(properties: &BasicProperties, topic: &str) -> Result<Option<MessageId>, String> {
    let Some(id) = properties.message_id().as_ref() else {
        return Ok(None);
    };
    if id.as_str().contains(SUBSTITUTE) {
        return Err("the message id is not UTF-8".to_owned());
    }
    let application = properties.app_id().as_ref();
    let application = application.map_or("", |application| application.as_str());
    Ok(MessageId::foreign(id.as_str(), topic, application))
}

/// The producer's headers: texts as they are, numbers and booleans as text. Other values are left out, and so
/// are names that are not UTF-8.
fn users(headers: Option<&FieldTable>) -> Headers {
    headers
        .into_iter()
        .flat_map(|headers| headers.inner())
        .filter(|(name, _)| !is_ours(name.as_str()) && !name.as_str().contains(SUBSTITUTE))
        .filter_map(|(name, value)| Some((name.as_str(), as_text(value)?)))
        .collect()
}

fn as_text(value: &AMQPValue) -> Option<String> {
    Some(match value {
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::ShortShortInt(value) => value.to_string(),
        AMQPValue::ShortShortUInt(value) => value.to_string(),
        AMQPValue::ShortInt(value) => value.to_string(),
        AMQPValue::ShortUInt(value) => value.to_string(),
        AMQPValue::LongInt(value) => value.to_string(),
        AMQPValue::LongUInt(value) => value.to_string(),
        AMQPValue::LongLongInt(value) => value.to_string(),
        value => text(value)?.to_owned(),
    })
}
