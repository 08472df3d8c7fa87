//! A delivery that is put away: what it was, and why.

use bytes::Bytes;
use final_core::broker::DeadLetter;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{WireMessage, encode::long, fits, now, text};
use crate::names;

/// A delivery as it came, kept as long as it is in hand.
#[derive(Clone, Debug)]
pub(crate) struct Original {
    pub(crate) properties: BasicProperties,
    pub(crate) routing_key: ShortString,
    pub(crate) payload: Bytes,
}

/// Makes the dead letter: the original payload, properties and headers, with our own added.
///
/// The user's headers keep their types. With `bare` they are left out: for an original the broker
/// does not take back as it is.
pub(crate) fn dead_letter(
    original: &Original,
    id: &str,
    letter: &DeadLetter,
    (service, queue): (&str, &str),
    frame_max: u32,
    bare: bool,
) -> Result<WireMessage, String> {
    let short = |text: &str| names::short(text).map_err(|error| error.to_string());
    let ours = |headers: &mut FieldTable| {
        // A Delivery can be settled with a reason that was not cut.
        let cut = DeadLetter::new(letter.reason.as_str(), letter.attempts);
        headers.insert(short(names::REASON)?, long(&cut.reason));
        headers.insert(
            short(names::ATTEMPTS)?,
            AMQPValue::LongLongInt(letter.attempts.into()),
        );
        headers.insert(short(names::SERVICE)?, long(service));
        headers.insert(short(names::TIME)?, AMQPValue::Timestamp(now()));
        let had = original.properties.headers().as_ref();
        let topic = had
            .and_then(|headers| text(headers.inner().get(names::TOPIC)?))
            .unwrap_or(original.routing_key.as_str());
        headers.insert(short(names::TOPIC)?, long(topic));
        Ok::<_, String>(())
    };
    let mut headers = if bare {
        FieldTable::default()
    } else {
        kept(original.properties.headers().as_ref())
    };
    ours(&mut headers)?;
    if !fits(&headers, frame_max) {
        headers = FieldTable::default();
        ours(&mut headers)?;
    }
    Ok(WireMessage {
        exchange: short(&names::dead_letter_exchange(queue))?,
        routing_key: original.routing_key.clone(),
        properties: properties(&original.properties, headers, short(id)?, bare),
        payload: original.payload.clone(),
        mandatory: true,
    })
}

/// The original's headers without the broker's own, and without those that would route it elsewhere.
pub(super) fn kept(headers: Option<&FieldTable>) -> FieldTable {
    let mut kept = FieldTable::default();
    let all = headers.into_iter().flat_map(|headers| headers.inner());
    for (name, value) in all {
        let lower = name.as_str().to_ascii_lowercase();
        let brokers = lower == "x-death"
            || lower.starts_with("x-first-death-")
            || lower.starts_with("x-last-death-")
            || lower == "x-delivery-count"
            || lower == "cc"
            || lower == "bcc";
        if !brokers {
            kept.insert(name.clone(), value.clone());
        }
    }
    kept
}

/// The original's properties without its expiration, and without the user id, which RabbitMQ takes
/// from that user only.
fn properties(
    original: &BasicProperties,
    headers: FieldTable,
    id: ShortString,
    bare: bool,
) -> BasicProperties {
    let mut kept = BasicProperties::default()
        .with_headers(headers)
        .with_message_id(id)
        .with_delivery_mode(original.delivery_mode().unwrap_or(1));
    if bare {
        return kept;
    }
    if let Some(value) = original.content_type() {
        kept = kept.with_content_type(value.clone());
    }
    if let Some(value) = original.content_encoding() {
        kept = kept.with_content_encoding(value.clone());
    }
    if let Some(value) = original.priority() {
        kept = kept.with_priority(*value);
    }
    if let Some(value) = original.correlation_id() {
        kept = kept.with_correlation_id(value.clone());
    }
    if let Some(value) = original.reply_to() {
        kept = kept.with_reply_to(value.clone());
    }
    if let Some(value) = original.timestamp() {
        kept = kept.with_timestamp(*value);
    }
    if let Some(value) = original.kind() {
        kept = kept.with_type(value.clone());
    }
    if let Some(value) = original.app_id() {
        kept = kept.with_app_id(value.clone());
    }
    kept
}
