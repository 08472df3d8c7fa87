//! Headers that hardly fit into a frame, or that the broker refuses: what a service does with such a
//! message, and with its dead letter.

#![allow(
    clippy::unwrap_used,
    reason = "tests say what they expect by unwrapping"
)]

mod support;

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use final_amqp::Amqp;
use final_core::{
    Message,
    broker::{Broker, Cause, Confirm, Delivery, Isolation, Link, LinkState, Settlement},
};
use lapin::{
    BasicProperties,
    options::{ExchangeDeclareOptions, ExchangeDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use support::{proxy::Proxy, *};
use tokio::sync::mpsc;

/// What RabbitMQ and lapin agree on unless told otherwise.
const FRAME_MAX: usize = 131_072;
/// What a frame has besides the headers: its head and end; class, weight, size and flags; the headers'
/// length.
const AROUND: usize = 8 + 14 + 4;

type Entries<'a> = &'a [(&'a str, AMQPValue)];

fn dead(reason: &str) -> Settlement {
    let mut cause = Cause::new("", 4);
    cause.reason = reason.to_owned();
    Settlement::DeadLetter(cause)
}

fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn of_length(length: usize) -> AMQPValue {
    long(&"x".repeat(length))
}

/// A link that consumes, and what its dead letters hold.
struct Service {
    name: String,
    topic: String,
    link: Arc<dyn Link>,
    deliveries: mpsc::Receiver<Delivery>,
    admin: Admin,
}

impl Service {
    async fn start(amqp: Amqp) -> Self {
        let (name, topic) = (name("s"), name("t"));
        let mut setup = setup(&name, &[&topic]);
        // As many are in flight at once.
        setup.concurrency = 64;
        let opened = amqp.open(setup).await.unwrap();
        wait_for(&*opened.link, LinkState::Ready).await;
        Self {
            name,
            topic,
            link: opened.link,
            deliveries: opened.deliveries,
            admin: Admin::new().await,
        }
    }

    /// Publishes with these headers alone, so that the size of the frame is known.
    async fn publish(&self, entries: Entries<'_>) {
        let mut headers = FieldTable::default();
        for (name, value) in entries {
            headers.insert((*name).into(), value.clone());
        }
        let properties = BasicProperties::default().with_headers(headers);
        let topic = &self.topic;
        self.admin.publish(topic, topic, properties, b"body").await;
    }

    async fn next(&mut self) -> Delivery {
        next(&mut self.deliveries).await
    }

    /// Publishes and delivers one.
    async fn deliver(&mut self, entries: Entries<'_>) -> Delivery {
        self.publish(entries).await;
        self.next().await
    }

    /// The next dead letter's headers.
    async fn letter(&self) -> FieldTable {
        let letter = self.admin.get(&format!("{}_dlx", self.name)).await.delivery;
        assert_eq!(letter.data, b"body");
        assert_eq!(letter.routing_key.as_str(), self.topic);
        letter.properties.headers().clone().unwrap()
    }

    async fn end(self) {
        end(&*self.link).await;
        assert_eq!(self.admin.drain(&self.name).await, [], "acked");
        self.admin.forget(&self.name, &[&self.topic]).await;
    }
}

fn header<'a>(headers: &'a FieldTable, name: &str) -> Option<&'a AMQPValue> {
    headers.inner().get(name)
}

fn reason(headers: &FieldTable) -> String {
    match header(headers, "x-final-reason") {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        other => panic!("no reason: {other:?}"),
    }
}

/// lapin ends a connection at a frame larger than was agreed on. RabbitMQ takes such frames, and makes them.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_a_frame_too_large_becomes_a_dead_letter_and_the_next_is_delivered() {
    let mut service = Service::start(amqp()).await;
    let largest = FRAME_MAX + 8 - AROUND - "n".len() - 6 - "tenant".len() - 6 - "acme".len();
    let entries = [("n", of_length(largest)), ("tenant", long("acme"))];

    let delivery = service.deliver(&entries).await;
    let why = delivery.message().unwrap_err().to_owned();
    assert!(why.contains("left out: \"n\""), "{why}");
    delivery.settle(dead(&why));
    let letter = service.letter().await;
    assert_eq!(reason(&letter), why);
    assert_eq!(header(&letter, "tenant"), Some(&long("acme")));
    assert!(
        letter
            .inner()
            .keys()
            .all(|name| !name.as_str().contains('\x1a'))
    );

    let next = service.deliver(&[]).await;
    assert!(next.message().is_ok());
    next.settle(Settlement::Ack);
    service.end().await;
}

/// A quorum queue adds `x-delivery-count` when it delivers again.
#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_the_brokers_own_headers_make_too_large_is_delivered_with_all_others() {
    let mut service = Service::start(amqp()).await;
    let exact = FRAME_MAX - AROUND - "n".len() - 6;

    service.publish(&[("n", of_length(exact))]).await;
    for settlement in [Settlement::Requeue, dead("the cat ate it")] {
        let delivery = service.next().await;
        let message = delivery.message().unwrap();
        assert_eq!(message.headers().get("n").unwrap().len(), exact);
        delivery.settle(settlement);
    }
    let letter = service.letter().await;
    assert_eq!(header(&letter, "n"), None);
    let why = reason(&letter);
    assert!(
        why.starts_with("the cat ate it [") && why.contains("\"n\""),
        "{why}"
    );
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_keeps_the_key_and_what_fits_and_says_what_does_not() {
    let mut service = Service::start(amqp()).await;
    let entries = [
        ("large", of_length(100_000)),
        ("larger", of_length(30_900)),
        ("tenant", long("acme")),
        ("x-final-key", long("42")),
    ];

    service
        .deliver(&entries)
        .await
        .settle(dead(&"why ".repeat(1_000_000)));
    let letter = service.letter().await;
    assert_eq!(header(&letter, "large"), None);
    for (name, value) in &entries[1..] {
        assert_eq!(header(&letter, name), Some(value), "{name}");
    }
    let why = reason(&letter);
    assert!(why.starts_with("why why"), "{why}");
    assert!(why.ends_with("\"large\" (100011 bytes)]"), "{why}");
    assert!(why.len() <= Cause::MAX_REASON);
    service.end().await;
}

/// The smallest `frame_max` that the broker takes: the least that AMQP allows, or twice as much. RabbitMQ 4.3
/// hangs up at less.
async fn smallest_frame_max() -> usize {
    let url = format!("{}?frame_max=4096", url());
    match lapin::Connection::connect(&url, lapin::ConnectionProperties::default()).await {
        Ok(connection) => {
            connection.close(200, "".into()).await.unwrap();
            4_096
        }
        Err(_) => 8_192,
    }
}

/// What an operator sets to save memory.
#[tokio::test(flavor = "multi_thread")]
async fn messages_and_dead_letters_fit_into_the_smallest_frames() {
    let frame_max = smallest_frame_max().await;
    let long_reason = "?".repeat(2_000);
    let amqp = Amqp::new(format!("{}?frame_max={frame_max}", url())).unwrap();
    let mut service = Service::start(amqp).await;
    let mut sender = Sender::new(Arc::clone(&service.link));
    let message = Message::new(service.topic.as_str(), "body").with_header("tenant", "acme");
    let quarter = frame_max / 4;
    let message = message.with_header("n", "x".repeat(quarter));
    assert_eq!(
        sender.confirm(Isolation::Shared, message.clone()).await,
        Confirm::Stored
    );
    service.next().await.settle(dead(&long_reason));
    let letter = service.letter().await;
    assert_eq!(header(&letter, "tenant"), Some(&long("acme")));
    assert_eq!(header(&letter, "n"), Some(&of_length(quarter)), "whole");
    let too_large = message.with_header("n", "x".repeat(frame_max - 96));
    let refused = sender.confirm(Isolation::Shared, too_large).await;
    assert!(matches!(refused, Confirm::Faulty(_)), "{refused:?}");

    for size in [frame_max - 1_000, 20_000, 130_000] {
        let delivery = service
            .deliver(&[("n", of_length(size)), ("tenant", long("acme"))])
            .await;
        assert_eq!(delivery.message().is_err(), size > frame_max, "{size}");
        delivery.settle(dead(&long_reason));
        let letter = service.letter().await;
        assert_eq!(header(&letter, "tenant"), Some(&long("acme")));
        assert_eq!(header(&letter, "n"), None);
    }
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_many_bytes_fits_into_no_dead_letter_and_holds_up_none() {
    let proxy = Proxy::start().await;
    let mut service = Service::start(Amqp::new(proxy.url()).unwrap()).await;
    let connections = proxy.connections();
    let entries = [
        ("x-final-msg-topic", of_length(130_800)),
        ("tenant", long("acme")),
    ];

    let delivery = service.deliver(&entries).await;
    let why = delivery.message().unwrap_err().to_owned();
    delivery.settle(dead(&why));
    let letter = service.letter().await;
    assert_eq!(header(&letter, "tenant"), Some(&long("acme")));
    let topic = service.topic.clone();
    assert_eq!(header(&letter, "x-final-msg-topic"), Some(&long(&topic)));
    assert!(reason(&letter).contains("\"x-final-msg-topic\""));
    assert_eq!(proxy.connections(), connections, "none was closed");
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_nested_deep_and_with_odd_names_are_stored_with_the_dead_letter() {
    let mut service = Service::start(amqp()).await;
    let mut deep = FieldTable::default();
    for _ in 0..150 {
        let mut outer = FieldTable::default();
        outer.insert("n".into(), AMQPValue::FieldTable(deep));
        deep = outer;
    }
    let longest = "\u{f6}".repeat(127);
    let entries = [
        ("deep", AMQPValue::FieldTable(deep)),
        ("", long("no name")),
        (&*longest, long("longest name")),
        ("a\nb\0", AMQPValue::Void),
        ("CC ", long("no copy")),
        ("x-match", long("all")),
    ];

    service.deliver(&entries).await.settle(dead("no"));
    let letter = service.letter().await;
    for (name, value) in &entries[1..] {
        assert_eq!(header(&letter, name), Some(value), "{name:?}");
    }
    assert!(header(&letter, "deep").is_some());
    assert_eq!(reason(&letter), "no");
    service.end().await;
}

/// The channel is closed on the message, and it is not the message's fault.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_keeps_its_headers_where_its_exchange_is_gone_or_not_to_be_written_to() {
    let mut service = Service::start(amqp()).await;
    let exchange = format!("{}_exchange_dlx", service.name);
    let entries = [("tenant", long("acme"))];
    let mut in_flight = Vec::new();
    for _ in 0..4 {
        in_flight.push(service.deliver(&entries).await);
    }
    for forbidden in [false, true] {
        // From then on a channel for dead letters is open, and declares nothing again.
        in_flight.remove(0).settle(dead("no"));
        service.letter().await;
        service.admin.delete_exchange(&exchange).await;
        if forbidden {
            internal_exchange(&service.admin, &exchange).await;
        }
        in_flight.remove(0).settle(dead("no"));
        if forbidden {
            tokio::time::sleep(Duration::from_millis(700)).await;
            service.admin.delete_exchange(&exchange).await;
        }
        let letter = service.letter().await;
        assert_eq!(
            header(&letter, "tenant"),
            Some(&long("acme")),
            "{forbidden}"
        );
        assert_eq!(reason(&letter), "no");
    }
    service.end().await;
}

/// An exchange that no client may publish to.
async fn internal_exchange(admin: &Admin, name: &str) {
    let options = ExchangeDeclareOptions {
        durable: true,
        internal: true,
        ..Default::default()
    };
    let (channel, fanout) = (admin.channel().await, lapin::ExchangeKind::Fanout);
    let declared = channel.exchange_declare(name.into(), fanout, options, FieldTable::default());
    // The link may have declared it in between.
    if declared.await.is_err() {
        let channel = admin.channel().await;
        let delete = channel.exchange_delete(name.into(), ExchangeDeleteOptions::default());
        delete.await.unwrap();
        Box::pin(internal_exchange(admin, name)).await;
    }
}

/// The broker closes the whole connection at it, in whatever form it comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_refused_in_every_form_waits_and_holds_up_nothing() {
    let proxy = Proxy::start().await;
    let mut service = Service::start(Amqp::new(proxy.url()).unwrap()).await;
    proxy.spoil_dead_letters(Some("spoiled"));
    let spoiled = service.deliver(&[("tenant", long("spoiled"))]).await;
    let mut sender = Sender::new(Arc::clone(&service.link));
    let (before, since) = (proxy.connections(), Instant::now());
    spoiled.settle(dead("spoiled milk"));
    for round in 0..20 {
        let tenant = format!("{round}");
        let delivery = service.deliver(&[("tenant", long(&tenant))]).await;
        delivery.settle(dead("no"));
        let letter = service.letter().await;
        assert_eq!(header(&letter, "tenant"), Some(&long(&tenant)));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // One connection to publish after the first was closed, and one for each form that was tried alone. The
    // last form is tried again after a pause, and the shortest pause is half of 5 s.
    let tried_again = usize::try_from(since.elapsed().as_millis() / 2_500).unwrap();
    let connections = proxy.connections() - before;
    assert!(
        connections <= 3 + tried_again,
        "{connections} in {:?}",
        since.elapsed()
    );
    let message = Message::new(service.topic.as_str(), "body");
    assert_eq!(
        sender.confirm(Isolation::Shared, message).await,
        Confirm::Stored
    );
    service.next().await.settle(Settlement::Ack);

    proxy.spoil_dead_letters(None);
    let letter = service.letter().await;
    let why = reason(&letter);
    assert!(
        why.starts_with("spoiled milk [sent without its headers"),
        "{why}"
    );
    assert_eq!(header(&letter, "tenant"), None);
    service.end().await;
}

/// Of many in flight the broker says of none that it was the reason.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_in_flight_beside_a_refused_one_are_stored_whole() {
    let proxy = Proxy::start().await;
    let mut service = Service::start(Amqp::new(proxy.url()).unwrap()).await;
    let mut in_flight = Vec::new();
    for n in 0..50 {
        in_flight.push(service.deliver(&[("tenant", long(&n.to_string()))]).await);
    }
    proxy.spoil_dead_letters(Some("spoiled"));
    for (n, delivery) in in_flight.into_iter().enumerate() {
        delivery.settle(dead(if n == 20 { "spoiled" } else { "no" }));
    }
    let mut seen = HashSet::new();
    while seen.len() < 49 {
        let letter = service.letter().await;
        assert_eq!(reason(&letter), "no");
        seen.insert(format!("{:?}", header(&letter, "tenant").unwrap()));
    }
    // Those that were stored when the connection was closed came again.
    service.admin.drain(&format!("{}_dlx", service.name)).await;
    proxy.spoil_dead_letters(None);
    assert!(reason(&service.letter().await).starts_with("spoiled ["));
    service.end().await;
}
