//! A message of the broker, from its delivery to its settlement.
//!
//! Input: a delivery. State: its place in the order of arrival, and how often it came back. Output: a settlement.

use final_core::{
    Message,
    broker::{Delivery, Place, Postponing},
};
use tokio::time::Instant;

/// So many times it must have come back without a sign of its client, until a message is given out alone.
const ALONE_AFTER: u32 = 2;

/// What is known of the client that had a message which comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// It has given the message back, so the message did it no harm.
    OfLife,
    /// It may have ended because of the message.
    None,
}

/// A message that is not settled. Dropping it gives it back to the broker.
#[derive(Debug)]
pub(super) struct StockEntry {
    delivery: Delivery,
    pub(super) message: Message,
    /// Counts the arrivals, so that what comes back goes before what came later.
    pub(super) order: u64,
    /// How often clients have not settled it, as far as it is known here. That decides when it is dead.
    pub(super) failed: u32,
    /// How often the broker has delivered it before. Over RabbitMQ that counts messages that no client was given, so it
    /// is told and decides nothing.
    delivered: u32,
    /// How often it came back since.
    returned: u32,
    /// How often it came back without a sign of its client.
    abandoned: u32,
    /// The bytes that it counts with.
    pub(super) bytes: usize,
    /// When the broker delivered it.
    pub(super) came: Instant,
}

impl StockEntry {
    /// Reads a delivery. If it is no message, it comes back with the reason.
    pub(super) fn new(delivery: Delivery, order: u64) -> Result<Self, (Delivery, String)> {
        let message = match delivery.message() {
            Ok(message) => message.clone(),
            Err(why) => {
                let why = why.to_owned();
                return Err((delivery, why));
            }
        };
        Ok(Self {
            failed: message.attempt().saturating_sub(1),
            delivered: delivery.times().saturating_sub(1),
            returned: 0,
            abandoned: 0,
            bytes: message.payload().len(),
            came: Instant::now(),
            delivery,
            message,
            order,
        })
    }

    /// Where the log has it.
    pub(super) fn place(&self) -> Option<Place> {
        self.delivery.place()
    }

    /// The partition: the lane of the log, 0 for a broker without lanes.
    pub(super) fn partition(&self) -> i32 {
        self.place().map_or(0, |place| i32::from(place.partition))
    }

    /// How often it was given out, if it is given out now.
    pub(super) fn attempt(&self) -> u32 {
        let before = self.delivered.saturating_add(self.returned);
        before.max(self.failed).saturating_add(1)
    }

    /// It came back.
    pub(super) fn fail(&mut self, sign: Sign) {
        self.failed = self.failed.saturating_add(1);
        self.returned = self.returned.saturating_add(1);
        self.abandoned += u32::from(sign == Sign::None);
    }

    /// It had failed so often when it was here before. What became of its clients is not known any longer.
    pub(super) fn failed_before(&mut self, times: u32) {
        self.failed = self.failed.max(times);
        self.abandoned = self.abandoned.max(times);
    }

    /// Whether it may be the reason why clients end, so that it is given out alone.
    pub(super) fn goes_alone(&self) -> bool {
        self.abandoned >= ALONE_AFTER
    }

    /// Whether a settlement has no effect, because the broker delivers the message again anyway.
    pub(super) fn is_void(&self) -> bool {
        self.delivery.is_void()
    }

    /// Whether the broker takes it back for a later time.
    pub(super) fn can_be_postponed(&self) -> bool {
        self.delivery.postponing() == Postponing::Settlement
    }

    /// What it is settled by.
    pub(super) fn into_delivery(self) -> Delivery {
        self.delivery
    }
}
