//! Takes the dead letters out of their queue while the run goes on.

use lapin::{
    Channel, Connection, ConnectionProperties, options::BasicGetOptions, types::AMQPValue,
};

use super::books::Letter;
use crate::{Error, Result};

/// A dead-letter queue.
#[derive(Debug)]
pub(super) struct Letters {
    connection: Connection,
    queue: String,
}

impl Letters {
    pub(super) async fn of(url: &str, service: &str) -> Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await;
        Ok(Self {
            connection: connection.map_err(refused)?,
            queue: format!("{service}_dlx"),
        })
    }

    /// Takes what is there. A queue that is not declared yet has nothing.
    pub(super) async fn more(&self) -> Result<Vec<Letter>> {
        // A new channel each time: asking for a queue that does not exist closes the channel.
        let channel = self.connection.create_channel().await.map_err(refused)?;
        let mut letters = Vec::new();
        while let Some(letter) = self.next(&channel).await {
            letters.push(letter);
        }
        let _ = channel.close(200, "done".into()).await;
        Ok(letters)
    }

    async fn next(&self, channel: &Channel) -> Option<Letter> {
        let take = BasicGetOptions { no_ack: true };
        let got = channel.basic_get(self.queue.as_str().into(), take).await;
        let delivery = got.ok()??.delivery;
        let headers = delivery.properties.headers().as_ref();
        let reason = headers.and_then(|headers| headers.inner().get("x-final-reason"));
        Some(Letter {
            number: rmp_serde::from_slice(&delivery.data).ok(),
            reason: match reason {
                Some(AMQPValue::LongString(reason)) => Some(reason.to_string()),
                _ => None,
            },
        })
    }
}

fn refused(cause: lapin::Error) -> Error {
    Error::new(
        format!("RabbitMQ does not give its dead letters: {cause}"),
        "see the server's log",
    )
}
