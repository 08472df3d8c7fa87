//! What is in flight: records of this process between their INSERT or claim and their settlement.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use uuid::Uuid;

use super::window::Slot;
use crate::{
    Message,
    broker::{Confirm, Lane, Outgoing, Ticket},
};

/// The records in flight, by id, and where their answers go.
#[derive(Debug)]
pub(crate) struct Flight {
    start: Instant,
    leases: Mutex<HashMap<Uuid, Arc<Lease>>>,
    answers: mpsc::UnboundedSender<Answer>,
    finished: Arc<Mutex<Vec<i64>>>,
}

/// Until when a record is surely ours, by our own monotonic clock.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Microseconds after the flight's start.
    end: AtomicU64,
    answered: AtomicBool,
    /// What it was claimed with last, if it was.
    claim: Mutex<Option<Arc<OpenClaim>>>,
}

/// A claim of which records are in our hands. When the last of them is dropped it is finished.
#[derive(Debug)]
pub(crate) struct OpenClaim {
    number: i64,
    finished: Arc<Mutex<Vec<i64>>>,
}

/// A record and the broker's answer to it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) held: Box<Held>,
    pub(crate) confirm: Confirm,
    /// When to settle it, if not at once.
    pub(crate) due: Option<Instant>,
}

/// A record in flight with all it needs to be settled. Dropping it takes it out of flight and frees
/// its slot; unless it was settled in the table, it is claimed again when its lease has run out or its
/// claim is finished.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) message: Message,
    pub(crate) attempts: u32,
    pub(crate) faults: u32,
    /// Whether it is sent to learn if its parked topic works again.
    pub(crate) probe: bool,
    /// How often the table did not take what was answered.
    pub(crate) refusals: u32,
    pub(crate) expires: Option<Instant>,
    lease: Arc<Lease>,
    flight: Arc<Flight>,
    slot: Slot,
}

impl Flight {
    pub(crate) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Answer>) {
        // The channel holds no more than there are slots.
        let (answers, receiver) = mpsc::unbounded_channel();
        let leases = Mutex::default();
        (
            Arc::new(Self {
                start: Instant::now(),
                leases,
                answers,
                finished: Arc::default(),
            }),
            receiver,
        )
    }

    /// Takes a record into flight, or `None` if it is there already.
    pub(crate) fn enter(
        self: &Arc<Self>,
        message: Message,
        slot: Slot,
        lease_end: Instant,
        expires: Option<Instant>,
        claim: Option<&Arc<OpenClaim>>,
    ) -> Option<Box<Held>> {
        use std::collections::hash_map::Entry;
        let lease = Arc::new(Lease {
            end: AtomicU64::new(self.micros(lease_end)),
            answered: AtomicBool::new(false),
            claim: Mutex::new(claim.map(Arc::clone)),
        });
        match self.leases().entry(message.id().0) {
            // Whoever comes with it has leased again what is still in our hands.
            Entry::Occupied(entry) => {
                let lease = entry.get();
                lease
                    .end
                    .fetch_max(self.micros(lease_end), Ordering::Relaxed);
                if let Some(claim) = claim {
                    *lock(&lease.claim) = Some(Arc::clone(claim));
                }
                return None;
            }
            Entry::Vacant(entry) => entry.insert(Arc::clone(&lease)),
        };
        Some(Box::new(Held {
            message,
            attempts: 0,
            faults: 0,
            probe: false,
            refusals: 0,
            expires,
            lease,
            flight: Arc::clone(self),
            slot,
        }))
    }

    /// The unanswered records whose lease ends before `then`.
    pub(crate) fn ending_before(&self, then: Instant) -> Vec<(Uuid, Arc<Lease>)> {
        let then = self.micros(then);
        let due = |lease: &Lease| {
            !lease.answered.load(Ordering::Relaxed) && lease.end.load(Ordering::Relaxed) < then
        };
        self.leases()
            .iter()
            .filter(|(_, lease)| due(lease))
            .map(|(id, lease)| (*id, Arc::clone(lease)))
            .collect()
    }

    /// Notes that these have been renewed. A record that has left and come again since has another.
    pub(crate) fn renewed<'a>(
        &self,
        leases: impl IntoIterator<Item = &'a Arc<Lease>>,
        end: Instant,
    ) {
        let end = self.micros(end);
        for lease in leases {
            lease.end.fetch_max(end, Ordering::Relaxed);
            // Each has a lease of its own now.
            *lock(&lease.claim) = None;
        }
    }

    /// Opens a claim of this process: whoever holds on to it keeps it.
    pub(crate) fn open(&self, number: i64) -> Arc<OpenClaim> {
        Arc::new(OpenClaim {
            number,
            finished: Arc::clone(&self.finished),
        })
    }

    /// How many claims there are of which nothing is in our hands any more.
    pub(crate) fn finished(&self) -> usize {
        lock(&self.finished).len()
    }

    /// Those claims, each once.
    pub(crate) fn take_finished(&self) -> Vec<i64> {
        std::mem::take(&mut *lock(&self.finished))
    }

    /// Gives back those that the table could not be told of.
    pub(crate) fn not_finished(&self, numbers: Vec<i64>) {
        lock(&self.finished).extend(numbers);
    }

    /// All ids in flight.
    pub(crate) fn ids(&self) -> Vec<Uuid> {
        self.leases().keys().copied().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.leases().is_empty()
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_micros()).unwrap_or(u64::MAX)
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Lease>>> {
        lock(&self.leases)
    }
}

