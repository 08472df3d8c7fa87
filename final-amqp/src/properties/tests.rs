//! Messages and dead letters as properties, and read back from any properties.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use final_core::{
    Message, MessageId,
    broker::{Cause, Outgoing},
    received::{HeaderOwner, HeaderValue, Received},
};
use lapin::{
    BasicProperties,
    types::{AMQPValue, DecimalValue, FieldArray, FieldTable, LongString, ShortString},
};
use proptest::{collection::btree_map, prelude::*};
use uuid::Uuid;

use super::{
    Original, WireForm, WireMessage, dead_letter, encode,
    encode::{WireOptions, properties},
    envelope, fingerprint, tag,
};

const OPTIONS: WireOptions<'static> = WireOptions {
    queue: "shop",
    service: "shop",
    frame_max: 131_072,
};

fn original(properties: BasicProperties, key: &str, payload: Bytes) -> Original {
    Original::for_test(properties, key, payload)
}

fn decode(properties: &BasicProperties, key: &str, payload: Bytes) -> Result<Message, String> {
    super::decode(&Arc::new(original(properties.clone(), key, payload)), &[])
}

fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref()?.inner().get(name)
}

fn with_header(name: &str, value: AMQPValue) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(name.into(), value);
    BasicProperties::default().with_headers(headers)
}

fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

#[test]
fn keeps_the_wire_contract() {
    let message = Message::new("order.placed", "body")
        .with_key("42")
        .with_header("traceparent", "00-1");
    let sent = properties(&OPTIONS, &message, None, Some(Duration::from_secs(1))).unwrap();

    let id = message.id().to_string();
    assert_eq!(sent.message_id().as_ref().unwrap().as_str(), id);
    assert_eq!(sent.reply_to().as_ref().unwrap().as_str(), "shop");
    assert_eq!(sent.expiration().as_ref().unwrap().as_str(), "1000");
    assert_eq!(*sent.delivery_mode(), Some(2));
    assert_eq!(
        header(&sent, "x-final-msg-topic"),
        Some(&long("order.placed"))
    );
    assert_eq!(header(&sent, "x-final-key"), Some(&long("42")));
    assert_eq!(header(&sent, "traceparent"), Some(&long("00-1")));
    assert!(sent.timestamp().is_some());
}

#[test]
fn expiration_stays_in_the_brokers_range() {
    for (left, text) in [
        (Duration::ZERO, "1"),
        (Duration::from_micros(10), "1"),
        (Duration::MAX, "4294967295"),
    ] {
        let sent = properties(&OPTIONS, &Message::new("t", ""), None, Some(left)).unwrap();

        assert_eq!(sent.expiration().as_ref().unwrap().as_str(), text);
    }
}

#[test]
fn what_cannot_be_encoded_is_an_error_and_no_panic() {
    let long = "x".repeat(256);
    for message in [
        Message::new("t", "").with_header(long.as_str(), "v"),
        Message::new("t", "").with_content_type(long.as_str()),
        Message::new("t", "").with_header("large", "x".repeat(130_000)),
    ] {
        assert!(properties(&OPTIONS, &message, None, None).is_err());
    }
}

#[test]
fn reads_what_the_predecessor_sends() {
    let sent = with_header("x-final-msg-topic", long("topic1"))
        .with_content_type("string".into())
        .with_message_id("b6b6eb8a-9d5c-4ac9-b62a-d0c7a2c6b2c1".into())
        .with_delivery_mode(2);
    let message = decode(&sent, "other", Bytes::from("body")).unwrap();

    assert_eq!(message.topic(), "topic1");
    assert_eq!(message.content_type(), "application/msgpack");
    assert_eq!(
        message.id().to_string(),
        "b6b6eb8a-9d5c-4ac9-b62a-d0c7a2c6b2c1"
    );
    assert!(message.is_durable());
    assert!(message.headers().is_empty());
}

