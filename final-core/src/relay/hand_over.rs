//! Handing over: a message goes to the broker right after its COMMIT, without a look at the table.
//!
//! Input: the messages of a write, before their INSERT, and the end of their COMMIT. Output before the
//! INSERT: [`Reserved`], which says for each record whether this process leases it, parks it or leaves it
//! free. Output after the COMMIT: messages that go to the broker, and a ring for the scanner where it has to
//! find the others.
//!
//! ```text
//!   reserve ─ topic parked ───────────────▶ INSERT as unroutable ─ COMMIT ▶ waits for a probe
//!      ├───── delayed ────────────────────▶ INSERT, due later ──── COMMIT ▶ alarm of the scanner
//!      ├───── no slot, or the gate is shut ▶ INSERT, due now ───── COMMIT ▶ ring of the scanner
//!      └───── slot ───────────────────────▶ INSERT, leased ─────── COMMIT ▶ sent
//! ```

use std::{sync::Arc, time::Instant};

use super::{
    Relay,
    window::{Side, Slot},
};
use crate::{
    OutboxDatabase,
    broker::{Confirm, Isolation, Outgoing, Staged, Ticket},
    outbox::NewRecord,
};

/// The decisions about messages before their INSERT. Dropping it frees the slots.
pub(crate) struct Reserved<'a> {
    pub(crate) records: Vec<NewRecord<'a>>,
    /// The slot of each record that will be handed over.
    slots: Vec<Option<Slot>>,
    lease_end: Instant,
    /// A shutdown waits until this is dropped.
    _writing: Option<Arc<()>>,
}

impl<'a> Reserved<'a> {
    /// Reserves nothing: the bus is not started or is shutting down, so the scanner finds the messages.
    pub(crate) fn none(staged: &'a [Staged]) -> Self {
        let records = staged.iter().map(|staged| NewRecord {
            id: staged.record,
            message: &staged.message,
            ttl: staged.ttl,
            delay: staged.delay,
            lease: None,
            parked: false,
        });
        Self {
            records: records.collect(),
            slots: staged.iter().map(|_| None).collect(),
            lease_end: Instant::now(),
            _writing: None,
        }
    }
}

impl<DB: OutboxDatabase> Relay<DB> {
    /// Decides, before the INSERT, which messages this process will send itself.
    pub(crate) fn reserve<'a>(&self, staged: &'a [Staged]) -> Reserved<'a> {
        let (lease, lease_end) = self.outbox.new_lease();
        let mut reserved = Reserved::none(staged);
        reserved.lease_end = lease_end;
        // Before the gate is looked at: a shutdown that begins in between then waits for this write.
        reserved._writing = Some(self.stopping.writing());
        let is_open = self.gate.is_open();
        for (record, slot) in reserved.records.iter_mut().zip(&mut reserved.slots) {
            if !record.delay.is_zero() {
                continue;
            }
            let topic = record.message.shared_topic();
            if self.parking.is_parked(&topic) {
                record.parked = true;
            } else if is_open {
                *slot = self
                    .window
                    .try_take(&topic, record.message.weight(), Side::HandOver);
                record.lease = slot.is_some().then_some(lease);
            }
        }
        reserved
    }

    /// Sends the messages that have a slot, after their COMMIT. The scanner sends the rest.
    pub(crate) fn hand_over(&self, reserved: Reserved<'_>) {
        let Reserved {
            records,
            slots,
            lease_end,
            _writing,
        } = reserved;
        let mut ring = false;
        for (record, slot) in records.into_iter().zip(slots) {
            match slot {
                Some(slot) => {
                    let expires = record.ttl.map(|ttl| Instant::now() + ttl);
                    let message = record.message.clone();
                    let entered = self
                        .flight
                        .enter(record.id, message, slot, lease_end, expires, None);
                    if let Some(record) = entered {
                        self.send(record, Isolation::Shared);
                    }
                }
                // The topic was opened between INSERT and COMMIT, and the release that followed could not
                // see this record. So the topic's records are released once more.
                None if record.parked && !self.parking.is_parked(record.message.topic()) => {
                    self.parking.mark_opened(record.message.shared_topic());
                    ring = true;
                }
                None if record.parked => {}
                None if record.delay.is_zero() => ring = true,
                None => self.bell.due_in(record.delay),
            }
        }
        if ring {
            self.bell.ring();
        }
    }

    /// Sends a message that has no record: fire and forget. False if it cannot be sent now.
    pub(crate) fn send_unconfirmed(&self, staged: Staged) -> bool {
        let topic = staged.message.shared_topic();
        let slot = self
            .window
            .try_take(&topic, staged.message.weight(), Side::HandOver);
        let Some(slot) = slot.filter(|_| self.gate.is_open()) else {
            return false;
        };
        let expires = staged.ttl.map(|ttl| Instant::now() + ttl);
        let ticket = Box::new(Unrecorded { _slot: slot });
        self.gate.send(Outgoing::new(
            staged.record,
            staged.message,
            expires,
            Isolation::Shared,
            Some(ticket),
        ));
        true
    }
}

/// The ticket of a message without a record. It has a slot as long as it is in memory.
#[derive(Debug)]
struct Unrecorded {
    _slot: Slot,
}

impl Ticket for Unrecorded {
    fn lease_end(&self) -> Option<Instant> {
        None
    }

    fn wants_confirm(&self) -> bool {
        false
    }

    fn settle(self: Box<Self>, _confirm: Confirm) {}
}
