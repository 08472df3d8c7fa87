//! Any client may publish to an exchange. The bus goes on, whatever arrives.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use final_amqp::Amqp;
use final_core::{Bus, Message, Options, Payload, PgBus, Router, broker::Cause};
use final_tests::{
    RawProducer, RawProperties, Taken, Vhost, eventually,
    raw::{long, short},
};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, ByteArray, DecimalValue, FieldArray, FieldTable, LongString},
};

use crate::shop::{SOON, options, service};

#[derive(serde::Deserialize)]
struct Order {
    #[expect(dead_code, reason = "decoding is what is tested")]
    id: i64,
}

/// A subscriber, and the name of its topic.
struct Victim {
    bus: PgBus,
    vhost: Vhost,
    service: String,
    topic: String,
    handled: Arc<Mutex<Vec<Message>>>,
}

impl Victim {
    async fn start() -> Self {
        Self::start_with(options().unrouted_grace(Duration::ZERO)).await
    }

    async fn start_with(options: Options) -> Self {
        crate::shop::log();
        let (service, vhost) = (
            service(),
            final_tests::amqp_vhost().await.expect("RabbitMQ"),
        );
        let topic = format!("{service}.placed");
        let url = final_tests::pg_database().await.expect("PostgreSQL");
        let pool = sqlx::PgPool::connect(&url).await.expect("PostgreSQL");
        let broker = Amqp::new(vhost.url()).expect("a good URL");
        let bus: PgBus = Bus::new(&service, pool, broker).with_options(options.retry_count(0));
        let handled = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&handled);
        let router = Router::new()
            .route(&topic, move |message: Message| {
                notes.lock().expect("lock").push(message);
                async {}
            })
            .route(format!("{topic}.typed"), async |_: Payload<Order>| {});
        bus.start(router).await.expect("start");
        Self {
            bus,
            vhost,
            service,
            topic,
            handled,
        }
    }

    /// Waits until the message with this body is handled, and returns it.
    async fn handled(&self, body: &[u8]) -> Message {
        let find = || {
            let handled = self.handled.lock().expect("lock");
            let mut all = handled.iter();
            all.find(|message| message.payload() == body).cloned()
        };
        eventually("the message is handled", SOON, async || find()).await
    }

    async fn dead(&self, count: usize) -> Vec<Taken> {
        let queue = format!("{}_dlx", self.service);
        final_tests::take(self.vhost.url(), &queue, count, SOON).await
    }

    /// Asserts that the subscriber still works, and shuts it down.
    async fn works_on(self) {
        let id = self.bus.publish(&self.topic, &1).await.expect("publish");
        eventually("a good message is handled", SOON, async || {
            let handled = self.handled.lock().expect("lock");
            handled.iter().any(|message| message.id() == id)
        })
        .await;
        self.bus.shutdown().await.expect("shutdown");
    }
}

