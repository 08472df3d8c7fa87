//! Declares the exchanges, queues and bindings that must exist before messages flow.
//!
//! Input: the service's queue and topics. Output: nothing, or the error that says what is in the way.
//! RabbitMQ closes the channel of a refused declaration, so each declaration has a channel of its own.

use final_core::broker::{BrokerError, BrokerErrorKind};
use lapin::{
    Channel, Connection, Error, ExchangeKind, Queue, Result,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions},
    types::{AMQPValue, FieldTable},
};

use crate::{
    code,
    connection::{close_channel, open_channel},
    deadline::{CALL_LIMIT, within},
    error::{broker_error, reply_code},
    names,
    options::QueueKind,
    refusal::is_inequivalent,
};

/// The queues of one service.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    pub(crate) service: String,
    pub(crate) queue: String,
    pub(crate) kind: QueueKind,
    pub(crate) topics: Vec<std::sync::Arc<str>>,
}

/// Whether messages can be published to a topic's exchange. If not, the server's reason.
#[derive(Clone, Debug)]
pub(crate) enum Exchange {
    Usable,
    Unusable(Error),
}

impl Topology {
    /// Declares everything that consuming needs. Dead letters come first, so that none is ever dropped.
    pub(crate) async fn declare(
        &self,
        connection: &Connection,
    ) -> std::result::Result<(), BrokerError> {
        self.declare_dead_letters(connection).await?;
        self.declare_queue(connection, &self.queue, true).await?;
        for topic in &self.topics {
            match declare_exchange(connection, topic).await {
                Ok(Exchange::Usable) => {}
                Ok(Exchange::Unusable(error)) => {
                    let doing = format!("the exchange of topic {topic:?} cannot be used");
                    return Err(broker_error(&doing, error));
                }
                Err(error) => return Err(broker_error("declaring a topic's exchange", error)),
            }
            self.bind(connection, &self.queue, topic, topic)
                .await
                .map_err(|error| broker_error("binding the queue to its topics", error))?;
        }
        Ok(())
    }

    /// Declares the service's dead-letter exchange and queue.
    pub(crate) async fn declare_dead_letters(
        &self,
        connection: &Connection,
    ) -> std::result::Result<(), BrokerError> {
        let exchange = names::dead_letter_exchange(&self.queue);
        let queue = names::dead_letter_queue(&self.queue);
        match declare(connection, &exchange, ExchangeKind::Fanout).await {
            Ok(Exchange::Usable) => {}
            Ok(Exchange::Unusable(error)) => {
                let doing = format!("the dead-letter exchange {exchange:?} cannot be used");
                return Err(broker_error(&doing, error));
            }
            Err(error) => return Err(broker_error("declaring the dead-letter exchange", error)),
        }
        self.declare_queue(connection, &queue, false).await?;
        self.bind(connection, &queue, &exchange, "")
            .await
            .map_err(|error| broker_error("binding the dead-letter queue", error))
    }

    /// Empties the service's queues. Refused while a queue has consumers.
    pub(crate) async fn purge(
        &self,
        connection: &Connection,
    ) -> std::result::Result<(), BrokerError> {
        let failed = |error| broker_error("purging the queues", error);
        for queue in [self.queue.clone(), names::dead_letter_queue(&self.queue)] {
            let Some(found) = look(connection, &queue).await.map_err(failed)? else {
                continue;
            };
            if found.consumer_count() > 0 {
                return Err(BrokerError::new(
                    BrokerErrorKind::InUse,
                    format!(
                        "queue {queue:?} has {} consumer(s) and is not purged; stop the other \
                         instances first",
                        found.consumer_count()
                    ),
                ));
            }
            let channel = open_channel(connection).await.map_err(failed)?;
            let purged =
                channel.queue_purge(short(&queue).map_err(failed)?, QueuePurgeOptions::default());
            within(CALL_LIMIT, purged).await.map_err(failed)?;
            close_channel(&channel).await;
        }
        Ok(())
    }

