//! What the tests share: unique names, messages with their confirms, a side door to the
//! broker, and a proxy whose connections can be cut.
#![allow(
    dead_code,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "every test file is a crate of its own and uses a part"
)]

pub mod proxy;

use std::{sync::Arc, time::Duration};

use final_amqp::Amqp;
use final_core::{
    Message, MessageId,
    broker::{
        Broker, BrokerError, Confirm, Delivery, Isolation, Link, LinkState, Opened, Outgoing, Setup,
    },
};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    message::BasicGetMessage,
    options::*,
    types::{AMQPValue, FieldTable},
};
use tokio::{sync::mpsc, time::timeout};

/// A limit of waiting. Only what is broken takes this long, also on a machine with other work.
pub const LONG: Duration = Duration::from_secs(120);

pub fn url() -> String {
    std::env::var("FINAL_TEST_AMQP_URL")
        .expect("these tests need a RabbitMQ: run `cargo xtask test`, or set FINAL_TEST_AMQP_URL")
}

pub fn amqp() -> Amqp {
    Amqp::new(url()).unwrap()
}

/// A unique name, also fit for a service.
pub fn name(kind: &str) -> String {
    let id = uuid::Uuid::now_v7().simple().to_string();
    format!("{kind}-{}", &id[16..])
}

pub fn setup(service: &str, topics: &[&str]) -> Setup {
    let mut setup = Setup::new(service, topics.iter().copied());
    setup.num_subscribers = 2;
    setup
}

pub async fn open(amqp: &Amqp, setup: Setup) -> Result<Opened, BrokerError> {
    amqp.open(setup).await
}

/// Opens a link that only publishes, and waits until it is ready.
pub async fn publisher(amqp: &Amqp) -> Arc<dyn Link> {
    let link = open(amqp, setup(&name("pub"), &[])).await.unwrap().link;
    wait_for(&*link, LinkState::Ready).await;
    link
}

pub async fn wait_for(link: &dyn Link, state: LinkState) {
    let mut states = link.state();
    let reached = timeout(LONG, states.wait_for(|now| *now == state)).await;
    let seen = *link.state().borrow();
    assert!(
        matches!(reached, Ok(Ok(_))),
        "the link is {seen:?}, not {state:?}"
    );
}

pub async fn end(link: &dyn Link) {
    link.stop_consuming(LONG).await;
    link.finish_consuming(LONG).await;
    link.close(LONG).await;
    assert_eq!(*link.state().borrow(), LinkState::Closed);
}

/// Collects the confirms of what is sent through it, each with its message's id.
pub struct Sender {
    link: Arc<dyn Link>,
    answers: mpsc::UnboundedReceiver<(MessageId, Confirm)>,
    answer: mpsc::UnboundedSender<(MessageId, Confirm)>,
}

impl Sender {
    pub fn new(link: Arc<dyn Link>) -> Self {
        let (answer, answers) = mpsc::unbounded_channel();
        Self {
            link,
            answers,
            answer,
        }
    }

    pub fn send(&self, message: Message) -> MessageId {
        self.send_by(Isolation::Shared, message)
    }

    pub fn send_by(&self, lane: Isolation, message: Message) -> MessageId {
        self.hand_over(message, |message, answer| {
            Outgoing::tracked(message, lane, answer)
        })
    }

    pub fn send_expiring(&self, lane: Isolation, message: Message, ttl: Duration) -> MessageId {
        self.hand_over(message, |message, answer| {
            Outgoing::tracked(message, lane, answer).expiring(ttl)
        })
    }

    /// Sends one of several with the same id. Its answer comes under this name.
    pub fn send_named(&self, message: Message, name: MessageId) {
        let answer = self.answer.clone();
        let told = move |confirm| drop(answer.send((name, confirm)));
        self.link
            .send(Outgoing::tracked(message, Isolation::Shared, told));
    }

    /// Sends one whose record is ours for so long only.
    pub fn send_leased(&self, lane: Isolation, message: Message, lease: Duration) -> MessageId {
        self.hand_over(message, |message, answer| {
            Outgoing::tracked_leased(message, lease, lane, answer)
        })
    }

    /// Sends a message as a record of a bus: its tag is its id.
    fn hand_over(
        &self,
        message: Message,
        outgoing: impl FnOnce(Message, Box<dyn FnOnce(Confirm) + Send>) -> Outgoing,
    ) -> MessageId {
        let id = message.id();
        let answer = self.answer.clone();
        let told = Box::new(move |confirm| drop(answer.send((id, confirm))));
        self.link.send(outgoing(message, told).tagged(id.0));
        id
    }

