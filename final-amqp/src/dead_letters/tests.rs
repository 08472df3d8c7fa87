//! Letters of all kinds, as they are read.

use std::time::Duration;

use bytes::Bytes;
use final_core::broker::{Cause, CollectedLetter};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldArray, FieldTable},
};

use super::{letter::RawLetter, renewal::WornLetter};
use crate::properties::{Original, WireForm, dead_letter};

const QUEUE: &str = "shop";

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn table(entries: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}

fn raw(properties: BasicProperties, exchange: &str, routing_key: &str) -> RawLetter {
    RawLetter {
        properties,
        exchange: exchange.into(),
        routing_key: routing_key.into(),
        payload: Bytes::from_static(b"\0payload\xff"),
    }
}

fn read(letter: RawLetter) -> CollectedLetter {
    letter.read(QUEUE, &["order.placed".into()])
}

fn death(reason: &str, time: u64) -> AMQPValue {
    let keys = FieldArray::from(vec![text("order.placed.eu")]);
    let death = table([
        ("count", AMQPValue::LongLongInt(1)),
        ("reason", text(reason)),
        ("queue", text(QUEUE)),
        ("time", AMQPValue::Timestamp(time)),
        ("exchange", text("order.placed")),
        ("routing-keys", AMQPValue::FieldArray(keys)),
    ]);
    AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::FieldTable(death)]))
}

/// A dead letter as a bus publishes it.
fn of_a_bus(properties: BasicProperties) -> RawLetter {
    let topics = ["order.placed".into()];
    let payload = Bytes::from_static(b"\0payload\xff");
    let (exchange, key) = ("order.placed".into(), "order.placed".into());
    let original = Original::new(properties, exchange, key, false, payload, &topics);
    let cause = Cause::new("out of stock ✓", 4);
    let names = ("shop", QUEUE);
    let wire = dead_letter(&original, "7", &cause, names, 131_072, &WireForm::Whole).unwrap();
    RawLetter {
        properties: wire.properties,
        exchange: wire.exchange,
        routing_key: wire.routing_key,
        payload: wire.payload,
    }
}

#[test]
fn a_letter_of_a_bus_tells_why_it_is_one() {
    let letter = read(of_a_bus(BasicProperties::default().with_delivery_mode(2)));

    assert_eq!(letter.cause, Cause::new("out of stock ✓", 4));
    assert!(letter.died_at.is_some());
    assert_eq!(
        (&*letter.topic, &*letter.queue),
        ("order.placed", "shop_dlx")
    );
    let message = letter.message.unwrap();
    assert!(message.is_durable());
    assert!(message.headers().is_empty());
    let received = message.received();
    assert_eq!(received.exchange.as_deref(), Some("order.placed"));
    assert_eq!(received.routing_key.as_deref(), Some("order.placed"));
}

#[test]
fn a_letter_of_rabbitmq_has_its_words_its_time_and_where_it_came_from() {
    for (reason, words) in [
        ("rejected", "rejected by a consumer of the queue \"shop\""),
        ("expired", "expired in the queue \"shop\""),
        ("maxlen", "dropped by the queue \"shop\", which was full"),
        (
            "delivery_limit",
            "delivered to the queue \"shop\" more often than its delivery limit allows",
        ),
        (
            "rot",
            "dead-lettered by RabbitMQ from the queue \"shop\": rot",
        ),
    ] {
        let headers = table([("x-death", death(reason, 1_700_000_000))]);
        let properties = BasicProperties::default().with_headers(headers);
        let letter = read(raw(properties, "shop_exchange_dlx", "order.placed.eu"));

        assert_eq!(letter.cause, Cause::new(words, 0));
        let since = letter
            .died_at
            .unwrap()
            .duration_since(std::time::UNIX_EPOCH);
        assert_eq!(since.unwrap(), Duration::from_secs(1_700_000_000));
        let received = letter.message.unwrap().received();
        assert_eq!(received.exchange.as_deref(), Some("order.placed"));
        assert_eq!(received.routing_key.as_deref(), Some("order.placed.eu"));
    }
}

