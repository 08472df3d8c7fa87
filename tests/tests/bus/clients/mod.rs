//! Clients of other languages: a handler reads what they publish, and they read what a bus publishes.

mod amqplib;
mod celery;
mod kombu;
mod pika;
mod reading;

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use final_core::{
    Bus, FromMessage, HandlerError, Json, Message, Payload, Router, received::HeaderValue,
};
use final_tests::Client;
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

use crate::{
    house::{House, Notes},
    transport::Rabbit,
};

/// The order that each client publishes.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u32,
    customer: String,
    total: f64,
    lines: Vec<Line>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    sku: String,
    count: u8,
}

fn order() -> Order {
    let line = Line {
        sku: "a".to_owned(),
        count: 2,
    };
    Order {
        id: 7,
        customer: "Zoë".to_owned(),
        total: 12.5,
        lines: vec![line],
    }
}

/// A service that notes each message of its topic and of its queue.
struct Post {
    house: House<Sqlite, Rabbit>,
    bus: Bus<Sqlite>,
    notes: Notes,
}

impl Post {
    async fn open() -> Self {
        let house = House::<Sqlite, Rabbit>::new().await;
        let (bus, notes) = (house.bus(), Notes::default());
        let topics = [house.topic("placed"), house.service.clone()];
        let router = topics.iter().fold(Router::new(), |router, topic| {
            let notes = notes.clone();
            router.route(topic, move |message: Message| {
                let notes = notes.clone();
                async move { notes.add(message) }
            })
        });
        bus.start(router).await.expect("start");
        Self { house, bus, notes }
    }

    /// Lets a client publish, and gives so many messages by their names.
    async fn published_by(
        &self,
        client: Client,
        count: usize,
        name: impl Fn(&Message) -> String,
    ) -> BTreeMap<String, Message> {
        let (topic, queue) = (self.house.topic("placed"), self.house.service.clone());
        run(client, self.url(), ["publish", &topic, &queue]).await;
        self.notes.reach(count).await;
        let all = self.notes.all().into_iter();
        let named: BTreeMap<_, _> = all.map(|message| (name(&message), message)).collect();
        assert_eq!(named.len(), count, "{:?}", named.keys());
        named
    }

    fn url(&self) -> &str {
        self.house.transport.url()
    }

    async fn close(self) {
        self.bus.shutdown().await.expect("shutdown");
    }
}

/// The property `type`, which has the name of the message.
fn kind(message: &Message) -> String {
    message.received().kind.unwrap_or_default()
}

/// Runs a client's script, and returns the lines that it prints.
async fn run(client: Client, url: &str, args: [&str; 3]) -> Vec<serde_json::Value> {
    let args: Vec<_> = [url].into_iter().chain(args).map(str::to_owned).collect();
    let ran = tokio::task::spawn_blocking(move || {
        client.run(&args.iter().map(String::as_str).collect::<Vec<_>>())
    });
    let lines = ran.await.expect("joined").expect("the client's script");
    let parsed = lines.iter().map(|line| serde_json::from_str(line));
    parsed.collect::<Result<_, _>>().expect("lines of JSON")
}

/// What an extractor makes of the message for a handler.
async fn extract<T: FromMessage<()>>(message: &Message) -> Result<T, HandlerError> {
    T::from_message(message, &()).await
}

/// Checks that the payload of each of these messages is the order.
async fn are_orders(messages: &BTreeMap<String, Message>, json: &[&str], msgpack: &[&str]) {
    for name in json {
        let Json(read) = extract::<Json<Order>>(&messages[*name]).await.expect(name);
        assert_eq!(read, order(), "{name}");
    }
    for name in msgpack {
        let read = extract::<Payload<Order>>(&messages[*name]).await;
        assert_eq!(read.expect(name).0, order(), "{name}");
    }
}

/// A header: its name, the text that `Headers` has, and the value that `Received` has.
type Header = (&'static str, Option<&'static str>, HeaderValue);

/// Checks that the message has these headers and no other.
#[track_caller]
fn has_headers(message: &Message, expected: &[Header]) {
    let received = message.received();
    for (name, text, value) in expected {
        assert_eq!(message.headers().get(name), *text, "{name}");
        assert_eq!(received.headers.get(*name), Some(value), "{name}");
    }
    let texts = expected.iter().filter(|(_, text, _)| text.is_some());
    assert_eq!(message.headers().len(), texts.count(), "{received:?}");
    assert_eq!(received.headers.len(), expected.len(), "{received:?}");
}

/// Checks the properties that each client sets in the message of that name.
#[track_caller]
fn has_properties(message: &Message, content_type: &str) {
    let received = message.received();
    let texts = [
        &received.correlation_id,
        &received.reply_to,
        &received.message_id,
        &received.app_id,
        &received.content_type,
        &received.content_encoding,
    ];
    let expected = ["c", "r", "17", "a", content_type, "utf-8"];
    assert_eq!(texts.map(Option::as_deref), expected.map(Some));
    assert_eq!(received.priority, Some(5));
    assert_eq!(received.expiration, Some(Duration::from_secs(60)));
    assert_eq!(received.timestamp, Some(leap_day()));
    assert!(message.is_identified());
}

/// 29 February 2024 at noon.
fn leap_day() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_709_208_000)
}

fn text(text: &str) -> HeaderValue {
    HeaderValue::Text(text.to_owned())
}

fn list(values: impl IntoIterator<Item = HeaderValue>) -> HeaderValue {
    HeaderValue::List(values.into_iter().collect())
}

fn table(name: &str, value: HeaderValue) -> HeaderValue {
    HeaderValue::Table([(name.to_owned(), value)].into())
}
