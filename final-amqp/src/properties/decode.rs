//! Makes a message of a delivery.
//!
//! Input: a delivery. Output: a message, or the reason why there is none.

use std::sync::Arc;

use final_core::{
    Headers, Message, MessageId,
    received::{HeaderOwner, Origin},
};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};

use super::{
    GO_CONTENT_TYPE, MSGPACK, Original,
    original::{entries, value},
    text,
};
use crate::{
    inbound::{LEFT_OUT, SUBSTITUTE},
    names,
};

/// Reads a delivery to a service with these topics. The error says why it cannot be understood.
pub(crate) fn decode(original: &Arc<Original>, topics: &[Arc<str>]) -> Result<Message, String> {
    let properties = &original.properties;
    let headers = properties.headers().as_ref();
    if let Some(why) = headers.and_then(|headers| text(headers.inner().get(LEFT_OUT)?)) {
        return Err(why.to_owned());
    }
    let topic = topic(original)?;
    let id = identity(properties, topic)?;
    // Nearly all messages are of a topic of the service, and share its text.
    let known = topics.iter().find(|known| ***known == *topic);
    let topic = known.map_or_else(|| topic.into(), Arc::clone);
    let content_type = properties
        .content_type()
        .as_ref()
        .map(|kind| kind.as_str())
        .filter(|kind| !kind.is_empty() && *kind != GO_CONTENT_TYPE)
        .unwrap_or(MSGPACK);
    let payload = original.payload.clone();
    let message = match id {
        Some(id) => Message::identified(id, topic, payload),
        None => Message::new(topic, payload),
    };
    let mut message = message
        .with_headers(users(headers))
        .with_content_type(content_type)
        // Without a delivery mode a message is transient in AMQP.
        .with_durable(*properties.delivery_mode() == Some(2))
        .with_attempt(original.progress.attempts.saturating_add(1))
        .with_waited(original.progress.waited)
        .with_origin(Arc::clone(original) as Arc<dyn Origin>);
    let encoding = properties.content_encoding().as_ref();
    if let Some(encoding) = encoding.filter(|encoding| !encoding.as_str().is_empty()) {
        message = message.with_content_encoding(encoding.as_str());
    }
    let key = headers.and_then(|headers| text(headers.inner().get(names::KEY)?));
    if let Some(key) = key {
        message = message.with_key(key);
    }
    Ok(message)
}

/// The topic: from the header, or else as the message was routed.
pub(crate) fn topic(original: &Original) -> Result<&str, String> {
    let headers = original.properties.headers().as_ref();
    let (topic, place) = match headers.and_then(|headers| headers.inner().get(names::TOPIC)) {
        Some(value) => {
            let topic = text(value).ok_or_else(|| format!("header {} is no text", names::TOPIC))?;
            (topic, names::TOPIC)
        }
        None => original.routed_topic(),
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

/// The producer's headers, each with the text of its value. Values that have no text are left out, and so are
/// names that are not UTF-8.
fn users(headers: Option<&FieldTable>) -> Headers {
    headers
        .into_iter()
        .flat_map(entries)
        .filter(|(name, _)| HeaderOwner::of(name) == HeaderOwner::Producer)
        .filter_map(|(name, value)| Some((name, as_text(value)?)))
        .collect()
}

fn as_text(of: &AMQPValue) -> Option<String> {
    // Nearly all values are texts.
    if let Some(text) = text(of) {
        return Some(text.to_owned());
    }
    Some(value(of).to_text()?.into_owned())
}
