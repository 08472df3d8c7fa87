//! The messages in flight on one confirm channel, without the channel.
//!
//! Input: a future for each message, which resolves to the broker's answer. State: the unanswered messages,
//! and the [`Sweep`] that decides about the answered ones. Output: verdicts; and once the channel has ended,
//! which messages may be the reason for its end and which cannot be.
//!
//! ```text
//! add ─▶ not written ── first poll ─▶ written ── answered ─▶ sweep ─▶ verdict
//!             │ fails at the first poll    │ fails later         │ the channel ends without proof
//!             ▼                            ▼                     ▼
//!          innocent                    unanswered             innocent
//! ```

use std::{
    collections::{BTreeMap, btree_map::Entry},
    future::poll_fn,
    hash::Hash,
    mem,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use futures::{FutureExt, future::BoxFuture};

use super::{
    sweep::{Sweep, SweepVerdict},
    woken::{NewsOf, Woken},
};
use crate::error::Fault;

/// What the broker answered.
#[derive(Debug)]
pub(crate) struct BrokerAnswer<I> {
    pub(crate) acked: bool,
    /// Which returned message came with the answer. lapin gives it to any confirm.
    pub(crate) carried: Option<I>,
}

/// The answer to come, or why there will be none.
pub(crate) type AnswerFuture<I> = BoxFuture<'static, Result<BrokerAnswer<I>, Fault>>;

/// Messages in flight. `I` tells a message from all others in flight, `T` waits for the verdict.
pub(crate) struct Unconfirmed<I, T> {
    sweep: Sweep<I, T>,
    /// By their numbers, which are in the order of publishing, so the first is the oldest.
    outstanding: BTreeMap<u64, Outstanding<I, T>>,
    /// The number of the first message that is not written.
    unwritten_from: u64,
    woken: Arc<Woken>,
    /// Those that woke, while they are asked.
    asked: Vec<u64>,
    fault: Option<Fault>,
    unanswered: Vec<(T, Instant)>,
    unwritten: Vec<T>,
}

/// What is left of the messages once the channel has ended.
#[derive(Debug)]
pub(crate) struct Leftovers<T> {
    /// Why the channel ended, as far as the broker or lapin said it.
    pub(crate) fault: Option<Fault>,
    /// Written and not answered, with the time of publishing. One of them may be the reason.
    pub(crate) unanswered: Vec<(T, Instant)>,
    /// Not written, or answered without proof. They are not the reason.
    pub(crate) innocent: Vec<T>,
}

struct Outstanding<I, T> {
    id: I,
    ticket: T,
    answer: AnswerFuture<I>,
    news: Arc<NewsOf>,
    since: Instant,
}

impl<I: Eq + Hash, T> Unconfirmed<I, T> {
    pub(crate) fn new() -> Self {
        Self {
            sweep: Sweep::new(),
            outstanding: BTreeMap::new(),
            unwritten_from: 0,
            woken: Arc::default(),
            asked: Vec::new(),
            fault: None,
            unanswered: Vec::new(),
            unwritten: Vec::new(),
        }
    }

    /// Takes a message. The first poll of the future, by the next [`turn`](Self::turn), writes it.
    pub(crate) fn add(&mut self, id: I, ticket: T, answer: AnswerFuture<I>) {
        let number = self.sweep.published();
        let one = Outstanding {
            id,
            ticket,
            answer,
            news: NewsOf::message(number, &self.woken),
            since: Instant::now(),
        };
        self.outstanding.insert(number, one);
    }

    /// Writes what was added and waits until messages are decided, or the channel has ended.
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
            // First, so that no news is missed that comes after the list is taken.
            self.woken.register(cx.waker());
            let news = self.write() | self.round();
            self.sweep.end_round(verdicts);
            if !verdicts.is_empty() || self.fault.is_some() {
                return Poll::Ready(());
            }
            // After news another round may decide more. Without news every waker is in place.
            if !news {
                return Poll::Pending;
            }
        }
    }

    /// Polls what was added for the first time, which writes it. True if something was answered at once.
    fn write(&mut self) -> bool {
        let before = self.outstanding.len();
        while let Some((&number, _)) = self.outstanding.range(self.unwritten_from..).next() {
            self.unwritten_from = number + 1;
            self.ask(number, true);
        }
        self.outstanding.len() < before
    }

    /// Asks each message once that has woken. True if something was answered. Why the others need not be asked: see
    /// [`sweep`](super::sweep).
    fn round(&mut self) -> bool {
        let before = self.outstanding.len();
        let mut asked = mem::take(&mut self.asked);
        self.woken.take(&mut asked);
        for number in asked.drain(..) {
            self.ask(number, false);
        }
        self.asked = asked;
        self.outstanding.len() < before
    }

    /// Looks at one answer.
    fn ask(&mut self, number: u64, is_first: bool) {
        let Entry::Occupied(mut entry) = self.outstanding.entry(number) else {
            return;
        };
        let one = entry.get_mut();
        one.news.is_asked();
        let waker = Waker::from(Arc::clone(&one.news));
        let Poll::Ready(answer) = one.answer.poll_unpin(&mut Context::from_waker(&waker)) else {
            return;
        };
        let one = entry.remove();
        match answer {
            Ok(BrokerAnswer { acked, carried }) => {
                self.sweep
                    .answered(number, one.id, one.ticket, acked, carried);
            }
            Err(this) => {
                self.sweep.broke();
                if self
                    .fault
                    .as_ref()
                    .is_none_or(|have| this.tells_more_than(have))
                {
                    self.fault = Some(this);
                }
                // A publish that fails at its first poll was refused by lapin and not written.
                if is_first {
                    self.unwritten.push(one.ticket);
                } else {
                    self.unanswered.push((one.ticket, one.since));
                }
            }
        }
    }

    /// Ends and says what is left. What has been answered by now is still decided, and nothing more is
    /// written.
    pub(crate) fn end(mut self, verdicts: &mut Vec<(T, SweepVerdict)>) -> Leftovers<T> {
        // An answer that came before the end is seen in the next round and proven by the one after.
        // All are asked, also those that are resolved right now and have not woken yet.
        for _ in 0..2 {
            let written = self.outstanding.range(..self.unwritten_from);
            let written: Vec<u64> = written.map(|(number, _)| *number).collect();
            for number in written {
                self.ask(number, false);
            }
            self.sweep.end_round(verdicts);
        }
        let mut unanswered = self.unanswered;
        let mut innocent = self.unwritten;
        for (number, one) in self.outstanding {
            if number < self.unwritten_from {
                unanswered.push((one.ticket, one.since));
            } else {
                innocent.push(one.ticket);
            }
        }
        innocent.extend(self.sweep.into_undecided());
        Leftovers {
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
        Some(self.outstanding.first_key_value()?.1.since)
    }

    /// Whether the channel has ended, as far as the answers tell.
    pub(crate) fn is_broken(&self) -> bool {
        self.fault.is_some()
    }
}

#[cfg(test)]
#[path = "unconfirmed_tests.rs"]
mod tests;