#[test]
fn reads_a_plain_message_by_its_routing_key() {
    let message = decode(&BasicProperties::default(), "topic1", Bytes::new()).unwrap();

    assert_eq!(message.topic(), "topic1");
    assert_eq!(message.content_type(), "application/msgpack");
}

#[test]
fn what_identifies_nothing_is_no_id() {
    for id in [
        "",
        " ",
        "00000000-0000-0000-0000-000000000000",
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
    ] {
        let sent = BasicProperties::default().with_message_id(id.into());
        let [one, other] = [0, 1].map(|_| decode(&sent, "t", Bytes::new()).unwrap());

        assert!(!one.is_identified(), "{id:?}");
        assert_ne!(one.id(), other.id(), "{id:?}");
    }
}

#[test]
fn an_id_is_its_producers_on_its_topic() {
    let id = |id: &str, topic: &str, application: &str| {
        let sent = BasicProperties::default()
            .with_message_id(id.into())
            .with_app_id(application.into());
        let message = decode(&sent, topic, Bytes::new()).unwrap();
        assert!(message.is_identified());
        message.id()
    };

    assert_eq!(id("1", "placed", "shop"), id("1", "placed", "shop"));
    assert_ne!(id("1", "placed", "shop"), id("1", "cancelled", "shop"));
    assert_ne!(id("1", "placed", "shop"), id("1", "placed", "mail"));
    assert_ne!(id("1", "placed", "shop"), id("1", "placeds", "hop"));
    assert_ne!(id("A1", "placed", "shop"), id("a1", "placed", "shop"));
    let uuid = "b6b6eb8a-9d5c-4ac9-b62a-d0c7a2c6b2c1";
    let written = [
        uuid.to_owned(),
        uuid.to_uppercase(),
        uuid.replace('-', ""),
        format!("{{{uuid}}}"),
        format!("urn:uuid:{uuid}"),
    ];
    for written in written {
        assert_eq!(id(&written, "cancelled", "mail").to_string(), uuid);
    }
}

#[test]
fn a_delivery_looks_the_same_when_it_comes_again_and_as_no_other() {
    let looks = |properties: &BasicProperties, exchange, key, payload: &[u8]| {
        let payload = Bytes::copy_from_slice(payload);
        let (exchange, key) = (ShortString::from(exchange), ShortString::from(key));
        let delivery = Original::new(properties.clone(), exchange, key, false, payload, &[]);
        fingerprint(&delivery)
    };
    let sent = with_header("tenant", long("acme")).with_timestamp(1);
    let first = looks(&sent, "e", "k", b"p");

    let mut headers = sent.headers().clone().unwrap();
    headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(3));
    headers.insert("x-acquired-count".into(), AMQPValue::LongLongInt(7));
    let again = sent.clone().with_headers(headers);
    assert_eq!(looks(&again, "e", "k", b"p"), first);
    let others = [
        looks(&sent, "e", "k", b"q"),
        looks(&sent, "ek", "", b"p"),
        looks(&sent, "e", "other", b"p"),
        looks(&sent.clone().with_timestamp(2), "e", "k", b"p"),
        looks(&with_header("tenant", long("acme")), "e", "k", b"p"),
        looks(
            &with_header("tenant", long("other")).with_timestamp(1),
            "e",
            "k",
            b"p",
        ),
    ];
    assert!(!others.contains(&first));
}