    async fn declare_queue(
        &self,
        connection: &Connection,
        queue: &str,
        dead_letters: bool,
    ) -> std::result::Result<(), BrokerError> {
        let error = match self.try_queue(connection, queue, dead_letters).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        match reply_code(&error) {
            // Without permission to declare, it is enough that the queue exists.
            Some(code::ACCESS_REFUSED) if matches!(look(connection, queue).await, Ok(Some(_))) => Ok(()),
            Some(code::PRECONDITION_FAILED) if is_inequivalent(&error.to_string()) => Err(BrokerError::new(
                BrokerErrorKind::Mismatch,
                match self.kind {
                    QueueKind::Quorum => format!(
                        "queue {queue:?} exists with other arguments. A queue that Go services use, \
                         or that was declared as a classic one, needs \
                         `Amqp::queue_kind(QueueKind::Classic)`; else delete the queue once it is empty"
                    ),
                    QueueKind::Classic => format!(
                        "queue {queue:?} exists with other arguments than a durable classic queue of \
                         ours has (only `x-dead-letter-exchange`). Leave out \
                         `QueueKind::Classic` if it is a quorum queue; else delete it once it is empty"
                    ),
                },
            )
            .because(error)),
            _ => Err(broker_error("declaring a queue", error)),
        }
    }

    async fn try_queue(
        &self,
        connection: &Connection,
        queue: &str,
        dead_letters: bool,
    ) -> Result<()> {
        let mut arguments = FieldTable::default();
        if dead_letters {
            let exchange = names::dead_letter_exchange(&self.queue);
            let exchange = AMQPValue::LongString(exchange.into());
            arguments.insert(short(names::DEAD_LETTER_ARGUMENT)?, exchange);
        }
        // The Go services declare a classic queue without its type, and the arguments must be equal.
        if self.kind == QueueKind::Quorum {
            let kind = AMQPValue::LongString("quorum".into());
            arguments.insert(short(names::QUEUE_TYPE_ARGUMENT)?, kind);
        }
        let channel = open_channel(connection).await?;
        let declared =
            channel.queue_declare(short(queue)?, QueueDeclareOptions::durable(), arguments);
        within(CALL_LIMIT, declared).await?;
        close_channel(&channel).await;
        Ok(())
    }

    async fn bind(
        &self,
        connection: &Connection,
        queue: &str,
        exchange: &str,
        key: &str,
    ) -> Result<()> {
        let channel = open_channel(connection).await?;
        let bound = channel.queue_bind(
            short(queue)?,
            short(exchange)?,
            short(key)?,
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        within(CALL_LIMIT, bound).await?;
        close_channel(&channel).await;
        Ok(())
    }
}

/// Declares a topic's exchange.
pub(crate) async fn declare_exchange(connection: &Connection, topic: &str) -> Result<Exchange> {
    declare(connection, topic, ExchangeKind::Topic).await
}

/// Declares an exchange. If that is refused, or the exchange has other properties, it is enough that it
/// exists.
async fn declare(connection: &Connection, name: &str, kind: ExchangeKind) -> Result<Exchange> {
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let refusal = match try_declare(connection, name, kind.clone(), durable).await {
        Ok(()) => return Ok(Exchange::Usable),
        Err(error) => error,
    };
    if !is_refusal(&refusal) {
        return Err(refusal);
    }
    let passive = ExchangeDeclareOptions {
        passive: true,
        ..durable
    };
    match try_declare(connection, name, kind, passive).await {
        Ok(()) => Ok(Exchange::Usable),
        Err(error) if reply_code(&error) == Some(code::NOT_FOUND) => {
            Ok(Exchange::Unusable(refusal))
        }
        Err(error) if is_refusal(&error) => Ok(Exchange::Unusable(error)),
        Err(error) => Err(error),
    }
}

/// Whether the server closed the channel only, and not the connection.
fn is_refusal(error: &Error) -> bool {
    error.is_amqp_soft_error()
}

async fn try_declare(
    connection: &Connection,
    name: &str,
    kind: ExchangeKind,
    options: ExchangeDeclareOptions,
) -> Result<()> {
    let channel = open_channel(connection).await?;
    let declared = channel.exchange_declare(short(name)?, kind, options, FieldTable::default());
    within(CALL_LIMIT, declared).await?;
    close_channel(&channel).await;
    Ok(())
}

/// Looks for a queue without creating it.
async fn look(connection: &Connection, queue: &str) -> Result<Option<Queue>> {
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::durable()
    };
    let channel: Channel = open_channel(connection).await?;
    let declared = channel.queue_declare(short(queue)?, passive, FieldTable::default());
    match within(CALL_LIMIT, declared).await {
        Ok(queue) => {
            close_channel(&channel).await;
            Ok(Some(queue))
        }
        Err(error) if reply_code(&error) == Some(code::NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

fn short(text: &str) -> Result<lapin::types::ShortString> {
    names::short(text).map_err(|error| std::io::Error::other(error).into())
}
