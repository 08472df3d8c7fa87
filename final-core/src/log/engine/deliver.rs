//! From a lane to the handlers.
//!
//! Input: rows that a lane has taken, and tags of messages that may go now. State: the messages in flight.
//! Output: deliveries in the bus's channel. Their settlements come back in [`Settlements`], under the same tag.
//!
//! ```text
//!   take ─┬─ may go ────────────────────────────────▶ deliver ─▶ channel ─▶ handlers
//!         └─ waits behind its key ─ deliver_next ─┬──▲   │ expired
//!                                                 │      └─▶ settled as a dead letter
//!                     content left out: read first ┘
//! ```

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use tokio::sync::mpsc;

use crate::{
    broker::{Cause, Delivery, Place, Settlement, Settler},
    handler::Hold,
    log::{
        member::settlements::Settlements,
        progress::{
            held::{HeldMessages, Turn},
            in_flight::InFlight,
            returned::Returned,
            rows::{LaneId, LogRow},
        },
        tuning::Tuning,
    },
};

/// The messages in flight, and the channel to the handlers.
pub(crate) struct Deliveries {
    /// Messages at a handler, or waiting for one.
    pub(crate) in_flight: InFlight,
    /// Messages that have failed and wait at their place.
    pub(crate) held: HeldMessages,
    /// Where settlements wait for the engine. Each delivery holds it, and settles into it by its tag.
    settlements: Arc<Settlements>,
    /// `None` once the bus stops.
    channel: Option<mpsc::Sender<Delivery>>,
    /// Which messages were given back here, and how often.
    returned: Returned,
    /// How many more doubted messages are delivered as suspects. Members that ended without giving their lanes back
    /// had no more than that at their handlers, or settled and not committed.
    suspects: usize,
}

impl Deliveries {
    /// Nothing in flight. The tags are new, so a delivery of an engine before this one settles nothing here.
    pub(crate) fn new(
        tuning: &Tuning,
        holds: &BTreeMap<Arc<str>, Hold>,
        settlements: Arc<Settlements>,
        channel: Option<mpsc::Sender<Delivery>>,
    ) -> Self {
        let first_tag = settlements.first_tag();
        let whole = holds.iter().filter(|(_, hold)| **hold == Hold::Topic);
        Self {
            in_flight: InFlight::new(tuning.key_order, tuning.prefetch, first_tag)
                .holding(whole.map(|(topic, _)| Arc::clone(topic))),
            held: HeldMessages::default(),
            settlements,
            channel,
            returned: Returned::default(),
            suspects: 0,
        }
    }

    /// Whether messages are delivered.
    pub(crate) fn are_open(&self) -> bool {
        self.channel.is_some()
    }

    /// Delivers nothing more. False if that was so before.
    pub(crate) fn stop(&mut self) -> bool {
        self.channel.take().is_some()
    }

    /// Counts a message that was given back. A message that is done is no longer counted.
    pub(crate) fn count(&mut self, tag: u64, settlement: &Settlement) {
        let is_returned = *settlement == Settlement::Requeue;
        if !is_returned && self.returned.is_empty() {
            return;
        }
        match self.in_flight.get(tag) {
            Some(taken) if is_returned => self.returned.add(taken),
            Some(taken) => self.returned.forget(taken),
            None => {}
        }
    }

    /// So many more messages may be suspects.
    pub(crate) fn suspect(&mut self, more: usize) {
        self.suspects = self.suspects.saturating_add(more);
    }

    /// Takes a row into flight, and delivers it unless it waits behind others of its key.
    pub(crate) fn take(&mut self, lane: LaneId, row: LogRow, is_doubted: bool) {
        let (tag, goes) = self.in_flight.take(lane, row);
        if is_doubted {
            self.in_flight.doubt(tag);
        }
        if goes {
            self.deliver(tag);
        }
    }

    /// Delivers a message that has waited, unless its topic is held. If its content was left out it is read first, in
    /// the next round.
    pub(crate) fn deliver_next(&mut self, tag: u64) {
        if self.in_flight.passes(tag) && !self.in_flight.must_read(tag) {
            self.deliver(tag);
        }
    }

    /// Delivers a message, or settles it as a dead letter if it has expired.
    pub(crate) fn deliver(&mut self, tag: u64) {
        let Some(taken) = self.in_flight.get(tag) else {
            return;
        };
        let turn = self.held.turn(taken.seq, tag);
        match turn {
            Turn::Go | Turn::Retry => {}
            Turn::Wait(attempts) => return self.in_flight.hold(tag, attempts),
            Turn::Skip(why) => {
                let skipped = Settlement::DeadLetter(why);
                return self.settlements.settle(tag, skipped);
            }
        }
        if taken.expires.is_some_and(|at| at <= Instant::now()) {
            let expired = Cause::new("expired", 0);
            self.settlements
                .settle(tag, Settlement::DeadLetter(expired));
            return;
        }
        let settler = Arc::clone(&self.settlements) as Arc<dyn Settler>;
        // A suspect can be held again without an attempt.
        let is_suspect = turn != Turn::Retry && taken.is_doubted() && self.suspects > 0;
        self.suspects -= usize::from(is_suspect);
        let place = Place::new(u8::try_from(taken.lane.lane).unwrap_or_default(), taken.seq);
        let delivery = Delivery::new(taken.content.clone(), tag, settler)
            .suspected(is_suspect)
            .placed(place)
            .delivered(self.returned.times(taken));
        if let Some(channel) = &self.channel {
            // The channel has room for everything in flight. If it is closed the bus is stopping, and the
            // dropped delivery settles itself as requeued.
            let _ = channel.try_send(delivery);
        }
    }
}