/// Each with the text that a handler sees, and with its type.
fn values() -> Vec<(&'static str, AMQPValue, Option<&'static str>, HeaderValue)> {
    let table = |value: AMQPValue| {
        let mut table = FieldTable::default();
        table.insert("a".into(), value);
        table
    };
    let decimal = |value: u32| AMQPValue::DecimalValue(DecimalValue { scale: 2, value });
    let time = UNIX_EPOCH + Duration::from_secs(1_709_164_800);
    let told = |text: &str| HeaderValue::Text(text.to_owned());
    vec![
        ("text", long("a"), Some("a"), told("a")),
        ("empty", long(""), Some(""), told("")),
        (
            "flag",
            AMQPValue::Boolean(true),
            Some("true"),
            HeaderValue::Bool(true),
        ),
        (
            "i8",
            AMQPValue::ShortShortInt(-7),
            Some("-7"),
            HeaderValue::Int(-7),
        ),
        (
            "u32",
            AMQPValue::LongUInt(u32::MAX),
            Some("4294967295"),
            HeaderValue::Int(u32::MAX.into()),
        ),
        (
            "i64",
            AMQPValue::LongLongInt(i64::MIN),
            Some("-9223372036854775808"),
            HeaderValue::Int(i64::MIN),
        ),
        (
            "f32",
            AMQPValue::Float(0.1),
            Some("0.1"),
            HeaderValue::Float(0.1),
        ),
        (
            "f64",
            AMQPValue::Double(1.5),
            Some("1.5"),
            HeaderValue::Float(1.5),
        ),
        (
            "sent",
            AMQPValue::Timestamp(1_709_164_800),
            Some("2024-02-29T00:00:00Z"),
            HeaderValue::Time(time),
        ),
        (
            "millis",
            AMQPValue::Timestamp(1_709_164_800_000),
            Some("1709164800000"),
            HeaderValue::Time(UNIX_EPOCH + Duration::from_secs(1_709_164_800_000)),
        ),
        (
            "before",
            AMQPValue::Timestamp(u64::MAX),
            Some("1969-12-31T23:59:59Z"),
            HeaderValue::Time(UNIX_EPOCH - Duration::from_secs(1)),
        ),
        (
            "price",
            decimal(1250),
            Some("12.50"),
            HeaderValue::Decimal {
                value: 1250,
                scale: 2,
            },
        ),
        (
            "loss",
            decimal(1250_u32.wrapping_neg()),
            Some("-12.50"),
            HeaderValue::Decimal {
                value: -1250,
                scale: 2,
            },
        ),
        (
            "tenant",
            AMQPValue::ByteArray(b"acme".to_vec().into()),
            Some("acme"),
            HeaderValue::Bytes(b"acme".to_vec()),
        ),
        (
            "raw",
            AMQPValue::ByteArray(vec![0xff].into()),
            None,
            HeaderValue::Bytes(vec![0xff]),
        ),
        (
            "latin",
            AMQPValue::LongString(LongString::from(vec![0xe9])),
            None,
            HeaderValue::Bytes(vec![0xe9]),
        ),
        ("nil", AMQPValue::Void, None, HeaderValue::Nil),
        (
            "list",
            AMQPValue::FieldArray(vec![long("a"), AMQPValue::Void].into()),
            None,
            HeaderValue::List(vec![told("a"), HeaderValue::Nil]),
        ),
        (
            "table",
            AMQPValue::FieldTable(table(long("b"))),
            None,
            HeaderValue::Table([("a".to_owned(), told("b"))].into()),
        ),
    ]
}

#[test]
fn a_handler_sees_the_text_of_every_value_that_has_one_and_each_with_its_type() {
    let mut headers = FieldTable::default();
    for (name, value, ..) in values() {
        headers.insert(name.into(), value);
    }
    let sent = BasicProperties::default().with_headers(headers);
    let message = decode(&sent, "t", Bytes::new()).unwrap();
    let received = message.received();

    for (name, _, text, value) in values() {
        assert_eq!(message.headers().get(name), text, "{name}");
        assert_eq!(received.headers[name], value, "{name}");
    }
    assert_eq!(received.headers.len(), values().len());
}

