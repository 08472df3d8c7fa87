//! Looks on at what is published, without being a service.
//!
//! Input: topics. State: a connection with a queue of its own, which RabbitMQ deletes with the connection. Output:
//! the messages as they are published from then on.
//!
//! ```text
//!   exchanges of the topics ─▶ a queue without a name: exclusive, 1,000 messages ─▶ 100 unacked ─▶ next()
//! ```
//!
//! Everything is bounded: if messages are taken more slowly than they come, RabbitMQ drops the oldest ones.

use std::sync::Arc;

use bytes::Bytes;
use final_core::{
    Error, Message,
    broker::{BrokerError, BrokerErrorKind},
};
use futures::StreamExt;
use lapin::{
    Connection, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};

use crate::{
    code,
    connection::{close, connect, open_channel},
    deadline::{CALL_LIMIT, within},
    error::{broker_error, broker_error_with, reply_code},
    names,
    options::Amqp,
    properties::{Original, decode},
    role::Role,
    text::cut,
};

/// Messages that wait in the queue at most.
const MOST_WAITING: i32 = 1_000;

/// Messages on their way at most.
const PREFETCH: u16 = 100;

/// What is published to some topics, from the moment on at which it was made by [`Amqp::tail`].
///
/// When it is dropped, RabbitMQ deletes its queue.
pub struct Tail {
    connection: Connection,
    consumer: Consumer,
    topics: Vec<Arc<str>>,
}

impl Amqp {
    /// Looks on at what is published to these topics from now on. It takes no message from any service.
    ///
    /// **A message of a topic that no service's queue is bound to counts as delivered while a tail is bound to it**,
    /// and only the tail gets it. Without the tail such a message waits in the outbox.
    ///
    /// # Errors
    ///
    /// Fails if RabbitMQ cannot be reached or refuses, and if a topic has no exchange, because nothing was ever
    /// published to it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn tail<T: AsRef<str>>(
        &self,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<Tail, Error> {
        let settings = self.settings.at_home();
        let topics: Vec<Arc<str>> = topics
            .into_iter()
            .map(|topic| topic.as_ref().into())
            .collect();
        let connected = connect(&settings, "final", Role::TAIL).await?;
        let connection = connected.connection;
        match consume(&connection, &topics).await {
            Ok(consumer) => Ok(Tail {
                connection,
                consumer,
                topics,
            }),
            Err(error) => {
                close(&connection).await;
                Err(error.into())
            }
        }
    }
}

impl Tail {
    /// The next message, or why a delivery cannot be read as one. Waits until there is one.
    ///
    /// # Errors
    ///
    /// Fails when the connection is lost. What is published until there is another tail is not seen by any.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no message.
    pub async fn next(&mut self) -> Result<Result<Message, String>, Error> {
        let doing = "reading what is published";
        let delivery = match self.consumer.next().await {
            Some(Ok(delivery)) => delivery,
            Some(Err(error)) => return Err(broker_error(doing, error).into()),
            None => {
                let text = format!("{doing}: the connection was lost");
                return Err(BrokerError::new(BrokerErrorKind::Unreachable, text).into());
            }
        };
        // If the ack is lost, so is the connection, and the queue with it.
        let acked = delivery.acker.ack(BasicAckOptions::default()).await;
        acked.map_err(|error| broker_error(doing, error))?;
        Ok(self.read(delivery))
    }

    /// Closes the connection, and with it the queue.
    pub async fn close(self) {
        close(&self.connection).await;
    }

    fn read(&self, delivery: Delivery) -> Result<Message, String> {
        let original = Original::new(
            delivery.properties,
            delivery.exchange,
            delivery.routing_key,
            delivery.redelivered,
            Bytes::from(delivery.data),
            &self.topics,
        );
        decode(&Arc::new(original), &self.topics)
    }
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail")
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}

async fn consume(connection: &Connection, topics: &[Arc<str>]) -> Result<Consumer, BrokerError> {
    let failed = |error| broker_error("making a queue to look on", error);
    let channel = open_channel(connection).await.map_err(failed)?;
    let options = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let mut bounds = FieldTable::default();
    bounds.insert("x-max-length".into(), AMQPValue::LongInt(MOST_WAITING));
    bounds.insert(
        "x-overflow".into(),
        AMQPValue::LongString("drop-head".into()),
    );
    let queue = within(
        CALL_LIMIT,
        channel.queue_declare("".into(), options, bounds),
    )
    .await;
    let queue = queue.map_err(failed)?;
    let queue = queue.name();
    for topic in topics {
        // A longer text does not fit into a frame.
        if topic.len() > names::MAX_TOPIC {
            let text = format!("the topic {:?} is longer than 255 bytes", cut(topic, 48));
            return Err(BrokerError::new(BrokerErrorKind::Invalid, text));
        }
        let name = ShortString::from(&**topic);
        let bound = channel.queue_bind(
            queue.clone(),
            name.clone(),
            name,
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        within(CALL_LIMIT, bound).await.map_err(|error| {
            let hint = match reply_code(&error) {
                Some(code::NOT_FOUND) => {
                    "; nothing was ever published to this topic, or the topic is misspelt"
                }
                _ => "",
            };
            broker_error_with(&format!("looking on at {topic:?}"), error, hint)
        })?;
    }
    let qos = channel.basic_qos(PREFETCH, BasicQosOptions::default());
    within(CALL_LIMIT, qos).await.map_err(failed)?;
    let consume = channel.basic_consume(
        queue.clone(),
        "".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    within(CALL_LIMIT, consume).await.map_err(failed)
}
