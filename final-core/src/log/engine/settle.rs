//! What a handler's settlement means for the progress.
//!
//! Input: settlements by tag. Output: the message is settled in its lane, a side effect may be added, and the
//! next message of its key is delivered. Nothing is written here; [`commit`](super::commit) does that.

use std::time::Instant;

use super::Engine;
use crate::{
    OutboxDatabase,
    broker::Settlement,
    log::progress::{letter::LetterDraft, side_effect::SideEffect},
};

impl<DB: OutboxDatabase> Engine<DB> {
    pub(super) fn take_settlements(&mut self) {
        for (tag, settlement) in self.member.settlements.take() {
            self.settle(tag, settlement);
        }
    }

    fn settle(&mut self, tag: u64, settlement: Settlement) {
        let Some(taken) = self.deliveries.in_flight.get(tag) else {
            return;
        };
        let (lane, seq) = (taken.lane, taken.seq);
        match settlement {
            Settlement::Ack => {}
            Settlement::DeadLetter(why) => {
                if let Ok(message) = &taken.content {
                    self.member.handling_failed(message, &why);
                }
                let letter = LetterDraft::new(why);
                self.side_effects
                    .push((lane, SideEffect::DeadLetter(seq, letter)));
            }
            // The bus stops. The message stays open, and the next owner of the lane gets it.
            Settlement::Requeue if !self.deliveries.are_open() => return,
            // In key order a message stays the first of its key until it is done.
            Settlement::Requeue if self.member.tuning.key_order && taken.has_key() => {
                return self.deliveries.deliver(tag);
            }
            Settlement::Requeue => {
                let other = self.streams.lane_for_requeue();
                self.side_effects
                    .push((lane, SideEffect::Requeue(seq, other)));
            }
        }
        self.schedule.commits.settled(Instant::now());
        self.streams.settle(lane, seq);
        if let Some((_, Some(next))) = self.deliveries.in_flight.settle(tag) {
            self.deliveries.deliver_next(next);
        }
    }
}
