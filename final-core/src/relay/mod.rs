//! The relay: carries messages from a committed record to a record that the broker has proven to hold.
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
//! Input: messages before their INSERT and after their COMMIT, due records of the table, and the broker's
//! confirms. State: the records in flight. Output: messages for the [`Link`], and changes of records in the table.
//!
//! Three things decide whether a message may be sent: a slot of the [`Window`], a lease that has not run out
//! ([`Flight`]), and a topic that is not parked ([`Parking`]). One thing decides that it has been sent: the
//! confirm of that very record, which an acker brings to the table.
//!
//! What is where: `hand_over` and `batch` send, `scanner` and `pass` find what is due, `probe` tries parked
//! topics, `answers`, `acker` and `settle` settle, `leases` renews, `shutdown` ends. `detour` writes messages that come from a
//! queue and go back there.

mod acker;
mod answers;
mod batch;
mod change;
mod claims;
mod counters;
pub(crate) mod detour;
mod flight;
mod gate;
mod hand_over;
mod leases;
mod parking;
mod pass;
mod probe;
mod retention;
mod scanner;
mod sent;
mod settle;
mod shutdown;
#[cfg(all(test, feature = "sqlite"))]
mod tests;
mod unknown;
mod waiting;
mod window;

use std::{fmt, sync::Arc};

use tokio_util::sync::CancellationToken;

use self::{
    answers::AnswerQueue,
    claims::OpenClaims,
    flight::{Flight, FlightRecord},
    gate::BrokerGate,
    parking::Parking,
    sent::SentTopics,
    shutdown::Stopping,
    window::Window,
};
pub(crate) use self::{counters::Counters, hand_over::Reserved};
use crate::{
    Options, OutboxDatabase,
    broker::{Isolation, Link},
    names::ServiceName,
    outbox::Outbox,
    runtime::{bell::Bell, crew::Crew},
};

/// The running way out of one bus: what its tasks share.
pub(crate) struct Relay<DB: OutboxDatabase> {
    pub(crate) service: ServiceName,
    pub(crate) options: Options,
    pub(crate) outbox: Arc<Outbox<DB>>,
    /// How much may be in flight.
    pub(crate) window: Arc<Window>,
    /// Topics to which nothing can be sent now.
    pub(crate) parking: Parking,
    pub(crate) counters: Counters,
    /// What became of messages, by topic.
    pub(crate) sent: SentTopics,
    /// Wakes the scanner.
    pub(crate) bell: Bell,
    /// The records in flight, and until when each is ours.
    flight: Arc<Flight>,
    /// Which claims have records in flight.
    claims: OpenClaims,
    /// The broker's answers. One acker at a time takes some.
    answers: tokio::sync::Mutex<AnswerQueue>,
    /// Whether messages can be sent now.
    gate: BrokerGate,
    /// How far the relay has been stopped.
    stopping: Stopping,
}

impl<DB: OutboxDatabase> Relay<DB> {
    /// A relay without tasks. Cancelling `stop` ends everything at once.
    pub(crate) fn new(
        service: ServiceName,
        options: Options,
        outbox: Arc<Outbox<DB>>,
        link: Arc<dyn Link>,
        stop: &CancellationToken,
    ) -> Arc<Self> {
        let (flight, answers) = Flight::new();
        let stopping = Stopping::new(stop);
        Arc::new(Self {
            window: Window::new(options.confirm_window),
            gate: BrokerGate::new(link, stopping.taking.clone()),
            service,
            options,
            outbox,
            parking: Parking::default(),
            counters: Counters::default(),
            sent: SentTopics::default(),
            bell: Bell::default(),
            flight,
            claims: OpenClaims::default(),
            answers: tokio::sync::Mutex::new(AnswerQueue::new(answers)),
            stopping,
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

    /// Tells the scanner that something is due now.
    pub(crate) fn ring(&self) {
        self.bell.ring();
    }

    /// Whether messages can be handed to the broker now.
    pub(crate) fn is_ready(&self) -> bool {
        self.gate.is_open()
    }

    /// Gives a record in flight to the broker.
    fn send(&self, record: Box<FlightRecord>, lane: Isolation) {
        self.gate.send(record.into_outgoing(lane));
    }

    /// Logs that the database failed: at the first failure in a row, and then at every hundredth.
    fn database_failed(&self, doing: &'static str, error: &sqlx::Error, failures: u32) {
        if failures.is_multiple_of(100) {
            tracing::warn!(
                target: "final::relay",
                service = self.service.as_str(), doing, %error, failures,
                "the database failed; trying again"
            );
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
