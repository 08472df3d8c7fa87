//! Publishing by hand: persistent, mandatory, confirmed, a window at a time.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use uuid::Uuid;

use crate::{Result, payload::TOPIC};

/// How many messages wait for their confirms, over all channels: the bus's own default.
pub(crate) const WINDOW: usize = 1_000;
/// As many channels as the bus has.
const CHANNELS: usize = 2;

/// A channel in confirm mode.
#[derive(Debug)]
pub(crate) struct Publisher {
    channel: Channel,
    waiting: VecDeque<(Uuid, PublisherConfirm)>,
}

impl Publisher {
    pub(crate) async fn open(connection: &Connection) -> Result<Self> {
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(Self {
            channel,
            waiting: VecDeque::new(),
        })
    }

    /// Sends one; its confirm is waited for with [`confirmed`](Self::confirmed).
    pub(crate) async fn send(&mut self, to: (&str, &str), id: Uuid, payload: &[u8]) -> Result<()> {
        let mandatory = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let mut headers = FieldTable::default();
        headers.insert(
            "x-final-msg-topic".into(),
            AMQPValue::LongString(TOPIC.into()),
        );
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id(id.to_string().into())
            .with_content_type("application/msgpack".into())
            .with_headers(headers);
        let (exchange, key) = (to.0.into(), to.1.into());
        let sent = self
            .channel
            .basic_publish(exchange, key, mandatory, payload, properties);
        self.waiting.push_back((id, sent.await?));
        Ok(())
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Waits for the oldest confirm; `None` if none is outstanding.
    pub(crate) async fn confirmed(&mut self) -> Result<Option<Uuid>> {
        // Kept in place until it has come, so that the future can be dropped.
        let Some((id, confirm)) = self.waiting.front_mut() else {
            return Ok(None);
        };
        let id = *id;
        match confirm.await? {
            Confirmation::Ack(None) => {
                self.waiting.pop_front();
                Ok(Some(id))
            }
            other => Err(format!("not stored: {other:?}").into()),
        }
    }
}

/// Publishes so many equal messages, half of them on each of two channels, and waits for all
/// confirms.
pub(crate) async fn publish_many(
    connection: &Connection,
    to: (&str, &str),
    count: u64,
    payload: &[u8],
) -> Result<Duration> {
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CHANNELS {
        let mut publisher = Publisher::open(connection).await?;
        let (exchange, key) = (to.0.to_owned(), to.1.to_owned());
        let payload = payload.to_vec();
        tasks.spawn(async move {
            for _ in 0..count / CHANNELS as u64 {
                if publisher.waiting() >= WINDOW / CHANNELS {
                    publisher.confirmed().await?;
                }
                let id = Uuid::now_v7();
                publisher.send((&exchange, &key), id, &payload).await?;
            }
            while publisher.confirmed().await?.is_some() {}
            Ok::<_, crate::BoxError>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(start.elapsed())
}