/// Tables or arrays within each other, as entries of a table of headers.
fn nested(kind: u8, depth: usize) -> Vec<u8> {
    let name: &[u8] = if kind == b'F' { b"\x01n" } else { b"" };
    let mut inside = Vec::new();
    for _ in 0..depth {
        inside = [name, &[kind], &long(&inside)].concat();
    }
    let outermost: &[u8] = if kind == b'F' { b"" } else { b"\x01n" };
    [outermost, &inside].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_nested_as_deep_as_a_frame_allows_do_not_end_the_process() {
    let victim = Victim::start().await;
    let mut raw = RawProducer::connect(victim.vhost.url())
        .await
        .expect("a raw producer");
    for (kind, depth) in [(b'F', 100), (b'A', 100), (b'F', 18_000), (b'A', 25_000)] {
        let properties = RawProperties {
            headers: Some(nested(kind, depth)),
            ..RawProperties::default()
        };
        let body = format!("{} {depth}", char::from(kind));
        raw = raw
            .publish(
                &victim.topic,
                victim.topic.as_bytes(),
                properties,
                body.as_bytes(),
            )
            .await
            .expect("RabbitMQ takes it");
        victim.handled(body.as_bytes()).await;
    }
    victim.works_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deeply_nested_headers_can_be_dead_lettered() {
    let victim = Victim::start().await;
    let topic = victim.topic.as_bytes();
    let no_topic = [&short(b"x-final-msg-topic")[..], b"V"].concat();
    let properties = RawProperties {
        headers: Some([nested(b'A', 20_000), no_topic].concat()),
        ..RawProperties::default()
    };
    RawProducer::connect(victim.vhost.url())
        .await
        .expect("a raw producer")
        .publish(&victim.topic, topic, properties, b"body")
        .await
        .expect("RabbitMQ takes it");
    let dead = victim.dead(1).await;

    assert_eq!(dead[0].payload(), b"body");
    let reason = dead[0].header("x-final-reason").expect("a reason");
    assert!(reason.contains("x-final-msg-topic is no text"), "{reason}");
    victim.works_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_that_are_no_utf8_do_not_hold_up_the_queue() {
    let victim = Victim::start().await;
    let topic = victim.topic.as_bytes();
    let mut raw = RawProducer::connect(victim.vhost.url())
        .await
        .expect("a raw producer");
    let ours = [&short(b"x-final-msg-topic")[..], b"S", &long(topic)].concat();
    // A message whose routing key is no UTF-8 reaches the queue by a second key in `CC`.
    let copy = [b"A", &long(&[b"S", &long(topic)[..]].concat())[..]].concat();
    let copied = [&short(b"CC")[..], &copy, &ours].concat();
    let plain = RawProperties::default();
    let cases = [
        (
            "header name",
            topic,
            RawProperties {
                headers: Some(b"\x03n\xffmS\0\0\0\x01x".to_vec()),
                ..plain.clone()
            },
        ),
        (
            "content type",
            topic,
            RawProperties {
                content_type: Some(b"\xc3\x28".to_vec()),
                ..plain.clone()
            },
        ),
        (
            "correlation id",
            topic,
            RawProperties {
                correlation_id: Some(vec![0xff; 255]),
                ..plain.clone()
            },
        ),
        (
            "routing key",
            b"\xff\xfe",
            RawProperties {
                headers: Some(copied),
                ..plain.clone()
            },
        ),
    ];
    for (what, key, properties) in cases {
        raw = raw
            .publish(&victim.topic, key, properties, what.as_bytes())
            .await
            .expect("RabbitMQ takes it");
        victim.handled(what.as_bytes()).await;
    }
    for id in [b"\xff", b"\xfe"] {
        let properties = RawProperties {
            message_id: Some(id.to_vec()),
            ..plain.clone()
        };
        raw = raw
            .publish(&victim.topic, topic, properties, b"no id")
            .await
            .expect("RabbitMQ takes it");
    }
    for dead in victim.dead(2).await {
        assert_eq!(dead.payload(), b"no id");
        let reason = dead.header("x-final-reason").expect("a reason");
        assert_eq!(reason, "the message id is not UTF-8");
    }
    victim.works_on().await;
}

pub async fn producer(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default())
        .await
        .expect("RabbitMQ");
    let channel = connection.create_channel().await.expect("a channel");
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .expect("confirms");
    (connection, channel)
}

pub async fn publish(
    channel: &Channel,
    exchange: &str,
    key: &str,
    headers: FieldTable,
    properties: BasicProperties,
    body: &[u8],
) {
    let options = BasicPublishOptions::default();
    let properties = properties.with_headers(headers);
    let sent = channel.basic_publish(exchange.into(), key.into(), options, body, properties);
    let confirm = sent.await.expect("sent").await.expect("an answer");
    assert!(confirm.is_ack(), "{confirm:?}");
}

pub fn table(entries: impl IntoIterator<Item = (String, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.as_str().into(), value);
    }
    table
}

pub fn text(text: impl AsRef<[u8]>) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text.as_ref().to_vec()))
}

