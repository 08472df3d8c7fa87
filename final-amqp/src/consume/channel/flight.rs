//! The deliveries of one channel that RabbitMQ has no answer for.
//!
//! Input: deliveries, their settlements, and which acks were written. State: each delivery in flight by its tag, and
//! those that are finished until their ack is written. Output: what was acked, counted by its kind; and at the
//! channel's end everything that is left behind.
//!
//! ```text
//! in flight ── settled ──┬─▶ finished ── its ack is written ──▶ gone
//!                        ├─▶ requeued: gone
//!                        └─▶ dead-lettered: with its job, then finished
//! ```

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use final_core::MessageId;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    consume::{acks::Acks, orphans::Awaits, siblings::Siblings},
    counts::{Finished, Why},
    properties::Original,
};

/// A delivery in flight.
pub(super) struct InFlight {
    /// What it was, for its dead letter. Its message shares it.
    pub(super) original: Arc<Original>,
    /// Its message's id, and whether the producer gave it. `None` if it is no message.
    pub(super) id: Option<(MessageId, bool)>,
    /// What names its message in this process and the next time it comes.
    pub(super) name: Option<Uuid>,
    /// When it came.
    pub(super) since: Instant,
    /// Whether it waits for something other than a handler.
    waits: bool,
}

impl InFlight {
    pub(super) fn new(
        original: Arc<Original>,
        id: Option<(MessageId, bool)>,
        name: Option<Uuid>,
        since: Instant,
    ) -> Self {
        Self {
            original,
            id,
            name,
            since,
            waits: false,
        }
    }
}

/// A delivery that is finished, and whose ack is not written.
struct Unwritten {
    tag: u64,
    /// `None` if its dead letter is stored: that has it.
    held: Option<InFlight>,
    why: Why,
}

/// What a channel leaves behind: the tag, the delivery, and whether its handler was done.
pub(super) type Left = (u64, InFlight, bool);

/// The deliveries without an answer.
#[derive(Default)]
pub(super) struct Flight {
    deliveries: HashMap<u64, InFlight, BuildHasherDefault<TagHasher>>,
    unwritten: Vec<Unwritten>,
    /// What those wait for whose message came before.
    later: HashMap<u64, Awaits>,
    /// How many wait for something other than a handler.
    waiting: usize,
}

impl Flight {
    pub(super) fn add(&mut self, tag: u64, held: InFlight) {
        self.deliveries.insert(tag, held);
    }

    /// How many are in flight.
    pub(super) fn len(&self) -> usize {
        self.deliveries.len()
    }

    /// How many of those wait for something other than a handler.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The one that came first.
    pub(super) fn oldest(&self) -> Option<&InFlight> {
        let oldest = self.deliveries.iter().min_by_key(|(tag, _)| **tag);
        oldest.map(|(_, held)| held)
    }

    pub(super) fn set_waits(&mut self, tag: u64, waits: bool) {
        if let Some(held) = self.deliveries.get_mut(&tag) {
            self.waiting -= usize::from(held.waits);
            self.waiting += usize::from(waits);
            held.waits = waits;
        }
    }

    /// Takes one out.
    pub(super) fn settle(&mut self, tag: u64) -> Option<InFlight> {
        let held = self.deliveries.remove(&tag)?;
        self.waiting -= usize::from(held.waits);
        Some(held)
    }

    /// Keeps one that is finished, until its ack is written.
    pub(super) fn finish(&mut self, tag: u64, held: Option<InFlight>, why: Why) {
        self.unwritten.push(Unwritten { tag, held, why });
    }

    /// All acks were written but those that are still owed. Gives what was acked; its messages do not come again, as
    /// far as this process can tell.
    pub(super) fn written(&mut self, owed: &Acks, siblings: &Siblings) -> Finished {
        let mut finished = Finished::default();
        let mut acked = |unwritten: &Unwritten| {
            finished.add(unwritten.why);
            if let Some(held) = &unwritten.held {
                siblings.settled(held.name);
            }
        };
        if owed.finished() == 0 {
            self.unwritten.drain(..).for_each(|one| acked(&one));
            return finished;
        }
        self.unwritten.retain(|unwritten| {
            let is_owed = owed.is_finished(unwritten.tag);
            if !is_owed {
                acked(unwritten);
            }
            is_owed
        });
        finished
    }

