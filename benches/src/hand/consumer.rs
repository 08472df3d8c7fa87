//! Consuming by hand, with acks gathered as the bus gathers them.

use std::time::Duration;

use futures::StreamExt;
use lapin::{
    Connection,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::time::Instant;

use crate::{Result, payload::Order};

/// How far the broker sends ahead: the bus's own default.
const PREFETCH: u16 = 300;
/// An ack is sent after so many messages …
const ENOUGH: u64 = 64;
/// … or so much time.
const GATHER: Duration = Duration::from_millis(3);

/// Consumes and decodes so many messages; how long it took, from the first consume on.
pub(crate) async fn consume(connection: &Connection, queue: &str, count: u64) -> Result<Duration> {
    let start = Instant::now();
    let mut left = count;
    consume_forever(connection, queue, move |order| {
        drop(order);
        left -= 1;
        left > 0
    })
    .await?;
    Ok(start.elapsed())
}

/// Consumes and decodes, until told that it is enough.
pub(crate) async fn consume_forever(
    connection: &Connection,
    queue: &str,
    mut handle: impl FnMut(Order) -> bool + Send,
) -> Result<()> {
    let channel = connection.create_channel().await?;
    channel
        .basic_qos(PREFETCH, BasicQosOptions::default())
        .await?;
    let options = BasicConsumeOptions::default();
    let mut deliveries = channel
        .basic_consume(queue.into(), "".into(), options, FieldTable::default())
        .await?;
    let (mut open, mut last, mut flush_at) = (0, 0, None);
    loop {
        let next = match flush_at {
            Some(at) => tokio::time::timeout_at(at, deliveries.next()).await.ok(),
            None => Some(deliveries.next().await),
        };
        let mut goes_on = true;
        let is_time = next.is_none();
        if let Some(delivery) = next {
            let delivery = delivery.ok_or("the consumer was cancelled")??;
            goes_on = handle(Order::decode(&delivery.data)?);
            (open, last) = (open + 1, delivery.delivery_tag);
            flush_at.get_or_insert_with(|| Instant::now() + GATHER);
        }
        if open >= ENOUGH || is_time || !goes_on {
            let multiple = BasicAckOptions { multiple: true };
            channel.basic_ack(last, multiple).await?;
            (open, flush_at) = (0, None);
        }
        if !goes_on {
            channel.close(200, "done".into()).await?;
            return Ok(());
        }
    }
}
