//! The sweep: decides which message the broker has proven to be stored.
//!
//! Input: the confirms as they are seen, each with the return that lapin attached to it. Output: a verdict for
//! each answered message, once there is proof.
//!
//! RabbitMQ sends `basic.return` before the confirm of the same message. lapin (4.12.3) queues the
//! returns and gives every confirm the oldest one waiting, *whichever message it belongs to*. So an
//! ack without a return does not yet prove that its message was routed: the return may be attached to another
//! confirm that has not been looked at.
//!
//! Two facts make proof possible all the same. *An ack that carries nothing* means that the queue of
//! returns was empty then: every return received before it has been given to a confirm resolved
//! before it. *Once a confirm is seen resolved*, all confirms that resolved before it are ready at the next
//! look. Hence rounds: look once at every outstanding confirm that has woken, collect the tags of the returned messages,
//! and decide about an acked message
//!
//! - (a) returned, if its tag has been collected;
//! - (b) stored, if its own confirm carried nothing and it was seen in an *earlier* round: its return
//!   would have been on a confirm that resolved before, and would be collected by now;
//! - (c) stored, if its confirm carried another's return, and a confirm *published after it was seen*
//!   came back with nothing in an earlier round: the same argument, from that confirm on;
//! - (d) stored, if nothing is outstanding: every return has been given to some confirm.
//!
//! A confirm that has not woken need not be looked at. That rests on what lapin does, and a new version of it has to be
//! checked for this. It resolves one confirm after the other under the lock of the channel's acknowledgements, and wakes
//! the task of each before it resolves the next. Where that task still waits for the writing of its message, this was
//! resolved before by the same thread, and has woken it.
//!
//! This is a pure state machine. The property test drives it with a model of lapin.

use std::{collections::HashSet, hash::Hash, mem};

/// What the broker's answer to a message proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SweepVerdict {
    Stored,
    Unroutable,
    Refused,
}

/// The book-keeping of one channel: `I` tells messages apart, `T` waits for the verdict.
///
/// ```text
/// published ──▶ outstanding ── answered ──▶ undecided ── end_round ──▶ verdict
///                    └──────── broke (channel ended) ──────────────▶ into_undecided
/// ```
#[derive(Debug)]
pub(crate) struct Sweep<I, T> {
    round: u64,
    published: u64,
    outstanding: usize,
    returned: HashSet<I>,
    /// The youngest message whose confirm came back with nothing in an earlier round.
    clean: Option<u64>,
    /// The same, of the round under way.
    clean_now: Option<u64>,
    undecided: Vec<Answered<I, T>>,
    broken: bool,
}

#[derive(Debug)]
struct Answered<I, T> {
    id: I,
    ticket: T,
    acked: bool,
    carried_nothing: bool,
    seen_in: u64,
    /// How many had been published when it was seen.
    published_then: u64,
}

impl<I: Eq + Hash, T> Sweep<I, T> {
    pub(crate) fn new() -> Self {
        Self {
            round: 0,
            published: 0,
            outstanding: 0,
            returned: HashSet::new(),
            clean: None,
            clean_now: None,
            undecided: Vec::new(),
            broken: false,
        }
    }

    /// Counts a message that is about to be published, and numbers it.
    pub(crate) fn published(&mut self) -> u64 {
        let number = self.published;
        self.published += 1;
        self.outstanding += 1;
        number
    }

    /// Takes an answer seen in this round, with the return its confirm carried, if any.
    pub(crate) fn answered(
        &mut self,
        number: u64,
        id: I,
        ticket: T,
        acked: bool,
        carried: Option<I>,
    ) {
        self.outstanding -= 1;
        let carried_nothing = carried.is_none();
        if carried_nothing {
            self.clean_now = self.clean_now.max(Some(number));
        }
        self.returned.extend(carried);
        self.undecided.push(Answered {
            id,
            ticket,
            acked,
            carried_nothing,
            seen_in: self.round,
            published_then: self.published,
        });
    }

    /// Notes that a message will not be answered, because the channel has ended.
    ///
    /// From here on "nothing outstanding" proves nothing: returns may have been lost with the channel.
    pub(crate) fn broke(&mut self) {
        self.outstanding -= 1;
        self.broken = true;
    }

    /// Ends a round in which every outstanding confirm that had woken was looked at, and gives the verdicts.
    pub(crate) fn end_round(&mut self, verdicts: &mut Vec<(T, SweepVerdict)>) {
        let idle = self.outstanding == 0 && !self.broken;
        for answer in mem::take(&mut self.undecided) {
            // A nack waits for the same proof. A return that is still hidden would later count as one of the
            // next attempt, which has the same tag.
            let proven = idle
                || if answer.carried_nothing {
                    answer.seen_in < self.round
                } else {
                    self.clean >= Some(answer.published_then)
                };
            if self.returned.remove(&answer.id) {
                verdicts.push((answer.ticket, SweepVerdict::Unroutable));
            } else if proven && answer.acked {
                verdicts.push((answer.ticket, SweepVerdict::Stored));
            } else if proven {
                verdicts.push((answer.ticket, SweepVerdict::Refused));
            } else {
                self.undecided.push(answer);
            }
        }
        if idle {
            // The tags that are left belong to no message of this channel.
            self.returned.clear();
        }
        self.clean = self.clean.max(self.clean_now.take());
        self.round += 1;
    }

    /// The messages that were answered and not decided, once the channel has ended.
    pub(crate) fn into_undecided(self) -> Vec<T> {
        self.undecided
            .into_iter()
            .map(|answer| answer.ticket)
            .collect()
    }

    /// How many are answered and not yet decided.
    pub(crate) fn undecided(&self) -> usize {
        self.undecided.len()
    }
}

#[cfg(test)]
#[path = "sweep_model.rs"]
mod model;
