//! One confirm channel, owned by one task.
//!
//! lapin takes the delivery tag and queues the frames in the *first* poll of a publish, but not under
//! one lock: two tasks on one channel can swap their tags, and a nacked message then counts as acked.
//! So the channel lives in here, is lent to nobody, and every publish is polled first by its owner.
//! `wait_for_confirms` returns too early and is never called; confirms are kept until they resolve.

use std::{
    future::poll_fn,
    hash::Hash,
    task::{Context, Poll},
    time::Instant,
};

use futures::{FutureExt, future::BoxFuture};
use lapin::{Channel, Confirmation, options::BasicPublishOptions};

use super::sweep::{Sweep, SweepVerdict};
use crate::{error::Fault, properties::WireMessage};

/// What is known of the messages of a channel that has ended.
#[derive(Debug)]
pub(crate) struct Broken<T> {
    /// To be closed once its messages are settled: that may take a while.
    pub(crate) channel: Channel,
    /// Why it ended, if the server said so.
    pub(crate) fault: Option<Fault>,
    /// Written and not answered, with the time of writing; one of them may be the reason.
    pub(crate) unanswered: Vec<(T, Instant)>,
    /// Not written, or answered without proof. None of them is the reason.
    pub(crate) innocent: Vec<T>,
}

/// A confirm channel with the messages in flight on it. `I` is the `message_id`, `T` waits for the
/// verdict.
pub(crate) struct ConfirmChannel<I, T> {
    channel: Channel,
    sweep: Sweep<I, T>,
    /// In the order of publishing, so the first is the oldest.
    outstanding: Vec<Outstanding<I, T>>,
    read_id: fn(&str) -> I,
    fault: Option<Fault>,
    unanswered: Vec<(T, Instant)>,
    unwritten: Vec<T>,
}

struct Outstanding<I, T> {
    number: u64,
    /// Taken when the answer comes.
    owner: Option<(I, T)>,
    answer: BoxFuture<'static, lapin::Result<Confirmation>>,
    since: Instant,
    written: bool,
}

impl<I: Eq + Hash, T> ConfirmChannel<I, T> {
    /// Takes a channel in confirm mode; `read_id` reads the `message_id` of a returned message.
    pub(crate) fn new(channel: Channel, read_id: fn(&str) -> I) -> Self {
        Self {
            channel,
            sweep: Sweep::new(),
            outstanding: Vec::new(),
            read_id,
            fault: None,
            unanswered: Vec::new(),
            unwritten: Vec::new(),
        }
    }

    /// Queues a message; it is written by the next [`turn`](Self::turn).
    pub(crate) fn publish(&mut self, wire: WireMessage, id: I, ticket: T) {
        let channel = self.channel.clone();
        let answer = async move {
            let options = BasicPublishOptions {
                mandatory: wire.mandatory,
                ..BasicPublishOptions::default()
            };
            channel
                .basic_publish(
                    wire.exchange,
                    wire.routing_key,
                    options,
                    &wire.payload,
                    wire.properties,
                )
                .await?
                .await
        };
        self.outstanding.push(Outstanding {
            number: self.sweep.published(),
            owner: Some((id, ticket)),
            answer: answer.boxed(),
            since: Instant::now(),
            written: false,
        });
    }

    /// Writes what is queued and waits until messages are decided, or the channel has ended.
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    pub(crate) async fn turn(&mut self, verdicts: &mut Vec<(T, SweepVerdict)>) {
        poll_fn(|cx| self.poll_turn(cx, verdicts)).await;
    }

    fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        verdicts: &mut Vec<(T, SweepVerdict)>,
    ) -> Poll<()> {
        loop {
            let news = self.round(cx);
            self.sweep.end_round(verdicts);
            if !verdicts.is_empty() || self.fault.is_some() {
                return Poll::Ready(());
            }
            // After news another round may decide more; without, every waker is in place.
            if !news {
                return Poll::Pending;
            }
        }
    }

    /// Looks at every outstanding confirm once. True if one of them had something to say.
    fn round(&mut self, cx: &mut Context<'_>) -> bool {
        let before = self.outstanding.len();
        let (sweep, read_id) = (&mut self.sweep, self.read_id);
        let (fault, unanswered, unwritten) =
            (&mut self.fault, &mut self.unanswered, &mut self.unwritten);
        self.outstanding.retain_mut(|one| {
            let first = !std::mem::replace(&mut one.written, true);
            let Poll::Ready(answer) = one.answer.poll_unpin(cx) else {
                return true;
            };
            let Some((id, ticket)) = one.owner.take() else {
                return false;
            };
            match answer {
                Ok(confirmation) => {
                    let acked = confirmation.is_ack();
                    let carried = confirmation.take_message().map(|message| {
                        let id = message.delivery.properties.message_id();
                        read_id(id.as_ref().map_or("", |id| id.as_str()))
                    });
                    sweep.answered(one.number, id, ticket, acked, carried);
                }
                Err(error) => {
                    sweep.broke();
                    let this = Fault::from(&error);
                    if fault.as_ref().is_none_or(|have| this.tells_more_than(have)) {
                        *fault = Some(this);
                    }
                    // A publish that fails at its first poll was refused by lapin and not written.
                    if first {
                        unwritten.push(ticket);
                    } else {
                        unanswered.push((ticket, one.since));
                    }
                }
            }
            false
        });
        self.outstanding.len() < before
    }

    /// Ends the channel and says what is known of its messages.
    pub(crate) async fn end(mut self, verdicts: &mut Vec<(T, SweepVerdict)>) -> Broken<T> {
        // What resolved before the end is visible in the next round and proven by the one after.
        poll_fn(|cx| {
            for _ in 0..2 {
                self.round(cx);
                self.sweep.end_round(verdicts);
            }
            Poll::Ready(())
        })
        .await;
        let mut unanswered = self.unanswered;
        let mut innocent = self.unwritten;
        for one in self.outstanding {
            let Some((_, ticket)) = one.owner else {
                continue;
            };
            if one.written {
                unanswered.push((ticket, one.since));
            } else {
                innocent.push(ticket);
            }
        }
        innocent.extend(self.sweep.into_undecided());
        Broken {
            channel: self.channel,
            fault: self.fault,
            unanswered,
            innocent,
        }
    }

    /// How many messages are in here, in whatever state.
    pub(crate) fn len(&self) -> usize {
        self.outstanding.len() + self.sweep.undecided()
    }

    /// Since when the oldest unanswered message waits.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.outstanding.first().map(|one| one.since)
    }

    /// Whether the channel can go on.
    pub(crate) fn is_open(&self) -> bool {
        self.fault.is_none() && self.channel.status().connected()
    }
}
