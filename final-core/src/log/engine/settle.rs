//! What a handler's settlement means for the progress.
//!
//! Input: settlements by tag. Output: the message is settled in its lane, a side effect may be added, and the
//! next message of its key is delivered. Nothing is written here; [`commit`](super::commit) does that.
//!
//! | settlement | side effect |
//! | --- | --- |
//! | ack | none |
//! | dead letter | the letter, in the transaction of the progress |
//! | postpone | a copy for later, among the scheduled messages |
//! | hold | none: the message stays open in its lane, and a handler gets it again (see [`held`](super::held)) |
//! | requeue | a copy for another member; none while the bus stops: the message stays open in its lane |
//! | requeue, with a key in key order | none: a handler here gets the message again |

use std::time::Instant;

use super::Engine;
use crate::{
    OutboxDatabase,
    broker::{Settlement, note},
    log::progress::{
        letter::LetterDraft,
        side_effect::{LaterCopy, SideEffect},
    },
};

impl<DB: OutboxDatabase> Engine<DB> {
    /// Takes all settlements that have come since the last round.
    pub(super) fn take_settlements(&mut self) {
        for (tag, settlement) in self.member.settlements.take() {
            self.settle(tag, settlement);
        }
    }

    /// Settles one message. A tag that is unknown belongs to a lane that was lost, or to an engine before this
    /// one: its message is no longer this engine's.
    pub(super) fn settle(&mut self, tag: u64, settlement: Settlement) {
        self.deliveries.count(tag, &settlement);
        let Some(taken) = self.deliveries.in_flight.get(tag) else {
            self.deliveries.in_flight.forget(tag);
            return self.member.settlements.forget(tag);
        };
        let (lane, seq) = (taken.lane, taken.seq);
        match settlement {
            Settlement::Ack => *self.acked.entry(lane).or_default() += 1,
            // The bus never moves a message of the log into an outbox.
            Settlement::Moved => {}
            Settlement::DeadLetter(why) => {
                let mut letter = LetterDraft::new(why.clone());
                if let Ok(message) = &taken.content {
                    self.member.handling_failed(message, &why);
                    // Its row has notes beside the headers, which must not be in the letter: a message that is
                    // replayed begins anew.
                    if message.attempt() > 1 || !message.waited().is_zero() {
                        letter.replace_headers(message.headers().to_json());
                    }
                }
                self.side_effects
                    .push((lane, SideEffect::DeadLetter(seq, letter)));
            }
            Settlement::Postpone(why) => {
                let message = taken.content.as_ref().ok();
                let headers = message.map(|message| note(message.headers(), &why));
                let copy = LaterCopy {
                    lane: self.streams.lane_for_requeue(),
                    delay: why.delay,
                    headers: headers.and_then(|headers| headers.to_json()),
                };
                self.member.wakeups.due_in(why.delay);
                self.side_effects
                    .push((lane, SideEffect::Postpone(seq, copy)));
            }
            // The bus stops. The message stays open, and the next owner of the lane gets it.
            Settlement::Requeue | Settlement::Hold(_) if !self.deliveries.are_open() => return,
            Settlement::Hold(holding) => return self.hold(tag, holding),
            // In key order a message stays the first of its key until it is done.
            Settlement::Requeue if self.member.tuning.key_order && taken.has_key() => {
                return self.deliveries.deliver_next(tag);
            }
            Settlement::Requeue => {
                let other = self.streams.lane_for_requeue();
                self.side_effects
                    .push((lane, SideEffect::Requeue(seq, other)));
            }
        }
        self.schedule.commits.settled(Instant::now);
        self.streams.settle(lane, seq);
        if let Some((_, Some(next))) = self.deliveries.in_flight.settle(tag) {
            self.deliveries.deliver_next(next);
        }
        self.end_held(seq);
    }
}
