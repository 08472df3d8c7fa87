//! Declares the exchange of each topic once per connection, before the first message to it. Many are declared
//! at once.
//!
//! Input: messages. State: which exchanges are declared, and the messages that wait for a declaration. Output:
//! messages whose exchange exists.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use final_core::broker::{Confirm, Outgoing};
use lapin::Connection;
use tokio::sync::mpsc;

use super::Way;
use crate::{
    lock::lock,
    topology::{Pipeline, declare_topics},
};

/// How many exchanges are declared at once.
const AT_ONCE: usize = 256;

/// The exchanges of one connection, and the messages that wait for a declaration. Dropping it drops those
/// messages.
#[derive(Debug)]
pub(crate) struct Exchanges {
    known: Mutex<HashMap<Arc<str>, ExchangeState>>,
    wanted: mpsc::UnboundedSender<Arc<str>>,
}

#[derive(Debug)]
enum ExchangeState {
    Declaring(Vec<Outgoing>),
    Declared,
}

impl Exchanges {
    /// The exchanges of a new connection, and the orders for [`declare`].
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Arc<str>>) {
        let (wanted, orders) = mpsc::unbounded_channel();
        let exchanges = Self {
            known: Mutex::default(),
            wanted,
        };
        (exchanges, orders)
    }

    /// Returns the message if its exchange is declared, or else keeps the message until it is.
    pub(crate) fn admit(&self, message: Outgoing) -> Option<Outgoing> {
        // It goes to exchanges that the consuming half declares.
        if message.is_detoured() {
            return Some(message);
        }
        let mut known = self.lock();
        match known.get_mut(message.topic()) {
            Some(ExchangeState::Declared) => return Some(message),
            Some(ExchangeState::Declaring(waiting)) => waiting.push(message),
            None => {
                let topic = message.shared_topic();
                // Without a receiver the connection has ended, and this map ends with it.
                let _ = self.wanted.send(Arc::clone(&topic));
                known.insert(topic, ExchangeState::Declaring(vec![message]));
            }
        }
        None
    }

    /// Forgets which exchanges are declared, because one of them was deleted.
    pub(crate) fn forget(&self) {
        self.lock()
            .retain(|_, known| matches!(known, ExchangeState::Declaring(_)));
    }

    /// Whether no message waits in here.
    pub(crate) fn is_idle(&self) -> bool {
        self.lock()
            .values()
            .all(|known| matches!(known, ExchangeState::Declared))
    }

    /// Returns the messages that waited for a topic. If it is `declared`, later messages need not wait.
    fn waited_for(&self, topic: &Arc<str>, declared: bool) -> Vec<Outgoing> {
        let mut known = self.lock();
        let waited = if declared {
            known.insert(Arc::clone(topic), ExchangeState::Declared)
        } else {
            known.remove(topic)
        };
        match waited {
            Some(ExchangeState::Declaring(waiting)) => waiting,
            _ => Vec::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, ExchangeState>> {
        lock(&self.known)
    }
}

/// Declares the ordered exchanges.
pub(crate) async fn declare(
    way: Arc<Way>,
    connection: Arc<Connection>,
    exchanges: Arc<Exchanges>,
    mut orders: mpsc::UnboundedReceiver<Arc<str>>,
) {
    let mut pipeline = Pipeline::default();
    let mut topics = Vec::new();
    while orders.recv_many(&mut topics, AT_ONCE).await > 0 {
        let declare = way.settings.declare;
        let declared =
            declare_topics(&mut pipeline, &connection, declare, &way.refused, &topics).await;
        for topic in topics.drain(..) {
            match &declared {
                Ok(unusable) => match unusable.get(&topic) {
                    None => way.put_back(exchanges.waited_for(&topic, true)),
                    Some(reason) => {
                        for message in exchanges.waited_for(&topic, false) {
                            message.confirm(Confirm::Denied(reason.clone()));
                        }
                    }
                },
                // The broker did not answer. The connection is probably lost, and the messages count as lost.
                Err(_) => drop(exchanges.waited_for(&topic, false)),
            }
        }
    }
}
