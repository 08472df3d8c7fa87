//! Takes messages out of a queue, as a person with the management page would.

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
/// Counting what a queue says it holds would not do: for a quorum queue that is a cached number.
///
/// # Panics
///
/// When they do not come in time, or the server refuses.
pub async fn take(url: &str, queue: &str, count: usize, within: Duration) -> Vec<Taken> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await;
    let connection = connection.unwrap_or_else(|error| panic!("RabbitMQ refuses: {error}"));
    let mut taken = Vec::new();
    eventually(
        &format!("{count} messages in {queue}"),
        within,
        async || {
            // A channel for each look: a queue that is not there yet closes it.
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