pub fn every_type() -> Vec<AMQPValue> {
    let decimal = DecimalValue { scale: 2, value: 7 };
    vec![
        AMQPValue::Boolean(true),
        AMQPValue::ShortShortInt(-1),
        AMQPValue::ShortShortUInt(1),
        AMQPValue::ShortInt(-2),
        AMQPValue::ShortUInt(2),
        AMQPValue::LongInt(-3),
        AMQPValue::LongUInt(3),
        AMQPValue::LongLongInt(-4),
        AMQPValue::Float(1.5),
        AMQPValue::Double(-1.5),
        AMQPValue::DecimalValue(decimal),
        text([0xff, 0, 0xfe]),
        AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::Void])),
        AMQPValue::Timestamp(u64::MAX),
        AMQPValue::FieldTable(table([("a".to_owned(), AMQPValue::Void)])),
        AMQPValue::ByteArray(ByteArray::from(vec![0; 300])),
        AMQPValue::Void,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_headers_and_properties_reach_the_handler_as_far_as_they_can_be_read() {
    let victim = Victim::start().await;
    let (_connection, channel) = producer(victim.vhost.url()).await;
    let topic = &victim.topic;
    let plain = BasicProperties::default;
    let numbered = |count: usize, value: AMQPValue| {
        table((0..count).map(move |n| (format!("h{n}"), value.clone())))
    };
    let all_types = every_type()
        .into_iter()
        .enumerate()
        .map(|(n, value)| (format!("type{n}"), value));
    let forged = ["key", "reason", "attempts", "service", "time", "other"].map(|name| {
        (
            format!("x-final-{name}"),
            AMQPValue::FieldTable(FieldTable::default()),
        )
    });
    let cases = [
        ("all types", table(all_types), plain()),
        ("thousands", numbered(9_000, AMQPValue::Void), plain()),
        (
            "large",
            table([("h".to_owned(), text(vec![b'x'; 125_000]))]),
            plain(),
        ),
        ("forged", table(forged), plain()),
        (
            "no id",
            FieldTable::default(),
            plain().with_message_id("".into()),
        ),
        (
            "odd id",
            FieldTable::default(),
            plain().with_message_id("'; DROP TABLE x".into()),
        ),
        (
            "long id",
            FieldTable::default(),
            plain().with_message_id("i".repeat(255).as_str().into()),
        ),
        (
            "odd type",
            FieldTable::default(),
            plain().with_content_type("\0/\u{202e}".into()),
        ),
        (
            "",
            FieldTable::default(),
            plain().with_delivery_mode(1).with_priority(255),
        ),
    ];
    for (body, headers, properties) in cases {
        publish(&channel, topic, topic, headers, properties, body.as_bytes()).await;
        victim.handled(body.as_bytes()).await;
    }
    let larger_than_we_may_send = vec![b'p'; 5 * 1024 * 1024];
    publish(
        &channel,
        topic,
        topic,
        FieldTable::default(),
        plain(),
        &larger_than_we_may_send,
    )
    .await;
    victim.handled(&larger_than_we_may_send).await;

    assert_eq!(victim.handled(b"forged").await.key(), None);
    assert_eq!(victim.handled(b"forged").await.headers().len(), 0);
    assert_eq!(victim.handled(b"thousands").await.headers().len(), 0);
    // Truth values, numbers, decimals, times and texts have a text; lists, tables, nil and other bytes have none.
    let seen = victim.handled(b"all types").await;
    let seen: Vec<_> = seen.headers().iter().map(|(name, _)| name).collect();
    assert_eq!(seen.len(), 13, "{seen:?}");
    victim.works_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_handler_can_take_is_dead_lettered_with_a_bounded_reason() {
    let victim = Victim::start().await;
    let (_connection, channel) = producer(victim.vhost.url()).await;
    let (topic, typed) = (&victim.topic, format!("{}.typed", victim.topic));
    let says = |value| table([("x-final-msg-topic".to_owned(), value)]);
    let odd_type = "t".repeat(255);
    let mut sent = 0;
    let unreadable = every_type().into_iter().map(says);
    let unknown = ["", " ", "a\nb", "unknown", "\u{202e}", "'; DROP TABLE x"].map(text);
    let too_long = says(text(vec![b'x'; 100_000]));
    for headers in unreadable.chain(unknown.map(says)).chain([too_long]) {
        let properties = BasicProperties::default();
        publish(&channel, topic, topic, headers, properties, b"body").await;
        sent += 1;
    }
    let bodies: [&[u8]; 6] = [
        b"",
        b"\xc1",
        b"\x81\xa2id\xa3one",
        &[0x91; 100_000],
        b"\xdd\xff\xff\xff\xff",
        &[b'x'; 5_000],
    ];
    for body in bodies {
        let properties = BasicProperties::default().with_content_type(odd_type.as_str().into());
        publish(
            &channel,
            &typed,
            &typed,
            FieldTable::default(),
            properties,
            body,
        )
        .await;
        sent += 1;
    }

    for dead in victim.dead(sent).await {
        let reason = dead.header("x-final-reason").expect("a reason");
        assert!(
            !reason.is_empty() && reason.len() <= Cause::MAX_REASON,
            "{reason}"
        );
    }
    // A letter counts once it is stored and its message is acked.
    eventually("all of them count", SOON, async || {
        victim.bus.stats().await.expect("stats").dead_lettered == sent as u64
    })
    .await;
    victim.works_on().await;
}

/// The message gets another id with each delivery.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_without_an_id_and_a_handler_is_put_away_when_its_grace_is_over() {
    let grace = Duration::from_millis(600);
    let victim = Victim::start_with(options().unrouted_grace(grace)).await;
    let (_connection, channel) = producer(victim.vhost.url()).await;
    let (properties, headers) = (BasicProperties::default(), FieldTable::default());
    // The management page publishes to the default exchange as well.
    publish(&channel, "", &victim.service, headers, properties, b"body").await;

    let dead = victim.dead(1).await;
    let reason = dead[0].header("x-final-reason").expect("a reason");
    assert!(reason.contains("no handler"), "{reason}");
    victim.works_on().await;
}
