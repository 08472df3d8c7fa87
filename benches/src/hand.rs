//! The same jobs written by hand with lapin, and a client of the Redis protocol.

mod consumer;
mod publisher;
mod redis;
mod resp;
mod twin;

use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions},
    types::{AMQPValue, FieldTable},
};

pub(crate) use self::{
    consumer::{consume, consume_forever},
    publisher::{Publisher, WINDOW, publish_many},
    redis::{Redis, start_redis},
    resp::{Reply, RespClient, command},
    twin::Twin,
};
use crate::Result;

/// A connection to RabbitMQ.
pub(crate) async fn connect(url: &str) -> Result<Connection> {
    Ok(Connection::connect(url, ConnectionProperties::default()).await?)
}

/// A topic exchange and a quorum queue bound to it, as the bus has them.
pub(crate) async fn declare(channel: &Channel, topic: &str, queue: &str) -> Result<()> {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    declare_with(channel, topic, queue, arguments).await
}

/// The same, with other arguments of the queue.
pub(crate) async fn declare_with(
    channel: &Channel,
    topic: &str,
    queue: &str,
    arguments: FieldTable,
) -> Result<()> {
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let kind = ExchangeKind::Topic;
    channel
        .exchange_declare(topic.into(), kind, durable, FieldTable::default())
        .await?;
    let durable = QueueDeclareOptions::durable();
    channel
        .queue_declare(queue.into(), durable, arguments)
        .await?;
    let bind = QueueBindOptions::default();
    channel
        .queue_bind(
            queue.into(),
            topic.into(),
            "#".into(),
            bind,
            FieldTable::default(),
        )
        .await?;
    Ok(())
}

/// Empties a queue.
pub(crate) async fn purge(channel: &Channel, queue: &str) -> Result<()> {
    channel
        .queue_purge(queue.into(), QueuePurgeOptions::default())
        .await?;
    Ok(())
}
