//! Messages of foreign producers, and their ids.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use final_amqp::Amqp;
use final_core::{Bus, HandlerError, Message, MessageId, Router, SqliteBus};
use final_tests::{Proxy, SqliteFile, Vhost, eventually};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::sync::Semaphore;

use crate::shop::{SOON, options, service};

/// A service with two topics. A handler notes its message, and waits for the gate.
struct Service {
    bus: SqliteBus,
    name: String,
    vhost: Vhost,
    proxy: Proxy,
    producer: (Connection, Channel),
    seen: Arc<Mutex<Vec<Message>>>,
    gate: Arc<Semaphore>,
    /// Whether handlers fail after the gate, so that their messages are tried again.
    failing: Arc<AtomicBool>,
    _file: SqliteFile,
}

/// The error of a handler that refuses its message.
const REFUSED: &str = "not yet";

impl Service {
    async fn start() -> Self {
        crate::shop::log();
        let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
        let proxy = Proxy::to(vhost.url()).await.expect("a proxy");
        let file = final_tests::sqlite_file().expect("a file");
        let pool = sqlx::SqlitePool::connect(&file.url()).await;
        let amqp = Amqp::new(proxy.url(vhost.url())).expect("a good URL");
        let name = service();
        let bus = Bus::new(&name, pool.expect("opened"), amqp).with_options(options());
        let seen = Arc::<Mutex<Vec<Message>>>::default();
        let gate = Arc::new(Semaphore::new(0));
        let failing = Arc::new(AtomicBool::new(false));
        let topics = ["placed", "cancelled"].map(|topic| format!("{name}.{topic}"));
        let router = topics.iter().fold(Router::new(), |router, topic| {
            let (seen, gate) = (Arc::clone(&seen), Arc::clone(&gate));
            let failing = Arc::clone(&failing);
            router.route(topic, move |message: Message| {
                let (gate, failing) = (Arc::clone(&gate), Arc::clone(&failing));
                seen.lock().expect("lock").push(message.clone());
                async move {
                    gate.acquire().await.expect("open").forget();
                    if failing.load(Ordering::Relaxed) {
                        return Err("once more".into());
                    }
                    match message.payload().starts_with(b"refuse") {
                        true => Err(HandlerError::permanent(REFUSED)),
                        false => Ok(()),
                    }
                }
            })
        });
        bus.start(router).await.expect("start");
        let connection = Connection::connect(vhost.url(), ConnectionProperties::default()).await;
        let connection = connection.expect("RabbitMQ");
        let channel = connection.create_channel().await.expect("a channel");
        let confirms = channel.confirm_select(ConfirmSelectOptions::default());
        confirms.await.expect("confirms");
        Self {
            bus,
            name,
            vhost,
            proxy,
            producer: (connection, channel),
            seen,
            gate,
            failing,
            _file: file,
        }
    }

    async fn publish(&self, topic: &str, properties: BasicProperties, body: &[u8]) {
        let topic = format!("{}.{topic}", self.name);
        let options = BasicPublishOptions::default();
        let exchange = topic.as_str().into();
        let (_, channel) = &self.producer;
        let sent =
            channel.basic_publish(exchange, topic.as_str().into(), options, body, properties);
        let confirm = sent.await.expect("sent").await.expect("an answer");
        assert!(confirm.is_ack(), "{confirm:?}");
    }

    /// The ids of so many deliveries, in their order.
    async fn ids(&self, count: usize) -> Vec<MessageId> {
        eventually(&format!("{count} deliveries"), SOON, async || {
            self.seen.lock().expect("lock").len() >= count
        })
        .await;
        let seen = self.seen.lock().expect("lock");
        seen.iter().map(Message::id).collect()
    }

    /// Cuts the connection, and lets the handlers fail once the messages are on their way again. A handler that
    /// runs is not begun again beside itself.
    async fn come_again(&self, handlers: usize) {
        let taken = self.proxy.taken();
        self.proxy.cut();
        eventually("connections", SOON, async || {
            self.proxy.taken() >= taken + 2
        })
        .await;
        self.failing.store(true, Ordering::Relaxed);
        self.gate.add_permits(handlers);
    }

