//! Into the hand, to the handlers, and what they say.

use std::{sync::Arc, time::Instant};

use super::Engine;
use crate::{
    OutboxDatabase,
    broker::{DeadLetter, Delivery, Settlement, Settler},
    database::DbResult,
    log::progress::{
        letter::LetterDraft,
        rows::{LANES, LaneId, LogRow},
        side_effect::SideEffect,
    },
};

impl<DB: OutboxDatabase> Engine<DB> {
    /// Takes a row into the hand, and delivers it if it may go.
    pub(super) async fn take(&mut self, stream: i64, mut row: LogRow) -> DbResult<()> {
        let lane = LaneId {
            stream,
            lane: row.lane,
        };
        let room = self.in_flight.room(self.member.tuning.prefetch);
        if row.is_heavy() {
            let payload = self.session.payload(row.seq, row.id()).await;
            let owner = self.streams.get_mut(&stream);
            row.payload = match (payload, owner) {
                (Err(error), Some(owner)) => {
                    owner.put_back(row.lane, row.seq);
                    return Err(error);
                }
                (payload, _) => payload?,
            };
            if row.payload.is_none() {
                // Removed for its age since the page was read.
                if let Some(lane) = self
                    .streams
                    .get_mut(&stream)
                    .and_then(|stream| stream.lane_mut(row.lane))
                {
                    lane.settle(row.seq);
                }
                return Ok(());
            }
        }
        self.changed.get_or_insert_with(Instant::now);
        let (tag, goes) = self.in_flight.take(lane, row, room);
        if goes {
            self.deliver(tag);
        }
        Ok(())
    }

    pub(super) fn deliver(&mut self, tag: u64) {
        let Some(held) = self.in_flight.get(tag) else {
            return;
        };
        if held.expires.is_some_and(|at| at <= Instant::now()) {
            let expired = DeadLetter::new("expired", 0);
            self.member
                .settlements
                .settle(tag, Settlement::DeadLetter(expired));
            return;
        }
        let settler = Arc::clone(&self.member.settlements) as Arc<dyn Settler>;
        let delivery = Delivery::new(held.content.clone(), tag, settler);
        if let Some(deliveries) = &self.deliveries {
            // There is room for everything in hand. Closed, the bus is going, and the delivery is
            // handed back.
            let _ = deliveries.try_send(delivery);
        }
    }

    /// A lane of somebody else, or any if all are ours.
    pub(super) fn lane_of_another(&self) -> usize {
        let owned: Vec<usize> = self
            .streams
            .get(&0)
            .into_iter()
            .flat_map(|stream| stream.lanes().map(|(id, _)| id.lane))
            .collect();
        let others: Vec<usize> = (0..LANES).filter(|lane| !owned.contains(lane)).collect();
        fastrand::choice(others).unwrap_or_else(|| fastrand::usize(..LANES))
    }

    pub(super) fn take_settlements(&mut self) {
        for (tag, settlement) in self.member.settlements.take() {
            self.settle(tag, settlement);
        }
    }

    pub(super) fn settle(&mut self, tag: u64, settlement: Settlement) {
        let Some(held) = self.in_flight.get(tag) else {
            return;
        };
        let (lane, seq) = (held.lane, held.seq);
        match settlement {
            Settlement::Ack => {}
            Settlement::DeadLetter(why) => {
                if let Ok(message) = &held.content {
                    self.member.handling_failed(message, &why);
                }
                self.side_effects
                    .push((lane, SideEffect::DeadLetter(seq, LetterDraft::new(why))));
            }
            // Stays open for whoever has the lane next.
            Settlement::Requeue if self.deliveries.is_none() => return,
            // In order, it is its turn until it is done.
            Settlement::Requeue if self.member.tuning.key_order && held.has_key() => {
                return self.deliver(tag);
            }
            Settlement::Requeue => {
                let other = self.lane_of_another();
                self.side_effects
                    .push((lane, SideEffect::Requeue(seq, other)));
            }
        }
        self.settled += 1;
        self.changed.get_or_insert_with(Instant::now);
        if let Some(lane) = self
            .streams
            .get_mut(&lane.stream)
            .and_then(|stream| stream.lane_mut(lane.lane))
        {
            lane.settle(seq);
        }
        if let Some((_, Some(next))) = self.in_flight.settle(tag) {
            self.deliver_next(next);
        }
    }
}
