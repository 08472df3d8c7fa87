//! The queues of a service, and exchanges, as RabbitMQ has them.
//!
//! Input: names, and the settings with which a service would declare them. Output: findings.
//!
//! ```text
//!   passive declare ─┬─ not there ─▶ missing
//!                    ├─ locked ────▶ exclusive
//!                    └─ there ─▶ declared as a service would ─┬─ taken ─▶ as it should be
//!                                                             └─ refused ─▶ the refusal names what differs
//! ```
//!
//! RabbitMQ closes the channel of a question that it refuses, so each question has a channel of its own.

use std::sync::Arc;

use final_core::admin::doctor::{COULD_NOT_CHECK, Finding};
use lapin::{
    Channel, Connection, Error, ExchangeKind, Queue, Result, options::QueueDeclareOptions,
    types::FieldTable,
};

use super::diagnoses::{
    DEAD_LETTER_EXCHANGE_MISSING, DEAD_LETTER_QUEUE_MISSING, QUEUE_ARGUMENTS, QUEUE_CLASSIC,
    QUEUE_EXCLUSIVE, QUEUE_MISSING, QUEUE_NOT_DURABLE, QUEUE_WITHOUT_CONSUMERS,
    TOPIC_EXCHANGE_MISSING,
};
use crate::{
    code,
    connection::{close_channel, open_channel},
    deadline::{CALL_LIMIT, within},
    declare::Declare,
    error::reply_code,
    names::{self, short},
    options::{QueueKind, Settings},
    topology::{How, Topology, Wanted},
};

/// Questions over one connection.
pub(super) struct Asks<'a> {
    pub(super) connection: &'a Connection,
    pub(super) settings: &'a Settings,
}

impl Asks<'_> {
    /// The queue of a service, and its dead letters.
    pub(super) async fn service(&self, service: &str) -> Result<Vec<Finding>> {
        let queue = self.settings.queue.as_deref().unwrap_or(service);
        let topology = self.topology(service, queue);
        let start =
            format!("Start an instance of the service {service}: it declares what is missing");
        let mut findings = Vec::new();
        match self.passive(queue).await {
            Ok(seen) => {
                findings.extend(unread(service, queue, &seen));
                findings.extend(self.arguments(&topology, queue, true).await?);
            }
            Err(error) if is(&error, code::NOT_FOUND) => {
                findings.push(QUEUE_MISSING.found(
                    format!("there is no queue {queue} for the service {service}"),
                    &*start,
                ));
                // Its dead letters are declared together with it.
                return Ok(findings);
            }
            Err(error) if is(&error, code::RESOURCE_LOCKED) => findings.push(exclusive(queue)),
            Err(error) => findings.push(refused(queue, error)?),
        }
        let exchange = names::dead_letter_exchange(queue);
        let wanted = Wanted::Exchange {
            name: exchange.as_str().into(),
            kind: ExchangeKind::Fanout,
        };
        match self.ask(&wanted, How::Look).await {
            Ok(()) => {}
            Err(error) if is(&error, code::NOT_FOUND) => {
                let what = format!(
                    "there is no exchange {exchange} for the dead letters of the service {service}"
                );
                findings.push(DEAD_LETTER_EXCHANGE_MISSING.found(what, &*start));
            }
            Err(error) => findings.push(refused(&exchange, error)?),
        }
        let letters = names::dead_letter_queue(queue);
        match self.passive(&letters).await {
            Ok(_) => findings.extend(self.arguments(&topology, &letters, false).await?),
            Err(error) if is(&error, code::NOT_FOUND) => {
                let what = format!(
                    "there is no queue {letters} for the dead letters of the service {service}"
                );
                findings.push(DEAD_LETTER_QUEUE_MISSING.found(what, &*start));
            }
            Err(error) if is(&error, code::RESOURCE_LOCKED) => findings.push(exclusive(&letters)),
            Err(error) => findings.push(refused(&letters, error)?),
        }
        Ok(findings)
    }

    /// The exchange of a topic.
    pub(super) async fn topic(&self, topic: &Arc<str>) -> Result<Option<Finding>> {
        match self.ask(&Wanted::topic(topic), How::Look).await {
            Ok(()) => Ok(None),
            Err(error) if is(&error, code::NOT_FOUND) => Ok(Some(TOPIC_EXCHANGE_MISSING.found(
                format!("there is no exchange {topic}"),
                "Start a service that publishes or subscribes the topic: it declares the exchange",
            ))),
            Err(error) => refused(topic, error).map(Some),
        }
    }

    /// What differs from the queue that a service would declare.
    async fn arguments(
        &self,
        topology: &Topology,
        queue: &str,
        dead_letters: bool,
    ) -> Result<Option<Finding>> {
        // It is used as it is.
        if self.settings.declare != Declare::All {
            return Ok(None);
        }
        let name: Arc<str> = queue.into();
        let mut first = None;
        for kind in [QueueKind::Quorum, QueueKind::Classic] {
            let topology = Topology {
                kind,
                ..topology.clone()
            };
            let Ok(wanted) = topology.queue(&name, dead_letters) else {
                return Ok(None);
            };
            match self.ask(&wanted, How::Declare).await {
                Ok(())
                    if kind == QueueKind::Classic
                        && self.settings.queue_kind == QueueKind::Quorum =>
                {
                    return Ok(Some(classic(queue)));
                }
                Ok(()) => return Ok(None),
                Err(error) if is(&error, code::PRECONDITION_FAILED) => {
                    first.get_or_insert(error);
                }
                Err(error) => return refused(queue, error).map(Some),
            }
        }
        Ok(first.map(|error| differs(queue, &error)))
    }

    async fn ask(&self, wanted: &Wanted, how: How) -> Result<()> {
        self.on_channel(async |channel| wanted.ask(channel, how).await)
            .await
    }

    async fn passive(&self, queue: &str) -> Result<Queue> {
        let name = short(queue).map_err(std::io::Error::other)?;
        self.on_channel(async |channel| {
            let options = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::durable()
            };
            channel
                .queue_declare(name, options, FieldTable::default())
                .await
        })
        .await
    }

    async fn on_channel<T>(&self, ask: impl AsyncFnOnce(&Channel) -> Result<T>) -> Result<T> {
        let channel = open_channel(self.connection).await?;
        let answer = within(CALL_LIMIT, ask(&channel)).await;
        close_channel(&channel).await;
        answer
    }

    fn topology(&self, service: &str, queue: &str) -> Topology {
        Topology {
            service: service.to_owned(),
            queue: queue.into(),
            kind: self.settings.queue_kind,
            topics: Vec::new(),
            declare: self.settings.declare,
            refused: Arc::default(),
        }
    }
}