    async fn ends(self) {
        self.failing.store(false, Ordering::Relaxed);
        self.gate.add_permits(1_000);
        tokio::time::timeout(SOON, self.bus.shutdown())
            .await
            .expect("in time")
            .expect("shutdown");
    }
}

/// Two of the messages are equal in every byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_without_an_id_have_each_the_same_one_when_they_come_again() {
    let service = Service::start().await;
    for (id, body) in [(None, "{}"), (None, "{}"), (Some(""), "1"), (Some(""), "2")] {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let properties = match id {
            Some(id) => properties.with_message_id(id.into()),
            None => properties,
        };
        service.publish("placed", properties, body.as_bytes()).await;
    }
    let first: BTreeSet<_> = service.ids(4).await.into_iter().collect();
    assert_eq!(first.len(), 4, "different messages");

    for cut in 1..=2 {
        service.come_again(4).await;
        let ids = service.ids(4 + cut * 4).await;
        let again: BTreeSet<_> = ids[cut * 4..].iter().copied().collect();
        assert_eq!(again, first, "the same messages");
    }
    let seen = service.seen.lock().expect("lock").clone();
    assert!(seen.iter().all(|message| !message.is_identified()));
    for one in &seen {
        let same = seen.iter().filter(|other| other.id() == one.id());
        assert!(same.clone().count() == 3 && same.clone().all(|it| it.payload() == one.payload()));
    }
    service.ends().await;
}

/// The handler has done its work, and the broker never gets the ack. The handler must recognise the message
/// when it comes again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_without_an_id_has_the_same_one_after_an_ack_that_got_lost() {
    let service = Service::start().await;
    service
        .publish("placed", BasicProperties::default(), b"1")
        .await;
    let first = service.ids(1).await;

    // From now on nothing that is sent reaches the broker.
    service.proxy.strand();
    service.gate.add_permits(1);
    tokio::time::sleep(Duration::from_millis(300)).await;
    service.proxy.cut();

    let ids = service.ids(2).await;
    assert_eq!(ids[1], first[0]);
    service.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_as_ids_of_two_topics_or_producers_are_different_messages() {
    let service = Service::start().await;
    for (topic, application) in [("placed", "a"), ("placed", "b"), ("cancelled", "a")] {
        let properties = BasicProperties::default()
            .with_message_id("1".into())
            .with_app_id(application.into());
        service.publish(topic, properties, b"1").await;
    }

    let ids = service.ids(3).await;

    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 3);
    assert!(service.seen.lock().expect("lock")[0].is_identified());
    service.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_that_is_put_back_has_the_id_it_had() {
    let service = Service::start().await;
    service.gate.add_permits(1_000);
    let plain = BasicProperties::default().with_app_id("a".into());
    for properties in [
        plain.clone(),
        plain.clone().with_message_id("".into()),
        plain.clone().with_message_id("17".into()),
    ] {
        let before = service.seen.lock().expect("lock").len();
        service.publish("placed", properties, b"refuse").await;
        let dead = format!("{}_dlx", service.name);
        let letters = final_tests::take(service.vhost.url(), &dead, 1, SOON).await;

        let mut headers = FieldTable::default();
        let topic = letters[0].header("x-final-msg-topic").expect("a topic");
        headers.insert(
            "x-final-msg-topic".into(),
            AMQPValue::LongString(topic.into()),
        );
        let back = plain
            .clone()
            .with_message_id(letters[0].message_id().expect("an id").into())
            .with_headers(headers);
        service.publish("placed", back, letters[0].payload()).await;

        let ids = service.ids(before + 2).await;
        assert_eq!(ids[before], ids[before + 1]);
        let again = final_tests::take(service.vhost.url(), &dead, 1, SOON).await;
        assert_eq!(again.len(), 1);
    }
    service.ends().await;
}