    pub async fn answer(&mut self) -> (MessageId, Confirm) {
        let answer = timeout(LONG, self.answers.recv()).await;
        answer.expect("no confirm in time").unwrap()
    }

    /// Sends one and waits for its confirm.
    pub async fn confirm(&mut self, lane: Isolation, message: Message) -> Confirm {
        let id = self.send_by(lane, message);
        let (answered, confirm) = self.answer().await;
        assert_eq!(answered, id);
        confirm
    }
}

/// The next delivery.
pub async fn next(deliveries: &mut mpsc::Receiver<Delivery>) -> Delivery {
    let next = timeout(LONG, deliveries.recv()).await;
    next.expect("no delivery in time")
        .expect("the stream ended")
}

/// A connection of the test's own, to arrange things and to look at them.
pub struct Admin {
    pub connection: Connection,
}

impl Admin {
    pub async fn new() -> Self {
        let url = url();
        let connection = Connection::connect(&url, ConnectionProperties::default());
        Self {
            connection: connection.await.unwrap(),
        }
    }

    pub async fn channel(&self) -> Channel {
        self.connection.create_channel().await.unwrap()
    }

    /// A queue bound to a topic's exchange, with arguments.
    pub async fn queue(&self, queue: &str, topic: &str, arguments: &[(&str, AMQPValue)]) {
        let channel = self.channel().await;
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..Default::default()
        };
        let kind = lapin::ExchangeKind::Topic;
        channel
            .exchange_declare(topic.into(), kind, durable, FieldTable::default())
            .await
            .unwrap();
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        channel
            .queue_declare(queue.into(), QueueDeclareOptions::durable(), table)
            .await
            .unwrap();
        channel
            .queue_bind(
                queue.into(),
                topic.into(),
                topic.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
    }

    pub async fn delete_queue(&self, queue: &str) {
        let channel = self.channel().await;
        channel
            .queue_delete(queue.into(), QueueDeleteOptions::default())
            .await
            .unwrap();
    }

    pub async fn delete_exchange(&self, exchange: &str) {
        let channel = self.channel().await;
        let options = ExchangeDeleteOptions::default();
        channel
            .exchange_delete(exchange.into(), options)
            .await
            .unwrap();
    }

    pub async fn publish(
        &self,
        exchange: &str,
        key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) {
        let channel = self.channel().await;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .unwrap();
        let confirm = channel
            .basic_publish(
                exchange.into(),
                key.into(),
                BasicPublishOptions::default(),
                body,
                properties,
            )
            .await
            .unwrap();
        assert!(confirm.await.unwrap().is_ack());
    }

    /// Takes a message out of a queue; waits for it.
    ///
    /// By a connection of its own: RabbitMQ 3.10 closes a connection that asks a quorum queue
    /// that has just been declared and has no leader yet.
    pub async fn get(&self, queue: &str) -> BasicGetMessage {
        let options = BasicGetOptions { no_ack: true };
        timeout(LONG, async {
            loop {
                let own = Self::new().await;
                let channel = own.channel().await;
                while let Ok(answer) = channel.basic_get(queue.into(), options).await {
                    if let Some(message) = answer {
                        return message;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .expect("no message in time")
    }

    /// The ids of everything in a queue. The count a quorum queue tells is old, so they are taken out.
    pub async fn drain(&self, queue: &str) -> Vec<MessageId> {
        let channel = self.channel().await;
        let options = BasicGetOptions { no_ack: true };
        let mut ids = Vec::new();
        loop {
            let gets = (0..200).map(|_| channel.basic_get(queue.into(), options));
            let got = futures::future::join_all(gets).await;
            let before = ids.len();
            for message in got.into_iter().filter_map(Result::unwrap) {
                let id = message.delivery.properties.message_id();
                ids.push(MessageId::from_text(id.as_ref().unwrap().as_str()));
            }
            if ids.len() == before {
                return ids;
            }
        }
    }

    pub async fn exists(&self, queue: &str) -> bool {
        let channel = self.channel().await;
        let passive = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        channel
            .queue_declare(queue.into(), passive, FieldTable::default())
            .await
            .is_ok()
    }

    /// Removes what a service left behind.
    pub async fn forget(&self, service: &str, topics: &[&str]) {
        for queue in [service.to_owned(), format!("{service}_dlx")] {
            self.delete_queue(&queue).await;
        }
        self.delete_exchange(&format!("{service}_exchange_dlx"))
            .await;
        for topic in topics {
            self.delete_exchange(topic).await;
        }
    }
}
