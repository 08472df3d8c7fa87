//! A message that comes back to its own queue after a detour.
//!
//! Input: an envelope, and how far the message is. Output: a message to write, straight into the service's queue, that
//! still has the producer's properties and headers. At its arrival: the delivery as it first came.
//!
//! What cannot be published again stands in a header of the bus: where the message came from, the headers of the
//! broker, and the expiration. The user id is lost: RabbitMQ accepts it only from that user, and any producer could
//! write one into our header.

use std::time::Duration;

use final_core::{
    broker::{DetourTo, Detoured},
    received::HeaderOwner,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use uuid::Uuid;

use super::{
    Original, WireForm, WireMessage, WireOptions, dead_letter,
    dead_letter::{kept, properties},
    encode::long,
    envelope::{Enveloped, open},
    fits, tag_header, text,
};
use crate::names;

/// How often the handler was tried, and how many milliseconds the message has waited for one.
const TRIED: &str = "x-final-tried";
const WAITED: &str = "x-final-waited";
/// What the message was when it first came.
const CAME: &str = "x-final-came";

/// The names in that header.
const EXCHANGE: &str = "exchange";
const ROUTING_KEY: &str = "routing-key";
const EXPIRATION: &str = "expiration";
const OWN_ID: &str = "id-of-the-bus";
const HEADERS: &str = "headers";

/// How far a message is that has made a detour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DetourProgress {
    /// How often the handler was tried.
    pub(crate) attempts: u32,
    /// How long it has waited for a handler.
    pub(crate) waited: Duration,
    /// Whether its id was made by this bus.
    pub(crate) is_id_ours: bool,
}

/// Makes a message that comes back ready to be written. The error says why this is not possible.
///
/// It has the id of the message that left its queue, and its record has another one. So it goes with its tag.
pub(super) fn encode(
    options: &WireOptions<'_>,
    detoured: Detoured,
    tag: Uuid,
) -> Result<WireMessage, String> {
    let mut wire = untagged(options, detoured)?;
    let mut headers = wire.properties.headers().clone().unwrap_or_default();
    let (name, tag) = tag_header(tag);
    headers.insert(name, tag);
    wire.properties = wire.properties.with_headers(headers);
    if !fits(&wire.properties, 0, options.frame_max) {
        return Err(too_large(options.frame_max));
    }
    Ok(wire)
}

fn untagged(options: &WireOptions<'_>, detoured: Detoured) -> Result<WireMessage, String> {
    let Enveloped {
        original,
        id,
        is_id_ours,
    } = open(&detoured.envelope, detoured.payload)?;
    let WireOptions {
        service,
        queue,
        frame_max,
    } = *options;
    match detoured.to {
        DetourTo::DeadLetters(cause) => {
            let names = (service, queue);
            let form = &WireForm::Whole;
            dead_letter(&original, &id, &cause, names, frame_max, form)
        }
        DetourTo::Queue {
            attempts, waited, ..
        } => {
            let progress = DetourProgress {
                attempts,
                waited,
                is_id_ours,
            };
            to_queue(&original, &id, progress, queue, frame_max)
        }
        _ => Err("its destination is not known to this release".to_owned()),
    }
}

fn to_queue(
    original: &Original,
    id: &str,
    progress: DetourProgress,
    queue: &str,
    frame_max: u32,
) -> Result<WireMessage, String> {
    let mut headers = kept(original.properties.headers().as_ref());
    let millis = i64::try_from(progress.waited.as_millis()).unwrap_or(i64::MAX);
    headers.insert(
        TRIED.into(),
        AMQPValue::LongLongInt(progress.attempts.into()),
    );
    headers.insert(WAITED.into(), AMQPValue::LongLongInt(millis));
    headers.insert(CAME.into(), AMQPValue::FieldTable(came(original, progress)));
    let short = |text: &str| names::short(text).map_err(|error| error.to_string());
    let properties = properties(&original.properties, headers, short(id)?, false);
    if !fits(&properties, 0, frame_max) {
        return Err(too_large(frame_max));
    }
    Ok(WireMessage {
        exchange: short("")?,
        routing_key: short(queue)?,
        properties,
        payload: original.payload.clone(),
        mandatory: true,
    })
}

fn too_large(frame_max: u32) -> String {
    format!("its headers do not fit into one frame of the broker ({frame_max} bytes)")
}

/// What the message was when it came, as far as the message itself cannot say it again.
fn came(original: &Original, progress: DetourProgress) -> FieldTable {
    let properties = &original.properties;
    let mut came = FieldTable::default();
    let mut note = |name: &str, text: Option<&ShortString>| {
        if let Some(text) = text {
            came.insert(name.into(), long(text.as_str()));
        }
    };
    note(EXCHANGE, Some(&original.exchange));
    note(ROUTING_KEY, Some(&original.routing_key));
    note(EXPIRATION, properties.expiration().as_ref());
    if progress.is_id_ours {
        came.insert(OWN_ID.into(), AMQPValue::Boolean(true));
    }
    let mut brokers = FieldTable::default();
    let headers = properties.headers().iter().flat_map(FieldTable::inner);
    for (name, value) in headers {
        // The counts of the next delivery are its own.
        let is_count = ["x-delivery-count", "x-acquired-count"]
            .iter()
            .any(|count| name.as_str().eq_ignore_ascii_case(count));
        if HeaderOwner::of(name.as_str()) == HeaderOwner::Broker && !is_count {
            brokers.insert(name.clone(), value.clone());
        }
    }
    if !brokers.inner().is_empty() {
        came.insert(HEADERS.into(), AMQPValue::FieldTable(brokers));
    }
    came
}