#[test]
fn only_headers_of_the_bus_and_the_broker_are_hidden() {
    let producers = [
        "traceparent",
        "x-request-id",
        "X-B3-TraceId",
        "x-datadog-trace-id",
        "x-tenant",
        "x-retry-count",
        "x-",
        "X",
    ];
    let brokers = ["x-death", "X-First-Death-Queue", "x-delivery-count", "CC"];
    let buses = ["X-Final-Reason", "x-final-key", "\u{1a}name"];
    let mut headers = FieldTable::default();
    for name in producers.iter().chain(&brokers).chain(&buses) {
        headers.insert((*name).into(), long("42"));
    }
    let sent = BasicProperties::default().with_headers(headers);
    let message = decode(&sent, "t", Bytes::new()).unwrap();

    let seen: BTreeSet<_> = message.headers().iter().map(|(name, _)| name).collect();
    assert_eq!(seen, BTreeSet::from(producers));
    assert_eq!(message.key(), Some("42"));
    let received = message.received().headers;
    let typed: BTreeSet<_> = received.keys().map(String::as_str).collect();
    assert_eq!(typed, producers.into_iter().chain(brokers).collect());
}

#[test]
fn a_handler_can_have_all_properties() {
    let mut headers = FieldTable::default();
    headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(3));
    let sent = BasicProperties::default()
        .with_headers(headers)
        .with_message_id("17".into())
        .with_correlation_id("c".into())
        .with_reply_to("r".into())
        .with_type("k".into())
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_app_id("a".into())
        .with_user_id("u\u{1a}".into())
        .with_timestamp(1_709_164_800)
        .with_priority(5)
        .with_expiration("1500".into());
    let delivery = Original::new(sent, "e".into(), "t".into(), true, Bytes::new(), &[]);
    let message = super::decode(&Arc::new(delivery), &[]).unwrap();
    let received = message.received();

    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let texts = [
        &received.message_id,
        &received.correlation_id,
        &received.reply_to,
        &received.kind,
        &received.content_type,
        &received.content_encoding,
        &received.app_id,
        &received.exchange,
        &received.routing_key,
    ];
    let expected = [
        "17",
        "c",
        "r",
        "k",
        "application/json",
        "utf-8",
        "a",
        "e",
        "t",
    ];
    assert_eq!(texts.map(text), expected);
    assert_eq!(received.user_id, None, "it was not UTF-8");
    let sent = UNIX_EPOCH + Duration::from_secs(1_709_164_800);
    assert_eq!(received.timestamp, Some(sent));
    assert_eq!(received.priority, Some(5));
    assert_eq!(received.expiration, Some(Duration::from_millis(1500)));
    assert!(received.redelivered);
    assert_eq!(received.delivery_count, Some(3));
    assert_eq!(message.content_encoding(), Some("utf-8"));
}

#[test]
fn a_message_without_properties_says_only_where_it_was_published() {
    let plain = decode(&BasicProperties::default(), "t", Bytes::new()).unwrap();
    let mut known = Received::default();
    known.exchange = Some(String::new());
    known.routing_key = Some("t".to_owned());

    assert_eq!(plain.received(), known);
    assert_eq!(plain.content_encoding(), None);
}

#[test]
fn the_topic_is_the_exchange_where_the_routing_key_is_none_of_ours() {
    #[track_caller]
    fn check(exchange: &str, key: &str, topic: &str) {
        let topics = ["created", "deleted"].map(Arc::from);
        let plain = BasicProperties::default();
        let (exchange, key) = (ShortString::from(exchange), ShortString::from(key));
        let delivery = Original::new(plain, exchange, key, false, Bytes::new(), &topics);
        let letter = Cause::new("why", 1);
        let names = ("shop", "shop");
        let wire = dead_letter(&delivery, "id", &letter, names, 131_072, &WireForm::Whole).unwrap();
        let message = super::decode(&Arc::new(delivery), &[]).unwrap();

        assert_eq!(message.topic(), topic);
        assert_eq!(
            header(&wire.properties, "x-final-msg-topic"),
            Some(&long(topic))
        );
    }

    check("created", "created", "created");
    check("created", "", "created");
    check("created", "created.eu", "created");
    // The key is a topic of ours: so it was before, and so it stays.
    check("created", "deleted", "deleted");
    check("amq.topic", "created", "created");
    check("foreign", "", "foreign");
    check("foreign", "key", "key");
    // Straight into the queue.
    check("", "shop", "shop");
}

