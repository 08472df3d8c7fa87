//! The flight: the records that this process has sent or is about to send.
//!
//! Input: a record with its slot and the end of its lease, after its COMMIT or its claim; then the broker's
//! answer. State: one [`Lease`] per record in flight, by its key. Output: answered records, through a
//! channel to the ackers; and for the renewal the leases that end soon.
//!
//! ```text
//!   enter ─▶ FlightRecord ─ into_outgoing ─▶ with the broker ─ answer ─▶ with an acker ─ settled ─▶ dropped
//!                                ▲                                        │    │
//!                                └──────────── sent again alone ──────────┘    └─ refused by the table:
//!                                                                                 the answer comes again
//! ```
//!
//! Two rules keep a message from being sent twice at once. A record that is in flight does not enter again,
//! whether a claim or a late hand-over brings it. And the broker's side writes a message only before its
//! lease ends: the lease is measured by our monotonic clock and begins before the statement that got it was
//! sent, so it ends before the lease in the table does.

use std::{
    collections::{HashMap, hash_map},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{claims::OpenClaim, window::Slot};
use crate::{
    Message,
    broker::{Confirm, Isolation, Outgoing, Ticket},
    lock::lock,
    outbox::RecordId,
};

/// The records in flight, by their keys, and the channel for their answers.
#[derive(Debug)]
pub(crate) struct Flight {
    /// The origin of the times in [`Lease`].
    start: Instant,
    leases: Mutex<HashMap<RecordId, Arc<Lease>>>,
    answers: mpsc::UnboundedSender<AnsweredRecord>,
}

/// Until when a record is surely ours.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Microseconds after the flight's start, so that a renewal needs no lock.
    end: AtomicU64,
    /// Whether the broker has answered. Such a record is settled soon, so its lease is not renewed.
    answered: AtomicBool,
    /// The claim that holds the record, until the record is renewed by itself.
    claim: Mutex<Option<Arc<OpenClaim>>>,
}

/// A record and the broker's answer to it, for the ackers.
#[derive(Debug)]
pub(crate) struct AnsweredRecord {
    pub(crate) record: Box<FlightRecord>,
    pub(crate) confirm: Confirm,
    /// How long after the COMMIT the answer came.
    pub(crate) took: Duration,
    /// When to settle it, if not at once. Such an answer has come before.
    pub(crate) due: Option<Instant>,
}

/// A record in flight, with all it needs to be settled.
///
/// Dropping it ends its flight and frees its slot. If it was not settled in the table before, the scanner
/// claims it again when its lease has run out or its claim is finished.
#[derive(Debug)]
pub(crate) struct FlightRecord {
    pub(crate) id: RecordId,
    pub(crate) message: Message,
    /// How often the broker has answered and not stored it.
    pub(crate) attempts: u32,
    /// How often the message itself was at fault.
    pub(crate) faults: u32,
    /// Whether it is sent to learn if its parked topic works again.
    pub(crate) probe: bool,
    /// How often the table has refused to settle it.
    pub(crate) refusals: u32,
    /// When its time to live is over.
    pub(crate) expires: Option<Instant>,
    /// How long it had been due when it was taken into flight; nothing for a record that was handed over.
    pub(crate) waited: Duration,
    /// When it was taken into flight.
    since: Instant,
    lease: Arc<Lease>,
    flight: Arc<Flight>,
    slot: Slot,
}

impl Flight {
    /// An empty flight, and the receiver of the answers to what will be sent.
    pub(crate) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<AnsweredRecord>) {
        // Each answer has a slot, so the window bounds the channel.
        let (answers, receiver) = mpsc::unbounded_channel();
        let flight = Self {
            start: Instant::now(),
            leases: Mutex::default(),
            answers,
        };
        (Arc::new(flight), receiver)
    }

    /// Takes a record into flight. `None` if it is in flight already.
    pub(crate) fn enter(
        self: &Arc<Self>,
        id: RecordId,
        message: Message,
        slot: Slot,
        lease_end: Instant,
        expires: Option<Instant>,
        claim: Option<&Arc<OpenClaim>>,
    ) -> Option<Box<FlightRecord>> {
        let lease = Arc::new(Lease {
            end: AtomicU64::new(self.micros(lease_end)),
            answered: AtomicBool::new(false),
            claim: Mutex::new(claim.map(Arc::clone)),
        });
        match self.leases().entry(id) {
            // The caller has leased the record anew, so the flying one has that lease and claim too.
            hash_map::Entry::Occupied(entry) => {
                let lease = entry.get();
                lease
                    .end
                    .fetch_max(self.micros(lease_end), Ordering::Relaxed);
                if let Some(claim) = claim {
                    *lock(&lease.claim) = Some(Arc::clone(claim));
                }
                return None;
            }
            hash_map::Entry::Vacant(entry) => entry.insert(Arc::clone(&lease)),
        };
        Some(Box::new(FlightRecord {
            id,
            message,
            attempts: 0,
            faults: 0,
            probe: false,
            refusals: 0,
            expires,
            waited: Duration::ZERO,
            since: Instant::now(),
            lease,
            flight: Arc::clone(self),
            slot,
        }))
    }

    /// The unanswered records whose lease ends before `then`.
    pub(crate) fn ending_before(&self, then: Instant) -> Vec<(RecordId, Arc<Lease>)> {
        let then = self.micros(then);
        let is_ending = |lease: &Lease| {
            !lease.answered.load(Ordering::Relaxed) && lease.end.load(Ordering::Relaxed) < then
        };
        self.leases()
            .iter()
            .filter(|(_, lease)| is_ending(lease))
            .map(|(id, lease)| (*id, Arc::clone(lease)))
            .collect()
    }

    /// Notes that these leases were renewed and end at `end`.
    ///
    /// It takes leases and not keys: a record that was settled and claimed again meanwhile has another lease,
    /// which this renewal does not concern.
    pub(crate) fn renewed<'a>(
        &self,
        leases: impl IntoIterator<Item = &'a Arc<Lease>>,
        end: Instant,
    ) {
        let end = self.micros(end);
        for lease in leases {
            lease.end.fetch_max(end, Ordering::Relaxed);
            // Renewing writes the lease into the record's own row, so it needs its claim no longer.
            *lock(&lease.claim) = None;
        }
    }

    /// The keys of all records in flight.
    pub(crate) fn ids(&self) -> Vec<RecordId> {
        self.leases().keys().copied().collect()
    }

    /// Whether no record is in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.leases().is_empty()
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_micros()).unwrap_or(u64::MAX)
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<RecordId, Arc<Lease>>> {
        lock(&self.leases)
    }
}

