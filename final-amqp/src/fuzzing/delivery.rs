//! What must hold for any delivery.
//!
//! Input: bytes, read as the length of a routing key, the key, the properties as they come over the wire, and
//! the payload. Output: a panic if the delivery is neither understood nor refused with a short reason, or
//! cannot be dead-lettered.

use std::sync::Arc;

use bytes::Bytes;
use final_core::{
    Message, MessageId,
    broker::{Cause, Outgoing, Sending},
    fuzzing::check_error,
    received::HeaderOwner,
};
use lapin::{
    BasicProperties,
    protocol::basic::{gen_properties, parse_properties},
};

use crate::{
    dead_letters::RawLetter,
    properties::{Original, WireForm, WireOptions, dead_letter, decode, encode, open},
};

/// What RabbitMQ and lapin agree on unless told otherwise.
const FRAME_MAX: u32 = 131_072;

/// The length of the routing key, the routing key, the properties of a content header, the payload.
pub fn delivery(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first() else {
        return;
    };
    let Some((routing_key, rest)) = rest.split_at_checked(usize::from(*length)) else {
        return;
    };
    // lapin refuses what is no UTF-8 before it comes to us.
    let Ok(routing_key) = std::str::from_utf8(routing_key) else {
        return;
    };
    let Ok((payload, properties)) = parse_properties(rest) else {
        return;
    };
    let payload = Bytes::copy_from_slice(payload);
    let original = Original::for_test(properties.clone(), routing_key, payload.clone());
    match decode(&Arc::new(original.clone()), &[]) {
        Ok(message) => is_the_same(&message, &properties, &payload),
        Err(reason) => check_error(&reason, 256),
    }
    can_be_collected(&original);
    can_be_dead_lettered(original);
}

/// Every delivery can stand in the dead-letter queue. What is kept of it can be sent again.
fn can_be_collected(original: &Original) {
    let raw = RawLetter {
        properties: original.properties.clone(),
        exchange: original.exchange.clone(),
        routing_key: original.routing_key.clone(),
        payload: original.payload.clone(),
    };
    let identity = raw.identity();
    let letter = raw.read("shop", &[]);
    assert_eq!(letter.identity, identity);
    assert!(letter.cause.reason.len() <= Cause::MAX_REASON);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    assert!(letter.envelope.bytes().all(is_plain));
    let again = match open(&letter.envelope, letter.payload.clone()) {
        Ok(again) => again,
        Err(reason) => panic!("the envelope of a letter is not read: {reason}"),
    };
    assert_eq!(again.original.payload, original.payload);
    if let (Ok(message), Ok(again)) = (letter.message, decode(&Arc::new(again.original), &[])) {
        assert_eq!(message.topic(), again.topic());
        assert_eq!(message.key(), again.key());
        assert_eq!(message.headers(), again.headers());
        assert_eq!(message.content_type(), again.content_type());
    }
}

/// What was understood is sent on and understood as the same.
fn is_the_same(message: &Message, properties: &BasicProperties, payload: &Bytes) {
    assert_eq!(message.payload(), payload);
    assert!(!message.topic().trim().is_empty() && message.topic().len() <= 255);
    let application = properties.app_id().as_ref();
    let application = application.map_or("", |application| application.as_str());
    let id = properties.message_id().as_ref();
    let id = id.and_then(|id| MessageId::foreign(id.as_str(), message.topic(), application));
    assert_eq!(message.is_identified(), id.is_some());
    assert!(id.is_none_or(|id| id == message.id()));
    let is_producers = |name: &str| HeaderOwner::of(name) == HeaderOwner::Producer;
    assert!(message.headers().iter().all(|(name, _)| is_producers(name)));
    is_told(message);

    let sending = sending(message);
    let options = WireOptions {
        queue: "shop",
        service: "shop",
        frame_max: FRAME_MAX,
    };
    let Ok(wire) = encode(&options, &sending, true) else {
        // The only thing too large for another header frame: ours come on top.
        return assert!(written(properties).len() > FRAME_MAX as usize / 2);
    };
    let sent = written(&wire.properties);
    assert!(sent.len() < FRAME_MAX as usize);
    let (rest, again) = read(&sent);
    assert!(rest.is_empty());
    let again = Original::for_test(again, wire.routing_key, wire.payload);
    let again = decode(&Arc::new(again), &[])
        .unwrap_or_else(|reason| panic!("does not understand itself: {reason}"));
    assert_eq!(again.id(), message.id());
    assert_eq!(again.topic(), message.topic());
    assert_eq!(again.key(), message.key());
    assert_eq!(again.headers(), message.headers());
    assert_eq!(again.content_type(), message.content_type());
    assert_eq!(again.content_encoding(), message.content_encoding());
    assert_eq!(again.is_durable(), message.is_durable());
    assert_eq!(again.payload(), payload);
}

/// Every header that a handler sees as a text is there with its type, and has the same text.
fn is_told(message: &Message) {
    let received = message.received();
    for (name, text) in message.headers().iter() {
        let value = &received.headers[name];
        assert_eq!(value.to_text().as_deref(), Some(text), "{name}");
    }
}

/// Every delivery can become a dead letter that the broker takes.
fn can_be_dead_lettered(original: Original) {
    let letter = Cause::new("\u{e4}".repeat(2_000), u32::MAX);
    for form in [WireForm::Whole, WireForm::Bare("\u{e4}".repeat(2_000))] {
        let wire = dead_letter(&original, "id-1", &letter, ("shop", "q"), FRAME_MAX, &form)
            .unwrap_or_else(|reason| panic!("no dead letter: {reason}"));
        let sent = written(&wire.properties);
        assert!(sent.len() < FRAME_MAX as usize);
        assert_eq!(wire.payload, original.payload);
        assert_eq!(wire.routing_key, original.routing_key);
        assert!(wire.properties.expiration().is_none() && wire.properties.user_id().is_none());
        let headers = wire.properties.headers().clone().unwrap_or_default();
        for name in headers.inner().keys() {
            let name = name.as_str().to_ascii_lowercase();
            assert!(!["cc", "bcc", "x-death"].contains(&&*name), "{name} stays");
        }
        let (_, again) = read(&sent);
        let again = Original::for_test(again, wire.routing_key, wire.payload);
        let _ = decode(&Arc::new(again), &[]);
        if form != WireForm::Whole {
            assert!(headers.inner().len() == 5, "the user's headers stay");
        }
    }
}

fn sending(message: &Message) -> Sending {
    match Outgoing::untracked(message.clone()).into_sending() {
        Some(sending) => sending,
        None => panic!("nothing leases it, and its lease is over"),
    }
}

fn written(properties: &BasicProperties) -> Vec<u8> {
    match gen_properties(properties)(Vec::new().into()) {
        Ok(written) => written.write,
        Err(error) => panic!("cannot be written: {error}"),
    }
}

fn read(written: &[u8]) -> (&[u8], BasicProperties) {
    parse_properties(written)
        .unwrap_or_else(|error| panic!("does not read what it wrote: {error:?}"))
}