    /// Notes that a delivery waits for an earlier one of its message.
    pub(super) fn follows(&mut self, tag: u64, awaits: Awaits) {
        self.later.insert(tag, awaits);
    }

    /// What a delivery waited for. It waits no longer.
    pub(super) fn follows_no_longer(&mut self, tag: u64) -> Option<Awaits> {
        // Nearly always none waits.
        (!self.later.is_empty()).then(|| self.later.remove(&tag))?
    }

    /// Takes out everything: first what is in flight.
    pub(super) fn leave(&mut self) -> Vec<Left> {
        self.waiting = 0;
        let open = self.deliveries.drain();
        let open = open.map(|(tag, held)| (tag, held, false));
        let done = self.unwritten.drain(..);
        // A dead letter that is stored has no settlement left to tell: its message gives another dead letter.
        let done = done.filter_map(|one| Some((one.tag, one.held?, true)));
        open.chain(done).collect()
    }
}

/// Spreads tags. They count up on each channel, and nobody else chooses them.
#[derive(Default)]
struct TagHasher(u64);

impl Hasher for TagHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, tag: u64) {
        // An odd number near 2^64 divided by the golden ratio: neighbours land far apart.
        self.0 = tag.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::Counts;
    use final_core::broker::Settled;

    fn held() -> InFlight {
        let original = Original::for_test(Default::default(), "topic", "payload".into());
        InFlight::new(Arc::new(original), None, None, Instant::now())
    }

    #[test]
    fn what_is_acked_counts_by_its_kind_and_what_is_owed_does_not() {
        let (mut flight, mut acks) = (Flight::default(), Acks::new());
        let (counts, siblings) = (Counts::default(), Siblings::new(1));
        let kinds = [Why::Handled, Why::DeadLettered, Why::Moved, Why::Handled];
        for (tag, why) in (1..).zip(kinds) {
            acks.delivered(tag);
            flight.add(tag, held());
            // The first one stays open for a while.
            if tag > 1 {
                let held = flight.settle(tag);
                acks.finish(tag);
                flight.finish(tag, held, why);
            }
        }

        acks.flush_few(1);
        counts.acked(flight.written(&acks, &siblings));
        assert_eq!(counts.settled(), Settled::new(0, 1), "the dead letter");

        let first = flight.settle(1);
        acks.finish(1);
        flight.finish(1, first, Why::Handled);
        acks.flush_prefix();
        counts.acked(flight.written(&acks, &siblings));
        assert_eq!(counts.settled(), Settled::new(2, 1));
        assert_eq!(flight.leave().len(), 0);
    }

    /// RabbitMQ can close a channel before the ack is written, and deliver the message to another one at once.
    #[test]
    fn a_message_is_in_flight_for_other_channels_until_its_ack_is_written() {
        let (mut flight, mut acks, siblings) = (Flight::default(), Acks::new(), Siblings::new(2));
        let name = Some(Uuid::from_u128(1));
        siblings.delivered(name);
        acks.delivered(1);
        acks.finish(1);
        let held = InFlight { name, ..held() };
        flight.finish(1, Some(held), Why::Handled);
        flight.written(&acks, &siblings);
        assert!(siblings.have(name), "the ack is owed");

        acks.flush_prefix();
        flight.written(&acks, &siblings);

        assert!(!siblings.have(name));
    }

    #[test]
    fn what_waits_is_in_flight_and_counts_once() {
        let mut flight = Flight::default();
        flight.add(1, held());
        flight.set_waits(1, true);
        flight.set_waits(1, true);
        flight.set_waits(2, true);
        assert_eq!((flight.len(), flight.waiting()), (1, 1));
        flight.settle(1);
        assert_eq!((flight.len(), flight.waiting()), (0, 0));
    }
}