impl FlightRecord {
    /// Has the same answer come again at `due`, because the table refused to settle the record.
    ///
    /// The lease is renewed meanwhile, so that no other process sends the message.
    pub(crate) fn settle_at(self: Box<Self>, confirm: Confirm, due: Instant) {
        self.lease.answered.store(false, Ordering::Relaxed);
        self.answer(confirm, Some(due));
    }

    fn answer(self: Box<Self>, confirm: Confirm, due: Option<Instant>) {
        let answers = self.flight.answers.clone();
        let took = self.waited.saturating_add(self.since.elapsed());
        // It fails when the ackers have ended with their bus. The record is dropped then, and its lease runs
        // out.
        let _ = answers.send(AnsweredRecord {
            record: self,
            confirm,
            took,
            due,
        });
    }

    /// The message for the broker, with this record as its ticket.
    pub(crate) fn into_outgoing(mut self: Box<Self>, lane: Isolation) -> Outgoing {
        self.slot.sent_again();
        self.lease.answered.store(false, Ordering::Relaxed);
        let (message, expires) = (self.message.clone(), self.expires);
        Outgoing::new(self.id, message, expires, lane, Some(self))
    }
}

impl Ticket for FlightRecord {
    fn lease_end(&self) -> Option<Instant> {
        let end = Duration::from_micros(self.lease.end.load(Ordering::Relaxed));
        Some(self.flight.start + end)
    }

    fn settle(mut self: Box<Self>, confirm: Confirm) {
        self.slot.answered();
        self.lease.answered.store(true, Ordering::Relaxed);
        self.answer(confirm, None);
    }
}

impl Drop for FlightRecord {
    fn drop(&mut self) {
        self.flight.leases().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::{
        claims::OpenClaims,
        window::{Side, Window},
    };

    /// Takes the same record into flight each time.
    fn entering(
        flight: &Arc<Flight>,
    ) -> impl Fn(Option<&Arc<OpenClaim>>) -> Option<Box<FlightRecord>> {
        let (window, message) = (Window::new(8), Message::new("placed", "payload"));
        move |claim| {
            let slot = window.try_take(&message.shared_topic(), 1, Side::Scanner);
            let id = RecordId::of(message.id());
            flight.enter(
                id,
                message.clone(),
                slot.unwrap(),
                Instant::now(),
                None,
                claim,
            )
        }
    }

    /// A COMMIT that took longer than its lease: the scanner has found the record before the hand-over.
    #[test]
    fn a_hand_over_that_comes_late_leaves_the_record_its_claim() {
        let (flight, _answers) = Flight::new();
        let claims = OpenClaims::default();
        let enter = entering(&flight);
        let claim = claims.open(1);
        let held = enter(Some(&claim));
        drop(claim);

        assert!(enter(None).is_none());

        assert_eq!(claims.finished(), 0);
        drop(held);
        assert_eq!(claims.take_finished(), [1]);
    }

    /// The answer to the renewal was late: the record had been released, and claimed again.
    #[test]
    fn a_renewal_says_nothing_of_a_record_that_has_left_and_come_again() {
        let (flight, _answers) = Flight::new();
        let claims = OpenClaims::default();
        let enter = entering(&flight);
        let first = enter(None);
        let ending = flight.ending_before(Instant::now() + Duration::from_secs(1));
        drop(first);
        let claim = claims.open(1);
        let again = enter(Some(&claim));
        drop(claim);

        flight.renewed(ending.iter().map(|(_, lease)| lease), Instant::now());
        assert_eq!((ending.len(), claims.finished()), (1, 0));
        drop(again);
        assert_eq!(claims.take_finished(), [1]);
    }
}