/// Makes a delivery again what it was before its detour, if it has made one.
pub(super) fn restore(original: &mut Original) {
    let Some(headers) = original.properties.headers() else {
        return;
    };
    let Some(AMQPValue::FieldTable(came)) = headers.inner().get(CAME) else {
        return;
    };
    let came = came.clone();
    let number = |name| match headers.inner().get(name) {
        Some(AMQPValue::LongLongInt(number)) => u64::try_from(*number).unwrap_or(0),
        _ => 0,
    };
    let short = |name| {
        let text = came.inner().get(name).and_then(text)?;
        names::short(text).ok()
    };
    original.progress = DetourProgress {
        attempts: u32::try_from(number(TRIED)).unwrap_or(u32::MAX),
        waited: Duration::from_millis(number(WAITED)),
        is_id_ours: came.contains_key(OWN_ID),
    };
    let mut own = FieldTable::default();
    for (name, value) in headers.inner() {
        if ![TRIED, WAITED, CAME].contains(&name.as_str()) {
            own.insert(name.clone(), value.clone());
        }
    }
    if let Some(AMQPValue::FieldTable(brokers)) = came.inner().get(HEADERS) {
        for (name, value) in brokers.inner() {
            own.insert(name.clone(), value.clone());
        }
    }
    let mut properties = std::mem::take(&mut original.properties).with_headers(own);
    if let Some(expiration) = short(EXPIRATION) {
        properties = properties.with_expiration(expiration);
    }
    original.properties = properties;
    if let (Some(exchange), Some(routing_key)) = (short(EXCHANGE), short(ROUTING_KEY)) {
        (original.exchange, original.routing_key) = (exchange, routing_key);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lapin::BasicProperties;

    use super::*;
    use crate::properties::envelope;

    /// Writes a delivery into an envelope, sends it back, and delivers it again.
    fn around(original: &Original, progress: DetourProgress) -> Original {
        let text = envelope(original, "7", progress.is_id_ours).unwrap();
        let opened = open(&text, original.payload.clone()).unwrap();
        assert_eq!((&*opened.id, opened.is_id_ours), ("7", progress.is_id_ours));
        let wire = to_queue(&opened.original, &opened.id, progress, "shop", 131_072).unwrap();
        assert_eq!(
            (wire.exchange.as_str(), wire.routing_key.as_str()),
            ("", "shop")
        );
        assert!(wire.properties.expiration().is_none());
        let topics = ["placed".into()];
        Original::new(
            wire.properties,
            wire.exchange,
            wire.routing_key,
            false,
            wire.payload,
            &topics,
        )
    }

    fn original(properties: BasicProperties) -> Original {
        let topics = ["placed".into()];
        let payload = Bytes::from_static(b"\0\xff");
        let (exchange, key) = ("placed".into(), "placed.eu".into());
        Original::new(properties, exchange, key, false, payload, &topics)
    }

    #[test]
    fn a_delivery_that_comes_back_is_what_it_was() {
        let mut headers = FieldTable::default();
        headers.insert("n".into(), AMQPValue::Float(0.1));
        headers.insert("x-death".into(), AMQPValue::Void);
        headers.insert("CC".into(), long("elsewhere"));
        let first = original(
            BasicProperties::default()
                .with_headers(headers)
                .with_message_id("7".into())
                .with_delivery_mode(2)
                .with_expiration("60000".into())
                .with_type("placed.v1".into()),
        );
        let progress = DetourProgress {
            attempts: 4,
            waited: Duration::from_millis(1_500),
            is_id_ours: false,
        };

        let second = around(&first, progress);
        let third = around(&second, progress);
        for again in [second, third] {
            assert_eq!(again.properties, first.properties);
            assert_eq!(again.exchange, first.exchange);
            assert_eq!(again.routing_key, first.routing_key);
            assert_eq!(again.payload, first.payload);
            assert_eq!(again.progress, progress);
            assert_eq!(again.routed_topic(), first.routed_topic());
        }
    }

    #[test]
    fn a_header_that_only_routes_a_message_does_not_route_it_again() {
        let mut headers = FieldTable::default();
        headers.insert("BCC".into(), long("elsewhere"));
        let first = original(BasicProperties::default().with_headers(headers));

        let wire = to_queue(&first, "7", DetourProgress::default(), "shop", 131_072).unwrap();
        assert!(
            !wire
                .properties
                .headers()
                .as_ref()
                .unwrap()
                .contains_key("BCC")
        );
    }

    #[test]
    fn headers_that_only_look_like_ours_change_nothing() {
        for value in [AMQPValue::Void, long("x"), AMQPValue::LongLongInt(-1)] {
            let mut headers = FieldTable::default();
            headers.insert(CAME.into(), value.clone());
            headers.insert(TRIED.into(), value);
            let original = original(BasicProperties::default().with_headers(headers));

            assert_eq!(original.progress, DetourProgress::default());
        }
    }
}