fn is(error: &Error, code: u16) -> bool {
    reply_code(error) == Some(code)
}

/// A question that this user may not ask. Any other error ends the examination of the service.
fn refused(name: &str, error: Error) -> Result<Finding> {
    if !is(&error, code::ACCESS_REFUSED) {
        return Err(error);
    }
    Ok(COULD_NOT_CHECK.found(
        format!("RabbitMQ does not let this user look at {name}: {error}"),
        "Look with the user of the service, or with one that may configure it",
    ))
}

fn unread(service: &str, queue: &str, seen: &Queue) -> Option<Finding> {
    let (messages, consumers) = (seen.message_count(), seen.consumer_count());
    (messages > 0 && consumers == 0).then(|| {
        QUEUE_WITHOUT_CONSUMERS.found(
            format!("{messages} message(s) wait in the queue {queue}, which has no consumer"),
            format!("Start an instance of the service {service}; if one runs, its log says why it does not consume"),
        )
    })
}

fn exclusive(queue: &str) -> Finding {
    QUEUE_EXCLUSIVE.found(
        format!("the queue {queue} belongs to one connection alone"),
        "End the program that has declared it: the queue goes with it, and the next start of the service makes its own",
    )
}

fn classic(queue: &str) -> Finding {
    QUEUE_CLASSIC.found(
        format!("the queue {queue} is a classic queue"),
        format!(
            "Nothing, if Go services share it. Else let the service empty it, run \
             `rabbitmqctl delete_queue {queue} --if-empty`, and start the service again"
        ),
    )
}

/// RabbitMQ's refusal names one thing that differs.
fn differs(queue: &str, error: &Error) -> Finding {
    let text = error.to_string();
    let differs = text
        .split_once("inequivalent arg ")
        .map_or(&*text, |(_, differs)| differs);
    let is_transient = ["'durable'", "'auto_delete'"]
        .iter()
        .any(|name| differs.starts_with(name));
    let diagnosis = if is_transient {
        QUEUE_NOT_DURABLE
    } else {
        QUEUE_ARGUMENTS
    };
    let take = match is_transient {
        true => "",
        false => "; or let the service take it as it is, with `Amqp::declare(Declare::Missing)`",
    };
    diagnosis.found(
        format!("the queue {queue} has other properties than a service declares: {differs}"),
        format!(
            "Let the service empty it, run `rabbitmqctl delete_queue {queue} --if-empty`, and start the service again, \
             which makes it as it should be{take}"
        ),
    )
}