/// Every change is one step, so a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for OpenClaim {
    fn drop(&mut self) {
        lock(&self.finished).push(self.number);
    }
}

impl Held {
    pub(crate) fn id(&self) -> Uuid {
        self.message.id().0
    }

    /// Has its answer come again, because the table did not take it. Its lease is renewed meanwhile, so that
    /// no other process sends it.
    pub(crate) fn settle_at(self: Box<Self>, confirm: Confirm, due: Instant) {
        self.lease.answered.store(false, Ordering::Relaxed);
        self.answer(confirm, Some(due));
    }

    fn answer(self: Box<Self>, confirm: Confirm, due: Option<Instant>) {
        let answers = self.flight.answers.clone();
        // Without ackers the bus has ended; the record falls out of flight and its lease runs out.
        let _ = answers.send(Answer {
            held: self,
            confirm,
            due,
        });
    }

    /// Hands it to the broker.
    pub(crate) fn into_outgoing(mut self: Box<Self>, lane: Lane) -> Outgoing {
        self.slot.sent_again();
        self.lease.answered.store(false, Ordering::Relaxed);
        let (message, expires) = (self.message.clone(), self.expires);
        Outgoing::new(message, expires, lane, Some(self))
    }
}

impl Ticket for Held {
    fn lease_end(&self) -> Instant {
        self.flight.start + Duration::from_micros(self.lease.end.load(Ordering::Relaxed))
    }

    fn settle(mut self: Box<Self>, confirm: Confirm) {
        self.slot.answered();
        self.lease.answered.store(true, Ordering::Relaxed);
        self.answer(confirm, None);
    }
}

/// A message without a record: nobody waits for its confirm, but it has a slot while it is in memory.
#[derive(Debug)]
pub(crate) struct Unrecorded {
    _slot: Slot,
}

impl Unrecorded {
    pub(crate) fn new(slot: Slot) -> Self {
        Self { _slot: slot }
    }
}

impl Ticket for Unrecorded {
    fn lease_end(&self) -> Instant {
        // Nobody else can have it, so it never ends.
        Instant::now() + Duration::from_secs(3600)
    }

    fn wants_confirm(&self) -> bool {
        false
    }

    fn settle(self: Box<Self>, _confirm: Confirm) {}
}

impl Drop for Held {
    fn drop(&mut self) {
        self.flight.leases().remove(&self.message.id().0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::window::{Side, Window};

    /// Takes the same record into flight each time.
    fn entering(flight: &Arc<Flight>) -> impl Fn(Option<&Arc<OpenClaim>>) -> Option<Box<Held>> {
        let (window, message) = (Window::new(8), Message::new("placed", "payload"));
        move |claim| {
            let slot = window.try_take(&message.shared_topic(), 1, Side::Scanner);
            flight.enter(message.clone(), slot.unwrap(), Instant::now(), None, claim)
        }
    }

    /// A COMMIT that took longer than its lease: the scanner has found the record before the hand-over.
    #[test]
    fn a_hand_over_that_comes_late_leaves_the_record_its_claim() {
        let (flight, _answers) = Flight::new();
        let enter = entering(&flight);
        let claim = flight.open(1);
        let held = enter(Some(&claim));
        drop(claim);

        assert!(enter(None).is_none());

        assert_eq!(flight.finished(), 0);
        drop(held);
        assert_eq!(flight.take_finished(), [1]);
    }

    /// The answer to the renewal was late: the record had been released, and claimed again.
    #[test]
    fn a_renewal_says_nothing_of_a_record_that_has_left_and_come_again() {
        let (flight, _answers) = Flight::new();
        let enter = entering(&flight);
        let first = enter(None);
        let ending = flight.ending_before(Instant::now() + Duration::from_secs(1));
        drop(first);
        let claim = flight.open(1);
        let again = enter(Some(&claim));
        drop(claim);

        flight.renewed(ending.iter().map(|(_, lease)| lease), Instant::now());
        assert_eq!((ending.len(), flight.finished()), (1, 0));
        drop(again);
        assert_eq!(flight.take_finished(), [1]);
    }
}
