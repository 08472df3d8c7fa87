//! Bindings that are missing.
//!
//! Input: the bindings of a queue or an exchange, as the management API tells them. Output: findings. A running service
//! makes its bindings again every few seconds.

use final_core::admin::doctor::Finding;
use serde_json::Value;

use super::super::diagnoses::{DEAD_LETTER_QUEUE_UNBOUND, QUEUE_UNBOUND, TOPIC_UNBOUND};
use crate::names;

/// Each queue is bound to the default exchange, whose name is empty.
pub(super) fn of_queue(service: &str, queue: &str, bindings: &[Value]) -> Option<Finding> {
    let is_bound = bindings.iter().any(|binding| binding["source"] != "");
    (!is_bound).then(|| {
        QUEUE_UNBOUND.found(
            format!("the queue {queue} is bound to no topic"),
            format!("Start an instance of the service {service}: it binds its queue"),
        )
    })
}

pub(super) fn of_dead_letters(service: &str, queue: &str, bindings: &[Value]) -> Option<Finding> {
    let exchange = names::dead_letter_exchange(queue);
    let is_bound = bindings
        .iter()
        .any(|binding| binding["source"] == *exchange);
    (!is_bound).then(|| {
        let letters = names::dead_letter_queue(queue);
        DEAD_LETTER_QUEUE_UNBOUND.found(
            format!("the queue {letters} is not bound to the exchange {exchange}"),
            format!("Start an instance of the service {service}: it binds the two"),
        )
    })
}

/// An exchange may also lead to another one.
pub(super) fn of_topic(topic: &str, bindings: &[Value]) -> Option<Finding> {
    bindings.is_empty().then(|| {
        TOPIC_UNBOUND.found(
            format!("the exchange {topic} leads to no queue"),
            "Start a service that subscribes the topic",
        )
    })
}
