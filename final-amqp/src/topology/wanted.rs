//! The things that the service needs in RabbitMQ, and how one is asked for.
//!
//! Input: names and arguments. Output: one request on a channel. RabbitMQ answers it, or closes the channel.

use std::sync::Arc;

use lapin::{
    Channel, ExchangeKind, Result,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};

use crate::names;

/// A thing that the service needs.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    Exchange {
        name: Arc<str>,
        kind: ExchangeKind,
    },
    Queue {
        name: Arc<str>,
        arguments: FieldTable,
    },
    Binding {
        queue: Arc<str>,
        exchange: Arc<str>,
        key: Arc<str>,
    },
}

/// What identifies a thing, whatever its arguments are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Thing {
    Exchange(Arc<str>),
    Queue(Arc<str>),
    Binding(Arc<str>, Arc<str>),
}

/// How an exchange or a queue is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// It is created if it does not exist.
    Declare,
    /// It has to exist. This needs no permission, and its arguments do not matter.
    Look,
}

impl Wanted {
    /// The exchange of a topic.
    pub(crate) fn topic(topic: &Arc<str>) -> Self {
        Self::Exchange {
            name: Arc::clone(topic),
            kind: ExchangeKind::Topic,
        }
    }

    pub(crate) fn thing(&self) -> Thing {
        match self {
            Self::Exchange { name, .. } => Thing::Exchange(Arc::clone(name)),
            Self::Queue { name, .. } => Thing::Queue(Arc::clone(name)),
            Self::Binding {
                queue, exchange, ..
            } => Thing::Binding(Arc::clone(queue), Arc::clone(exchange)),
        }
    }

    pub(crate) fn is_binding(&self) -> bool {
        matches!(self, Self::Binding { .. })
    }

    /// Asks for it. A binding has no other way than to be made.
    pub(crate) async fn ask(&self, channel: &Channel, how: How) -> Result<()> {
        let passive = how == How::Look;
        match self {
            Self::Exchange { name, kind } => {
                let options = ExchangeDeclareOptions {
                    passive,
                    durable: true,
                    ..ExchangeDeclareOptions::default()
                };
                let arguments = FieldTable::default();
                channel
                    .exchange_declare(short(name)?, kind.clone(), options, arguments)
                    .await
            }
            Self::Queue { name, arguments } => {
                let options = QueueDeclareOptions {
                    passive,
                    ..QueueDeclareOptions::durable()
                };
                let declared = channel.queue_declare(short(name)?, options, arguments.clone());
                declared.await.map(drop)
            }
            Self::Binding {
                queue,
                exchange,
                key,
            } => {
                let options = QueueBindOptions::default();
                let (queue, exchange, key) = (short(queue)?, short(exchange)?, short(key)?);
                channel
                    .queue_bind(queue, exchange, key, options, FieldTable::default())
                    .await
            }
        }
    }
}

pub(super) fn short(text: &str) -> Result<ShortString> {
    names::short(text).map_err(|error| std::io::Error::other(error).into())
}
