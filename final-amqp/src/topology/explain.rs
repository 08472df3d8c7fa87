//! What an obstacle means for the user.
//!
//! Input: the thing that cannot be had, and RabbitMQ's answer. Output: an error that names the thing and the way
//! out.

use final_core::broker::{BrokerError, BrokerErrorKind};

use super::{Obstacle, Topology, Wanted, existing::is_stream};
use crate::{
    code,
    declare::Declare,
    error::{broker_error, broker_error_with, reply_code},
    names,
    options::QueueKind,
    refusal::is_inequivalent,
};

impl Topology {
    /// The error for the user.
    pub(crate) fn explain(&self, obstacle: Obstacle) -> BrokerError {
        let Obstacle { wanted, error } = obstacle;
        match wanted {
            Wanted::Exchange { name, .. } => {
                let dead_letters = *name == *names::dead_letter_exchange(&self.queue);
                let doing = if dead_letters {
                    format!("the dead-letter exchange {name:?} cannot be used")
                } else {
                    format!("the exchange of topic {name:?} cannot be used")
                };
                broker_error(&doing, error)
            }
            Wanted::Queue { name, .. } => self.explain_queue(&name, error),
            Wanted::Binding { queue, .. } => {
                let doing = if queue == self.queue {
                    "binding the queue to its topics"
                } else {
                    "binding the dead-letter queue"
                };
                broker_error(doing, error)
            }
        }
    }

    fn explain_queue(&self, queue: &str, error: lapin::Error) -> BrokerError {
        let is_mismatch = reply_code(&error) == Some(code::PRECONDITION_FAILED)
            && is_inequivalent(&error.to_string());
        if self.declare == Declare::Nothing && reply_code(&error) == Some(code::NOT_FOUND) {
            let hint = "; `Declare::Nothing` makes no queue, so another program has to";
            return broker_error_with("looking for the queue", error, hint);
        }
        if !is_mismatch {
            return broker_error("declaring a queue", error);
        }
        let text = match self.kind {
            _ if is_stream(&error.to_string()) => format!(
                "queue {queue:?} is a stream, and a service needs a queue: a stream gives each message to every \
                 consumer and takes none back. Give the service another queue, with `Amqp::queue`"
            ),
            QueueKind::Quorum => format!(
                "queue {queue:?} exists with other arguments. `Amqp::declare(Declare::Missing)` takes it as \
                 it is. A queue that Go services use, or that was declared as a classic one, needs \
                 `Amqp::queue_kind(QueueKind::Classic)`; else delete the queue once it is empty"
            ),
            QueueKind::Classic => format!(
                "queue {queue:?} exists with other arguments than a durable classic queue of ours has \
                 (only `x-dead-letter-exchange`). `Amqp::declare(Declare::Missing)` takes it as it is. \
                 Leave out `QueueKind::Classic` if it is a quorum queue; else delete it once it is empty"
            ),
        };
        BrokerError::new(BrokerErrorKind::Mismatch, text).because(error)
    }
}
