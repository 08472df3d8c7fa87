//! The way out: from a committed record to a record the broker has proven to hold.
//!
//! ```text
//! TxBus ─ reserve a slot, INSERT leased ─ COMMIT ─ hand_over ─┐
//!                │ no slot, broker away, topic parked:        ├─▶ Link ─▶ broker
//!                │ INSERT unleased                            │    │ confirm
//!             outbox ─────────▶ Scanner claims, takes a slot ─┘    ▼
//!                ▲                                              Ackers
//!                └── deleted or marked / due later / parked / failed ┘
//! ```
//!
//! What is in flight is bounded by the [`Window`]; what is ours is told by its lease; what is done
//! is told by the confirm of that very record.

mod acker;
mod change;
mod counters;
mod flight;
mod inbox;
mod leases;
mod parking;
mod pass;
mod retention;
mod scanner;
mod shutdown;
#[cfg(all(test, feature = "sqlite"))]
mod tests;
mod unknown;
mod waiting;
mod window;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use self::counters::Counters;
use self::{
    flight::{Flight, Held, Unrecorded},
    inbox::Inbox,
    parking::Parking,
    window::{Side, Slot, Window},
};
use crate::outbox::Outbox;
use crate::{
    Options, OutboxDatabase,
    broker::{Confirm, Lane, Link, LinkState, Outgoing, Staged},
    database::DbResult,
    names::ServiceName,
    outbox::NewRecord,
    runtime::crew::Crew,
};

/// The running way out of one bus.
pub(crate) struct Relay<DB: OutboxDatabase> {
    pub(crate) service: ServiceName,
    pub(crate) options: Options,
    pub(crate) store: Arc<Outbox<DB>>,
    pub(crate) window: Arc<Window>,
    pub(crate) parking: Parking,
    pub(crate) counters: Counters,
    flight: Arc<Flight>,
    inbox: tokio::sync::Mutex<Inbox>,
    link: Arc<dyn Link>,
    state: watch::Receiver<LinkState>,
    bell: Bell,
    /// Topics whose records are to be made pending again.
    opened: Mutex<Vec<Arc<str>>>,
    /// Shared by every write that has reserved and not yet handed over.
    writing: Arc<()>,
    /// From then on nothing is handed over or claimed.
    stop_scanner: CancellationToken,
    /// From then on ackers settle what is there and end.
    stop_ackers: CancellationToken,
    /// From then on nobody repeats a failing statement.
    give_up: CancellationToken,
}

/// What wakes the scanner: a ring for now, an alarm for later.
#[derive(Debug, Default)]
struct Bell {
    notify: Notify,
    rung: AtomicBool,
    alarm: Mutex<Option<Instant>>,
}

/// What was decided about messages before their INSERT.
pub(crate) struct Reserved<'a> {
    pub(crate) records: Vec<NewRecord<'a>>,
    /// The slot of each record that will be handed over.
    slots: Vec<Option<Slot>>,
    lease_end: Instant,
    _writing: Option<Arc<()>>,
}

impl<DB: OutboxDatabase> Relay<DB> {
    pub(crate) fn new(
        service: ServiceName,
        options: Options,
        store: Arc<Outbox<DB>>,
        link: Arc<dyn Link>,
        stop: &CancellationToken,
    ) -> Arc<Self> {
        let (flight, answers) = Flight::new();
        Arc::new(Self {
            window: Window::new(options.confirm_window),
            state: link.state(),
            service,
            options,
            store,
            parking: Parking::default(),
            counters: Counters::default(),
            flight,
            inbox: tokio::sync::Mutex::new(Inbox::new(answers)),
            link,
            bell: Bell::default(),
            opened: Mutex::default(),
            writing: Arc::default(),
            stop_scanner: stop.child_token(),
            stop_ackers: stop.child_token(),
            give_up: stop.child_token(),
        })
    }