#[test]
fn a_hostile_topic_is_a_reason() {
    for topic in [
        AMQPValue::LongLongInt(1),
        AMQPValue::Void,
        long(""),
        long(" "),
        long("a\nb"),
        long(&"x".repeat(256)),
        AMQPValue::LongString(LongString::from(vec![0xff, 0xfe])),
        AMQPValue::FieldTable(FieldTable::default()),
    ] {
        let sent = with_header("x-final-msg-topic", topic);

        assert!(decode(&sent, "fine", Bytes::new()).is_err());
    }
    assert!(decode(&BasicProperties::default(), "", Bytes::new()).is_err());
}

#[test]
fn a_dead_letter_keeps_what_it_was_and_says_why() {
    let mut headers = FieldTable::default();
    for (name, value) in [
        ("tenant", long("acme")),
        ("number", AMQPValue::LongInt(7)),
        ("x-final-msg-topic", long("order.placed")),
        ("x-final-reason", long("forged")),
        ("x-death", AMQPValue::FieldArray(FieldArray::default())),
        ("x-first-death-queue", long("q")),
        ("x-last-death-queue", long("q")),
        ("BCC", AMQPValue::FieldArray(FieldArray::default())),
    ] {
        headers.insert(name.into(), value);
    }
    let original = Original::for_test(
        BasicProperties::default()
            .with_headers(headers)
            .with_expiration("100".into())
            .with_user_id("mary".into())
            .with_content_type("application/json".into())
            .with_delivery_mode(2),
        "order.placed",
        Bytes::from("body"),
    );
    let mut letter = Cause::new("", 4);
    letter.reason = "é".repeat(2000);
    let wire = dead_letter(
        &original,
        "id-1",
        &letter,
        ("shop", "shop"),
        131_072,
        &WireForm::Whole,
    )
    .unwrap();

    let sent = &wire.properties;
    assert_eq!(wire.exchange.as_str(), "shop_exchange_dlx");
    assert_eq!(wire.routing_key.as_str(), "order.placed");
    assert!(wire.mandatory);
    assert_eq!(header(sent, "tenant"), Some(&long("acme")));
    assert_eq!(header(sent, "number"), Some(&AMQPValue::LongInt(7)));
    assert_eq!(
        header(sent, "x-final-attempts"),
        Some(&AMQPValue::LongLongInt(4))
    );
    assert_eq!(header(sent, "x-final-service"), Some(&long("shop")));
    assert_eq!(
        header(sent, "x-final-reason"),
        Some(&long(&"é".repeat(512)))
    );
    assert!(matches!(
        header(sent, "x-final-time"),
        Some(AMQPValue::Timestamp(_))
    ));
    for gone in [
        "x-death",
        "x-first-death-queue",
        "x-last-death-queue",
        "BCC",
    ] {
        assert_eq!(header(sent, gone), None, "{gone}");
    }
    assert!(sent.expiration().is_none() && sent.user_id().is_none());
    assert_eq!(sent.message_id().as_ref().unwrap().as_str(), "id-1");
    assert_eq!(
        sent.content_type().as_ref().unwrap().as_str(),
        "application/json"
    );
}

#[test]
fn a_dead_letter_always_fits_into_a_frame() {
    let original = Original::for_test(
        with_header("large", long(&"x".repeat(130_000))),
        "t",
        Bytes::new(),
    );
    let letter = Cause::new("why", 1);
    let wire = dead_letter(
        &original,
        "id",
        &letter,
        ("shop", "shop"),
        131_072,
        &WireForm::Whole,
    )
    .unwrap();

    assert_eq!(header(&wire.properties, "large"), None);
    assert!(header(&wire.properties, "x-final-reason").is_some());
}

fn any_value() -> impl Strategy<Value = AMQPValue> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(AMQPValue::Boolean),
        any::<i64>().prop_map(AMQPValue::LongLongInt),
        any::<f64>().prop_map(AMQPValue::Double),
        any::<u64>().prop_map(AMQPValue::Timestamp),
        any::<Vec<u8>>().prop_map(|bytes| AMQPValue::LongString(bytes.into())),
        "[ -~]{0,40}".prop_map(|text| AMQPValue::ShortString(ShortString::from(text))),
        Just(AMQPValue::Void),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop::collection::vec(inner, 0..4).prop_map(|values| AMQPValue::FieldArray(values.into()))
    })
}