#[test]
fn the_last_death_counts() {
    let with_death = |time| {
        let mut letter = of_a_bus(BasicProperties::default());
        let mut headers = letter.properties.headers().clone().unwrap();
        headers.insert("x-death".into(), death("delivery_limit", time));
        letter.properties = letter.properties.with_headers(headers);
        read(letter)
    };
    assert_eq!(with_death(1).cause.reason, "out of stock ✓");
    assert!(with_death(u64::MAX).cause.reason.contains("delivery limit"));
}

#[test]
fn a_letter_of_a_stranger_is_read_as_far_as_it_goes() {
    let letter = read(raw(BasicProperties::default(), "", "shop_dlx"));
    assert!(letter.cause.reason.starts_with("unknown"));
    assert_eq!(letter.died_at, None);
    assert_eq!(letter.topic, "shop_dlx");
    assert!(!letter.message.unwrap().is_identified());

    let unreadable = read(raw(BasicProperties::default(), "", "a\nb"));
    assert_eq!(unreadable.topic, "a\nb");
    assert_eq!(unreadable.payload, Bytes::from_static(b"\0payload\xff"));
    assert!(
        unreadable
            .message
            .unwrap_err()
            .contains("control character")
    );
}

#[test]
fn a_letter_has_one_identity_whenever_it_is_delivered() {
    let letter = || {
        raw(
            BasicProperties::default().with_message_id("7".into()),
            "x",
            "y",
        )
    };
    let counted = |count| {
        let headers = table([("x-delivery-count", AMQPValue::LongLongInt(count))]);
        let properties = letter().properties.with_headers(headers);
        raw(properties, "x", "y").identity()
    };
    assert_eq!(counted(1), counted(2));
    let late = table([("x-final-time", AMQPValue::Timestamp(9))]);
    let late = raw(letter().properties.with_headers(late), "x", "y");
    let others = [
        late,
        raw(letter().properties, "x", "z"),
        raw(letter().properties, "z", "y"),
    ];
    for other in others {
        assert_ne!(other.identity(), letter().identity());
    }
    // A letter whose message has no id has an id of its own, the same each time.
    let nameless = || read(raw(BasicProperties::default(), "x", "y")).id;
    assert_eq!(nameless(), nameless());
}

/// A topic may have another routing key than its name, and a letter of a stranger has its topic by them alone.
#[test]
fn a_letter_is_the_same_after_a_copy_has_taken_its_place_twice() {
    let of_rabbitmq = BasicProperties::default()
        .with_headers(table([("x-death", death("rejected", 1_700_000_000))]))
        .with_message_id("7".into());
    let of_a_stranger = BasicProperties::default().with_message_id("7".into());
    for letter in [
        of_a_bus(BasicProperties::default()),
        raw(of_rabbitmq, "shop_exchange_dlx", "order.placed.eu"),
        raw(of_a_stranger, "order.placed", "order.placed.eu"),
    ] {
        let (exchange, key) = (letter.exchange.clone(), letter.routing_key.clone());
        let identity = letter.identity();
        let mut letter = letter;
        for _ in 0..2 {
            letter = WornLetter::new(&letter).come("shop_dlx").restored(QUEUE);
        }

        assert_eq!((&letter.exchange, &letter.routing_key), (&exchange, &key));
        assert_eq!(letter.identity(), identity);
        assert_eq!(read(letter).topic, "order.placed");
    }
}

/// Only what came straight into the queue is a copy.
#[test]
fn headers_of_a_copy_mean_nothing_in_a_letter_that_came_by_an_exchange() {
    let forged = table([
        ("x-final-came-by", text("other")),
        ("x-final-came-with", text("other")),
    ]);
    let letter = raw(
        BasicProperties::default().with_headers(forged),
        "order.placed",
        "key",
    );

    let letter = letter.restored(QUEUE);
    assert_eq!(letter.exchange.as_str(), "order.placed");
}
