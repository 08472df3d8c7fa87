//! One confirm channel, owned by one task.
//!
//! Input: messages to write. Output: a verdict for each (see [`Unconfirmed`]), or the reason for the channel's end.
//!
//! lapin takes the delivery tag and queues the frames in the *first* poll of a publish, but not under one lock.
//! Two tasks on one channel can swap their tags, and a nacked message then counts as acked. So this type owns
//! the channel and does the first poll of every publish itself. lapin's `wait_for_confirms` returns too early
//! and is not used; every confirm is kept until it resolves.

use std::{hash::Hash, time::Instant};

use futures::FutureExt;
use lapin::{BasicProperties, Channel, Confirmation, options::BasicPublishOptions};

use super::{
    sweep::SweepVerdict,
    unconfirmed::{BrokerAnswer, Unconfirmed},
};
use crate::{error::Fault, properties::WireMessage};

/// What is known of the messages of a channel that has ended.
#[derive(Debug)]
pub(crate) struct Broken<T> {
    /// To be closed once its messages are settled, because closing may take a while.
    pub(crate) channel: Channel,
    /// Why it ended, if the server said so.
    pub(crate) fault: Option<Fault>,
    /// Written and not answered, with the time of publishing; one of them may be the reason.
    pub(crate) unanswered: Vec<(T, Instant)>,
    /// Not written, or answered without proof. They are not the reason.
    pub(crate) innocent: Vec<T>,
}

/// A confirm channel with the messages in flight on it. `I` tells a message from all others in flight, `T` waits for
/// the verdict.
pub(crate) struct ConfirmChannel<I, T> {
    channel: Channel,
    messages: Unconfirmed<I, T>,
    read_id: fn(&BasicProperties) -> I,
}

impl<I: Eq + Hash + 'static, T> ConfirmChannel<I, T> {
    /// Takes a channel in confirm mode; `read_id` reads what tells a returned message from all others.
    pub(crate) fn new(channel: Channel, read_id: fn(&BasicProperties) -> I) -> Self {
        Self {
            channel,
            messages: Unconfirmed::new(),
            read_id,
        }
    }

    /// Queues a message; the next [`turn`](Self::turn) writes it.
    pub(crate) fn publish(&mut self, wire: WireMessage, id: I, ticket: T) {
        let (channel, read_id) = (self.channel.clone(), self.read_id);
        let answer = async move {
            let options = BasicPublishOptions {
                mandatory: wire.mandatory,
                ..BasicPublishOptions::default()
            };
            let written = channel.basic_publish(
                wire.exchange,
                wire.routing_key,
                options,
                &wire.payload,
                wire.properties,
            );
            let confirmed = async { written.await?.await };
            match confirmed.await {
                Ok(confirmation) => Ok(answer(confirmation, read_id)),
                Err(error) => Err(Fault::from(&error)),
            }
        };
        self.messages.add(id, ticket, answer.boxed());
    }

    /// Writes what is queued and waits until messages are decided, or the channel has ended.
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    pub(crate) async fn turn(&mut self, verdicts: &mut Vec<(T, SweepVerdict)>) {
        self.messages.turn(verdicts).await;
    }

    /// Ends the channel and says what is known of its messages.
    pub(crate) fn end(self, verdicts: &mut Vec<(T, SweepVerdict)>) -> Broken<T> {
        let left = self.messages.end(verdicts);
        Broken {
            channel: self.channel,
            fault: left.fault,
            unanswered: left.unanswered,
            innocent: left.innocent,
        }
    }

    /// How many messages are in here, in whatever state.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Since when the oldest unanswered message waits.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.messages.oldest()
    }

    /// Whether the channel can go on.
    pub(crate) fn is_open(&self) -> bool {
        !self.messages.is_broken() && self.channel.status().connected()
    }
}

fn answer<I>(confirmation: Confirmation, read_id: fn(&BasicProperties) -> I) -> BrokerAnswer<I> {
    let acked = confirmation.is_ack();
    let carried = confirmation.take_message();
    let carried = carried.map(|message| read_id(&message.delivery.properties));
    BrokerAnswer { acked, carried }
}