proptest! {
    #[test]
    fn a_message_comes_back_as_it_was(
        topic in "[a-z][a-z.]{0,40}",
        key in prop::option::of(".{0,40}"),
        headers in btree_map("([a-z][a-z-]{1,20}|x-[a-z-]{1,20})", ".{0,40}", 0..6),
        payload: Vec<u8>,
        durable: bool,
    ) {
        let mut message = Message::new(topic.as_str(), payload)
            .with_headers(headers.clone().into_iter().filter(|(name, _)| HeaderOwner::of(name) == HeaderOwner::Producer).collect())
            .with_durable(durable);
        if let Some(key) = &key {
            message = message.with_key(key.as_str());
        }
        let sent = properties(&OPTIONS, &message, None, None).unwrap();
        let back = decode(&sent, "other", message.payload().clone()).unwrap();

        prop_assert_eq!(back.id(), message.id());
        prop_assert_eq!(back.topic(), message.topic());
        prop_assert_eq!(back.key(), message.key());
        prop_assert_eq!(back.headers(), message.headers());
        prop_assert_eq!(back.payload(), message.payload());
        prop_assert_eq!(back.content_type(), message.content_type());
        prop_assert_eq!(back.is_durable(), message.is_durable());
    }

    /// A handler may refuse any message, so a message that is sent has room for a dead letter's headers.
    #[test]
    fn a_message_that_is_sent_fits_whole_as_a_dead_letter(
        frame_max in 4_096_u32..200_000,
        free in 0_usize..4_000,
        key in prop::option::of(".{0,40}"),
        reason in ".{0,2000}",
    ) {
        let length = (frame_max as usize).saturating_sub(free);
        let mut message = Message::new("order.placed", "").with_header("large", "x".repeat(length));
        if let Some(key) = &key {
            message = message.with_key(key.as_str());
        }
        let options = WireOptions { frame_max, ..OPTIONS };
        let Ok(sent) = properties(&options, &message, None, None) else {
            prop_assert!(free < 2_600, "refused though {free} bytes are left");
            return Ok(());
        };
        let original = Original::for_test(sent.clone(), "order.placed", Bytes::new());
        let mut letter = Cause::new("", 1);
        letter.reason = reason;
        let service = "s".repeat(255);
        let names = (&*service, "shop");
        let wire = dead_letter(&original, "id", &letter, names, frame_max, &WireForm::Whole).unwrap();
        for (name, value) in sent.headers().clone().unwrap().inner() {
            prop_assert_eq!(header(&wire.properties, name.as_str()), Some(value));
        }
    }

    #[test]
    fn a_dead_letter_fits_into_the_frame_whatever_it_was(
        headers in btree_map("[!-~]{0,40}", any_value(), 0..40),
        large in btree_map("[a-z]{1,9}", 0_usize..3_000, 0..8),
        text in "[ -~]{0,255}",
        reason in ".{0,2000}",
        frame_max in 4_096_u32..20_000,
    ) {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert(name.as_str().into(), value);
        }
        for (name, length) in large {
            table.insert(name.as_str().into(), long(&"x".repeat(length)));
        }
        let text = ShortString::from(text);
        let original = Original::for_test(BasicProperties::default()
                .with_headers(table)
                .with_content_type(text.clone())
                .with_content_encoding(text.clone())
                .with_correlation_id(text.clone())
                .with_reply_to(text.clone())
                .with_type(text.clone())
                .with_app_id(text.clone())
                .with_timestamp(1)
                .with_priority(1), text.clone(), Bytes::new());
        let mut letter = Cause::new("", 1);
        letter.reason = reason;
        let service = "s".repeat(255);
        for form in [WireForm::Whole, WireForm::Bare(text.to_string())] {
            let names = (&*service, "shop");
            let wire = dead_letter(&original, text.as_str(), &letter, names, frame_max, &form).unwrap();
            let written = lapin::protocol::basic::gen_properties(&wire.properties)(Vec::new().into());
            // The frame's head and end; class, weight and size.
            prop_assert!(written.unwrap().write.len() + 8 + 12 <= frame_max as usize);
            let Some(AMQPValue::LongString(reason)) = header(&wire.properties, "x-final-reason") else {
                panic!("no reason");
            };
            prop_assert!(reason.len() <= Cause::MAX_REASON);
        }
    }

    #[test]
    fn no_delivery_panics(
        headers in btree_map("(x-final-[a-z-]{0,12}|x-death|[!-~]{0,20})", any_value(), 0..8),
        id in "[ -~]{0,255}",
        routing_key in "[ -~]{0,255}",
    ) {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert(name.as_str().into(), value);
        }
        let sent = BasicProperties::default()
            .with_headers(table)
            .with_message_id(id.as_str().into());
        if let Ok(message) = decode(&sent, &routing_key, Bytes::new()) {
            let given = MessageId::foreign(&id, message.topic(), "");
            prop_assert_eq!(message.is_identified(), given.is_some());
            prop_assert!(given.is_none_or(|given| given == message.id()));
            prop_assert!(message.headers().iter().all(|(name, _)| HeaderOwner::of(name) == HeaderOwner::Producer));
        }
        let original = Original::for_test(sent, routing_key.as_str(), Bytes::new());
        let letter = Cause::new("why", 1);
        prop_assert!(dead_letter(&original, &id, &letter, ("shop", "shop"), 131_072, &WireForm::Whole).is_ok());
    }
}

