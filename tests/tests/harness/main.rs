//! Tests of the harness, so that a failed test elsewhere is not the fault of the harness.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests say what they expect as tests do"
)]

mod lifetime;
mod proxy;
mod servers;
mod shared;

use std::time::Duration;

use futures::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
        QueueDeclareOptions,
    },
    types::FieldTable,
};

/// Far more than anything here takes, also on a machine with other work.
const SOON: Duration = Duration::from_secs(120);
/// Enough time to see that nothing comes.
const A_WHILE: Duration = Duration::from_millis(300);

async fn amqp(url: &str) -> Connection {
    Connection::connect(url, ConnectionProperties::default())
        .await
        .unwrap()
}

/// Publishes one persistent message into a durable queue, and waits for the broker's confirm.
async fn store(channel: &Channel, queue: &str, payload: &[u8]) {
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    let durable = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    channel
        .queue_declare(queue.into(), durable, FieldTable::default())
        .await
        .unwrap();
    let options = BasicPublishOptions {
        mandatory: true,
        ..Default::default()
    };
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let sent = channel.basic_publish("".into(), queue.into(), options, payload, persistent);
    let confirm = sent.await.unwrap().await.unwrap();
    assert!(confirm.is_ack(), "{confirm:?}");
}

/// Takes the next message out of a queue.
async fn take(channel: &Channel, queue: &str) -> Vec<u8> {
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
    let delivery = consumer.await.unwrap().next().await.unwrap().unwrap();
    delivery
        .acker
        .ack(BasicAckOptions::default())
        .await
        .unwrap();
    delivery.data
}