    /// Starts the tasks.
    pub(crate) fn start(self: &Arc<Self>, crew: &Crew) {
        for n in 0..self.options.num_ackers {
            let relay = Arc::clone(self);
            crew.hire(format!("acker-{n}"), move || acker::run(Arc::clone(&relay)));
        }
        let relay = Arc::clone(self);
        crew.hire("leases", move || leases::run(Arc::clone(&relay)));
        let relay = Arc::clone(self);
        crew.hire("scanner", move || scanner::run(Arc::clone(&relay)));
        if let Some(keep) = self.options.retention {
            let relay = Arc::clone(self);
            crew.hire("retention", move || {
                retention::run(Arc::clone(&relay), keep)
            });
        }
    }

    /// Decides, before the INSERT, which messages this process will send itself.
    pub(crate) fn reserve<'a>(&self, staged: &'a [Staged]) -> Reserved<'a> {
        let (lease, lease_end) = self.store.new_lease();
        let mut reserved = Reserved::none(staged);
        reserved.lease_end = lease_end;
        // First, so that a shutdown which begins now waits for it.
        reserved._writing = Some(Arc::clone(&self.writing));
        let is_ready = self.is_ready();
        for (record, slot) in reserved.records.iter_mut().zip(&mut reserved.slots) {
            if !record.delay.is_zero() {
                continue;
            }
            let topic = record.message.shared_topic();
            if self.parking.is_parked(&topic) {
                record.parked = true;
            } else if is_ready {
                *slot = self
                    .window
                    .try_take(&topic, record.message.weight(), Side::HandOver);
                record.lease = slot.is_some().then_some(lease);
            }
        }
        reserved
    }

    /// Sends what was reserved, after its COMMIT. The rest is left to the scanner.
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
                    if let Some(held) = self.flight.enter(message, slot, lease_end, expires, None) {
                        self.send(held, Lane::Shared);
                    }
                }
                // It was opened meanwhile, and what was parked by then has been released.
                None if record.parked && !self.parking.is_parked(record.message.topic()) => {
                    self.opened(record.message.shared_topic());
                    ring = true;
                }
                None if record.parked => {}
                None if record.delay.is_zero() => ring = true,
                None => self.due_in(record.delay),
            }
        }
        if ring {
            self.ring();
        }
    }

    /// Sends a message that has no record: fire and forget. False if the broker takes none now.
    pub(crate) fn send_unconfirmed(&self, staged: Staged) -> bool {
        let topic = staged.message.shared_topic();
        let slot = self
            .window
            .try_take(&topic, staged.message.weight(), Side::HandOver);
        let Some(slot) = slot.filter(|_| self.is_ready()) else {
            return false;
        };
        let expires = staged.ttl.map(|ttl| Instant::now() + ttl);
        let ticket = Box::new(Unrecorded::new(slot));
        self.link.send(Outgoing::new(
            staged.message,
            expires,
            Lane::Shared,
            Some(ticket),
        ));
        true
    }

    fn send(&self, held: Box<Held>, lane: Lane) {
        self.link.send(held.into_outgoing(lane));
    }

    /// Tells the scanner that something is due now.
    pub(crate) fn ring(&self) {
        self.bell.rung.store(true, Ordering::Release);
        self.bell.notify.notify_one();
    }

    /// Lets the scanner look at when it has to wake next: a probe may be due before that.
    fn nudge(&self) {
        self.bell.notify.notify_one();
    }

    /// Tells the scanner that something is due after `wait`.
    fn due_in(&self, wait: Duration) {
        // A little more, so that the record is due by the database's clock too.
        let at = Instant::now() + wait + Duration::from_millis(2);
        let mut alarm = lock(&self.bell.alarm);
        if alarm.is_none_or(|earlier| at < earlier) {
            *alarm = Some(at);
            self.bell.notify.notify_one();
        }
    }

    async fn rung(&self) {
        self.bell.notify.notified().await;
    }

    fn take_ring(&self) -> bool {
        self.bell.rung.swap(false, Ordering::AcqRel)
    }

    /// When something is due that the table may not show yet.
    fn alarm(&self) -> Option<Instant> {
        *lock(&self.bell.alarm)
    }

    /// Ends the alarm if its time has come.
    fn alarm_over(&self) -> bool {
        lock(&self.bell.alarm)
            .take_if(|at| *at <= Instant::now())
            .is_some()
    }

    /// Whether messages can be handed to the broker now.
    pub(crate) fn is_ready(&self) -> bool {
        *self.state.borrow() == LinkState::Ready && !self.stop_scanner.is_cancelled()
    }

    /// Waits until the broker takes messages. False if it never will again.
    async fn until_ready(&self) -> bool {
        let mut state = self.state.clone();
        tokio::select! {
            ready = state.wait_for(|state| matches!(state, LinkState::Ready | LinkState::Closed)) => {
                ready.is_ok_and(|state| *state == LinkState::Ready) && !self.stop_scanner.is_cancelled()
            }
            () = self.stop_scanner.cancelled() => false,
        }
    }

    /// Waits until the broker stops taking messages.
    async fn state_changed(&self) {
        let mut state = self.state.clone();
        let _ = state.wait_for(|state| *state != LinkState::Ready).await;
    }

    /// Ends the claims of which nothing is in our hands any more, if there are so many.
    async fn finish_claims(&self, least: usize) -> DbResult<()> {
        if self.flight.finished() < least {
            return Ok(());
        }
        let finished = self.flight.take_finished();
        self.counters.statements.add(1);
        let result = self.store.table()?.finish(&finished).await;
        if result.is_err() {
            self.flight.not_finished(finished);
        }
        result.map(|_| ())
    }

    /// Waits until there is room for a claim that is worth its statement, and says for how many
    /// records. `None` if the broker takes none.
    async fn room(&self) -> Option<usize> {
        let worth = self.window.worth_a_claim(self.options.scan_batch as usize);
        loop {
            let freed = self.window.freed();
            if !self.is_ready() {
                return None;
            }
            let free = self.window.free_for_scanner();
            if free >= worth {
                return Some(free);
            }
            self.window.set_backlog(true);
            tokio::select! {
                () = freed => {}
                () = self.state_changed() => {}
                () = self.stop_scanner.cancelled() => {}
            }
        }
    }

    /// What a probe told about its parked topic.
    fn probed(&self, topic: &Arc<str>, confirm: &Confirm) {
        match confirm {
            Confirm::Stored => {
                if self.parking.open(topic) {
                    tracing::info!(service = self.service.as_str(), %topic, "topic works again");
                }
                self.opened(Arc::clone(topic));
                self.ring();
            }
            // Parked again by the acker.
            Confirm::Unroutable | Confirm::NoAnswer | Confirm::Denied(_) => {}
            Confirm::Refused
            | Confirm::Suspect
            | Confirm::Faulty(_)
            | Confirm::Lost
            | Confirm::Expired
            | Confirm::LeaseOver => {
                self.parking.probe_again(topic);
                self.nudge();
            }
        }
    }

    fn opened(&self, topic: Arc<str>) {
        let mut opened = lock(&self.opened);
        if !opened.contains(&topic) {
            opened.push(topic);
        }
    }

    /// Up to `most` of them. Whoever takes them rings, so that the others are not left.
    fn take_opened(&self, most: usize) -> Vec<Arc<str>> {
        let mut opened = lock(&self.opened);
        let most = most.min(opened.len());
        opened.drain(..most).collect()
    }

    /// Notes that the database failed. Logged at once and then every hundredth time in a row.
    fn database_failed(&self, doing: &'static str, error: &sqlx::Error, failures: u32) {
        if failures.is_multiple_of(100) {
            tracing::warn!(service = self.service.as_str(), doing, %error, failures, "the database failed; trying again");
        }
    }
}

impl<'a> Reserved<'a> {
    /// Nothing is handed over: the bus is not started, or is shutting down.
    pub(crate) fn none(staged: &'a [Staged]) -> Self {
        let records = staged.iter().map(|staged| NewRecord {
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

impl<DB: OutboxDatabase> fmt::Debug for Relay<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