/// A message with this tag, ready to be written.
fn written(message: Message, its_tag: Uuid) -> WireMessage {
    let outgoing = Outgoing::untracked(message).tagged(its_tag);
    let sending = outgoing.into_sending().unwrap();
    assert_eq!(sending.tag(), its_tag);
    encode(&OPTIONS, &sending, true).unwrap()
}

#[test]
fn a_message_that_is_returned_is_told_from_all_others_by_its_tag() {
    let message = Message::new("placed", "payload").with_header("tenant", "acme");
    let own = message.id().0;
    let original = Original::for_test(BasicProperties::default(), "placed", "payload".into());
    let envelope = envelope(&original, "17", false).unwrap();
    let detour =
        Message::new("x-final-detour", "payload").with_header("x-final-envelope", envelope);
    let of_detour = detour.id().0;

    for (message, its_tag) in [
        (message.clone(), own),
        (message.clone(), Uuid::now_v7()),
        (message, Uuid::now_v7()),
        (detour, of_detour),
    ] {
        assert_eq!(tag(&written(message, its_tag).properties), its_tag);
    }
    // Nothing that this bus has sent.
    for id in ["", "17"] {
        let properties = BasicProperties::default().with_message_id(id.into());
        assert_eq!(tag(&properties), Uuid::nil());
    }
}

#[test]
fn a_message_without_a_chosen_id_costs_no_further_header() {
    let message = Message::new("placed", "payload");
    let own = message.id().0;

    assert_eq!(
        header(&written(message, own).properties, "x-final-tag"),
        None
    );
}

#[test]
fn a_tag_is_gone_when_its_message_arrives() {
    let message = Message::new("placed", "payload").with_header("tenant", "acme");
    let arrived = |wire: WireMessage| {
        let payload = wire.payload.clone();
        Original::for_test(wire.properties, "placed", payload)
    };

    let [one, other] = [(); 2].map(|()| arrived(written(message.clone(), Uuid::now_v7())));

    assert_eq!(header(&one.properties, "x-final-tag"), None);
    assert_eq!(header(&one.properties, "tenant"), Some(&long("acme")));
    assert_eq!(one.properties.headers(), other.properties.headers());
}
