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
    future::poll_fn,
    hash::Hash,
    task::{Context, Poll},
    time::Instant,
};

use futures::{FutureExt, future::BoxFuture};

use super::sweep::{Sweep, SweepVerdict};
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
    /// In the order of publishing, so the first is the oldest.
    outstanding: Vec<Outstanding<I, T>>,
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
    number: u64,
    /// Taken when the answer comes.
    owner: Option<(I, T)>,
    answer: AnswerFuture<I>,
    since: Instant,
    written: bool,
}

impl<I: Eq + Hash, T> Unconfirmed<I, T> {
    pub(crate) fn new() -> Self {
        Self {
            sweep: Sweep::new(),
            outstanding: Vec::new(),
            fault: None,
            unanswered: Vec::new(),
            unwritten: Vec::new(),
        }
    }

    /// Takes a message. The first poll of the future, by the next [`turn`](Self::turn), writes it.
    pub(crate) fn add(&mut self, id: I, ticket: T, answer: AnswerFuture<I>) {
        self.outstanding.push(Outstanding {
            number: self.sweep.published(),
            owner: Some((id, ticket)),
            answer,
            since: Instant::now(),
            written: false,
        });
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
            let news = self.round(cx, true);
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

    /// Looks at every outstanding answer once, which writes what is not written yet if `write` says so. True
    /// if there was an answer.
    fn round(&mut self, cx: &mut Context<'_>, write: bool) -> bool {
        let before = self.outstanding.len();
        let sweep = &mut self.sweep;
        let (fault, unanswered, unwritten) =
            (&mut self.fault, &mut self.unanswered, &mut self.unwritten);
        self.outstanding.retain_mut(|one| {
            let first = !one.written;
            if first && !write {
                return true;
            }
            one.written = true;
            let Poll::Ready(answer) = one.answer.poll_unpin(cx) else {
                return true;
            };
            let Some((id, ticket)) = one.owner.take() else {
                return false;
            };
            match answer {
                Ok(answer) => {
                    sweep.answered(one.number, id, ticket, answer.acked, answer.carried);
                }
                Err(this) => {
                    sweep.broke();
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

    /// Ends and says what is left. What has been answered by now is still decided, and nothing more is
    /// written.
    pub(crate) async fn end(mut self, verdicts: &mut Vec<(T, SweepVerdict)>) -> Leftovers<T> {
        // An answer that came before the end is seen in the next round and proven by the one after.
        poll_fn(|cx| {
            for _ in 0..2 {
                self.round(cx, false);
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
        self.outstanding.first().map(|one| one.since)
    }

    /// Whether the channel has ended, as far as the answers tell.
    pub(crate) fn is_broken(&self) -> bool {
        self.fault.is_some()
    }
}

#[cfg(test)]
#[path = "unconfirmed_tests.rs"]
mod tests;
