//! Alarms of RabbitMQ: too little memory, or a disk that is full.
//!
//! Input: a connection, which must not be used afterwards. Output: a finding if RabbitMQ blocks it.
//!
//! RabbitMQ blocks a connection under an alarm once it publishes. So a message without a queue is published, which
//! RabbitMQ drops, and a question is asked behind it: either it is answered, or the connection is blocked.

use std::time::Duration;

use final_core::admin::doctor::Finding;
use lapin::{
    BasicProperties, Connection, ExchangeKind, Result,
    options::{BasicPublishOptions, ExchangeDeclareOptions},
    types::FieldTable,
};
use tokio::time::{Instant, sleep};

use super::diagnoses::ALARM;
use crate::{connection::open_channel, deadline::CALL_LIMIT, error::timed_out, names::short};

/// How often it is looked whether the connection is blocked.
const PAUSE: Duration = Duration::from_millis(10);

pub(super) async fn look(connection: &Connection) -> Result<Vec<Finding>> {
    let channel = open_channel(connection).await?;
    let nowhere = format!("final_doctor_{}", uuid::Uuid::now_v7().simple());
    let nowhere = short(&nowhere).map_err(std::io::Error::other)?;
    let options = BasicPublishOptions::default();
    channel
        .basic_publish("".into(), nowhere, options, &[], BasicProperties::default())
        .await?;
    let options = ExchangeDeclareOptions {
        passive: true,
        ..ExchangeDeclareOptions::default()
    };
    let fanout = "amq.fanout".into();
    let asked =
        channel.exchange_declare(fanout, ExchangeKind::Fanout, options, FieldTable::default());
    let blocked = async {
        let end = Instant::now() + CALL_LIMIT;
        while Instant::now() < end {
            if connection.status().blocked() {
                return true;
            }
            sleep(PAUSE).await;
        }
        false
    };
    tokio::select! {
        answered = asked => answered.map(|()| Vec::new()),
        is_blocked = blocked => match is_blocked {
            true => Ok(vec![ALARM.found(
                "RabbitMQ blocks connections that publish: an alarm for memory or disk is on",
                "See which by `rabbitmqctl status`, and give the node memory or disk, or let its queues be read",
            )]),
            false => Err(timed_out()),
        },
    }
}
