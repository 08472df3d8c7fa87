//! A fresh vhost, and what is done there by hand: queues are made, filled and looked into.

use std::collections::VecDeque;

use final_tests::Vhost;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
        QueueDeclareOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable},
};

use crate::{Result, load::until};

/// Where peers send and take messages.
pub(crate) const QUEUE: &str = "orders";
/// How many messages wait for their confirms while a queue is filled.
const WINDOW: usize = 1_000;

/// A vhost made for one play.
#[derive(Debug)]
pub(crate) struct Rabbit {
    vhost: Vhost,
    /// Kept, because its channel ends with it.
    _connection: Connection,
    channel: Channel,
}

impl Rabbit {
    pub(crate) async fn new() -> Result<Self> {
        let vhost = final_tests::amqp_vhost().await?;
        let properties = ConnectionProperties::default();
        let connection = Connection::connect(vhost.url(), properties).await?;
        let channel = connection.create_channel().await?;
        let confirms = ConfirmSelectOptions::default();
        channel.confirm_select(confirms).await?;
        Ok(Self {
            vhost,
            _connection: connection,
            channel,
        })
    }

    pub(crate) fn url(&self) -> &str {
        self.vhost.url()
    }

    /// Makes a queue as ours is.
    pub(crate) async fn declare(&self, queue: &str) -> Result<()> {
        let durable = QueueDeclareOptions::durable();
        self.channel
            .queue_declare(queue.into(), durable, quorum())
            .await?;
        Ok(())
    }

    /// Puts so many equal messages into a queue.
    pub(crate) async fn fill(
        &self,
        queue: &str,
        properties: &BasicProperties,
        body: &[u8],
        count: u64,
    ) -> Result<()> {
        let mandatory = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let mut waiting = VecDeque::new();
        for number in 0..count {
            let sent = self.channel.basic_publish(
                "".into(),
                queue.into(),
                mandatory,
                body,
                properties.clone(),
            );
            waiting.push_back(sent.await?);
            let keep = if number + 1 == count { 0 } else { WINDOW };
            while waiting.len() > keep {
                match waiting.pop_front() {
                    Some(confirm) => stored(confirm.await?)?,
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Takes a message out: what a peer sends, for more of the kind.
    pub(crate) async fn take(&self, queue: &str) -> Result<(BasicProperties, Vec<u8>)> {
        let get = BasicGetOptions::default();
        let message = self.channel.basic_get(queue.into(), get).await?;
        let message = message.ok_or("there is no message in the queue")?.delivery;
        message.acker.ack(BasicAckOptions::default()).await?;
        Ok((message.properties, message.data))
    }

    /// An error unless a queue has so many messages. Takes them out.
    pub(crate) async fn had(&self, count: u64, queue: &str) -> Result<()> {
        let purge = QueuePurgeOptions::default();
        let found = self.channel.queue_purge(queue.into(), purge).await?;
        if u64::from(found) != count {
            return Err(format!("{queue} has {found} messages and should have {count}").into());
        }
        Ok(())
    }

    /// Waits until a queue has no consumer any more, so that what was not acked is back; an error
    /// unless that is nothing.
    pub(crate) async fn is_empty(&self, queue: &str) -> Result<()> {
        let look = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let alone = async || {
            let name = queue.into();
            let state = self
                .channel
                .queue_declare(name, look, FieldTable::default());
            Ok(state.await?.consumer_count() == 0)
        };
        until("for the consumers to be gone", alone).await?;
        self.had(0, queue).await
    }
}

/// What makes a queue a quorum queue.
pub(crate) fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    let kind = AMQPValue::LongString("quorum".into());
    arguments.insert("x-queue-type".into(), kind);
    arguments
}

/// Persistent, and of a content type.
pub(crate) fn persistent(content_type: &str) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type(content_type.into())
}

fn stored(confirmation: Confirmation) -> Result<()> {
    match confirmation {
        Confirmation::Ack(None) => Ok(()),
        other => Err(format!("not stored: {other:?}").into()),
    }
}
