//! Takes messages out of a queue, as the management page does.

use std::time::Duration;

use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicGetOptions},
    types::AMQPValue,
};

use crate::eventually;

/// A message taken out of a queue.
#[derive(Debug)]
pub struct Taken {
    payload: Vec<u8>,
    properties: BasicProperties,
}

/// Waits for `count` messages in the queue, takes and acks them.
///
/// The count that RabbitMQ tells of a quorum queue is cached, so messages are taken instead of counted.
///
/// # Panics
///
/// Panics if the messages do not come in time, or the server refuses.
pub async fn take(url: &str, queue: &str, count: usize, within: Duration) -> Vec<Taken> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await;
    let connection = connection.unwrap_or_else(|error| panic!("RabbitMQ refuses: {error}"));
    let mut taken = Vec::new();
    eventually(
        &format!("{count} messages in {queue}"),
        within,
        async || {
            // A new channel for each try: a queue that does not exist yet closes the channel.
            let channel = connection
                .create_channel()
                .await
                .map_err(|error| error.to_string())?;
            while let Some(message) = channel
                .basic_get(queue.into(), BasicGetOptions::default())
                .await
                .map_err(|error| error.to_string())?
            {
                let delivery = message.delivery;
                delivery
                    .ack(BasicAckOptions::default())
                    .await
                    .map_err(|error| error.to_string())?;
                taken.push(Taken {
                    payload: delivery.data,
                    properties: delivery.properties,
                });
                if taken.len() >= count {
                    break;
                }
            }
            let _ = channel.close(200, "done".into()).await;
            if taken.len() >= count {
                Ok(())
            } else {
                Err(format!("{} so far", taken.len()))
            }
        },
    )
    .await;
    let _ = connection.close(200, "done".into()).await;
    taken
}

impl Taken {
    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// All properties.
    pub fn properties(&self) -> &BasicProperties {
        &self.properties
    }

    /// The `message_id` property.
    pub fn message_id(&self) -> Option<&str> {
        self.properties.message_id().as_ref().map(|id| id.as_str())
    }

    /// A header as text, whatever its type.
    pub fn header(&self, name: &str) -> Option<String> {
        match self.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            AMQPValue::LongInt(number) => Some(number.to_string()),
            AMQPValue::LongUInt(number) => Some(number.to_string()),
            AMQPValue::LongLongInt(number) => Some(number.to_string()),
            other => Some(format!("{other:?}")),
        }
    }
}
