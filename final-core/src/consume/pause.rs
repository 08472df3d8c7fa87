//! Where a message waits: in memory, or outside of the service's queue.
//!
//! Input: a delivery, and how long it is to wait. State: how many deliveries wait in memory. Output: the wait is
//! over; or the message has left the queue, and comes back as another delivery; or the bus stops.
//!
//! ```text
//!   short, and few wait ─▶ in memory ──────────────────────────────────▶ Over
//!   long, or many wait ──▶ by settlement ──────────────────────────────▶ Left
//!                    └───▶ by the outbox ─ stored ─────────────────────▶ Left
//!                              └ refused, or the database is away ─▶ in memory
//! ```
//!
//! A delivery that waits holds a place of the prefetch. So at most about `concurrency` of them wait, and messages
//! of other topics go on, whatever the backlog of the topic that is in trouble.

use std::{
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use super::{detour::DetourQueue, retry::MAX_HOLD, work::SubscriberContext};
use crate::{
    broker::{Delivery, Detoured, Postponement, Postponing, Settlement},
    failpoint::{Failpoint, pass},
};

/// A message that waits for at least as long leaves the queue in any case.
const LONG: Duration = Duration::from_secs(5);

/// A message that has been held for so long leaves the queue at its next pause.
const HELD: Duration = Duration::from_secs(60);

/// If too many wait, a message leaves the queue for a pause of this length, or for any pause once its topic is in
/// trouble.
const SHORT: Duration = Duration::from_millis(100);

/// A message that leaves the queue stays away for at least so long. It costs two statements and a publish.
const SHORTEST: Duration = Duration::from_secs(1);

/// What came of a wait.
#[derive(Debug)]
pub(super) enum Waited {
    /// The pause is over.
    Over(Delivery),
    /// The message has left the queue.
    Left,
    /// The message cannot leave the queue, and was held for too long.
    TooLong(Delivery),
    /// The bus stops.
    Stopped(Delivery),
}

/// How long a message is to wait, and what for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    /// The pause.
    pub(super) pause: Duration,
    /// The pause in memory, which may be shorter. `None` if the message was held for too long.
    pub(super) in_memory: Option<Duration>,
    /// How often the handler was tried.
    pub(super) attempts: u32,
    /// How long the message has waited so far for an instance with a handler.
    pub(super) waited: Duration,
    /// Since when this process has held it.
    pub(super) since: Instant,
    /// Whether it leaves for a pause of any length, if too many wait.
    pub(super) is_in_trouble: bool,
    /// Whether no handler is there for it.
    pub(super) is_unrouted: bool,
}

impl Wait {
    /// Whether the message leaves the queue, while so many wait in memory, this one included.
    fn leaves(&self, waiting: usize, concurrency: usize) -> bool {
        let is_long = self.pause >= LONG || self.since.elapsed() + self.pause >= HELD;
        let is_short = self.pause < SHORT && !self.is_in_trouble;
        is_long || (waiting > concurrency && !is_short)
    }
}

/// The deliveries that wait in memory.
#[derive(Debug, Default)]
pub(super) struct WaitingPlaces(AtomicUsize);

impl WaitingPlaces {
    /// Takes a place. Returns it with how many are taken.
    fn take(&self) -> (WaitingPlace<'_>, usize) {
        let taken = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        (WaitingPlace(self), taken)
    }
}

struct WaitingPlace<'a>(&'a WaitingPlaces);

impl Drop for WaitingPlace<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The failures of one topic since its last success.
#[derive(Debug, Default)]
pub(super) struct Failures(AtomicU32);

impl Failures {
    /// A message of the topic was handled.
    pub(super) fn end(&self) {
        // Nearly always there was none, and reading is cheaper than writing.
        if self.0.load(Ordering::Relaxed) > 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    /// An attempt has failed. Whether the topic is in trouble: it has failed twice as often in a row as handlers
    /// may run at once.
    pub(super) fn add(&self, concurrency: usize) -> bool {
        let failures = self.0.load(Ordering::Relaxed).saturating_add(1);
        self.0.store(failures, Ordering::Relaxed);
        usize::try_from(failures).unwrap_or(usize::MAX) > concurrency.saturating_mul(2)
    }
}

/// Waits, in memory or outside of the queue.
pub(super) async fn wait(context: &SubscriberContext, delivery: Delivery, wait: Wait) -> Waited {
    let (_place, waiting) = context.places.take();
    let leaves = wait.leaves(waiting, context.concurrency);
    let postponing = match delivery.postponing() {
        // It would be requeued after the pause, and a quorum queue counts that.
        Postponing::Outbox if wait.is_unrouted => Postponing::Outbox,
        how if leaves => how,
        _ => Postponing::Never,
    };
    let delay = wait.pause.max(SHORTEST);
    let waited = match wait.is_unrouted {
        true => wait.waited.saturating_add(delay),
        false => wait.waited,
    };
    let postponement = Postponement::new(delay, wait.attempts, waited);
    match postponing {
        Postponing::Settlement => {
            context.stats.postponed.add(1);
            delivery.settle(Settlement::Postpone(postponement));
            Waited::Left
        }
        Postponing::Outbox => by_outbox(context, delivery, wait, &postponement).await,
        Postponing::Never => in_memory(context, delivery, wait.in_memory).await,
    }
}

async fn in_memory(
    context: &SubscriberContext,
    delivery: Delivery,
    pause: Option<Duration>,
) -> Waited {
    let Some(pause) = pause else {
        return Waited::TooLong(delivery);
    };
    tokio::select! {
        biased;
        () = context.stop.cancelled() => Waited::Stopped(delivery),
        () = tokio::time::sleep(pause) => Waited::Over(delivery),
    }
}

/// Leaves the queue by the outbox. Until the message is stored there it waits in memory.
async fn by_outbox(
    context: &SubscriberContext,
    delivery: Delivery,
    wait: Wait,
    postponement: &Postponement,
) -> Waited {
    let queue = context.detour.as_ref().filter(|queue| queue.is_open());
    let detoured = delivery.message().ok().and_then(|message| {
        let (envelope, payload) = (message.envelope()?, message.payload().clone());
        Some(Detoured::to_queue(envelope, payload, postponement))
    });
    let (Some(queue), Some(detoured)) = (queue, detoured) else {
        return in_memory(context, delivery, wait.in_memory).await;
    };
    let (sender, mut stored) = oneshot::channel();
    let answer = Box::new(move |stored| {
        let _ = sender.send(stored);
    });
    let ticket = DetourTicket {
        number: queue.add(detoured, postponement.delay, answer),
        queue,
    };
    let held = wait.since.elapsed();
    let until = Instant::now() + wait.pause.min(MAX_HOLD.saturating_sub(held));
    let (is_stored, is_stopped) = tokio::select! {
        biased;
        answer = &mut stored => (answer.unwrap_or(false), false),
        () = context.stop.cancelled() => {
            (!ticket.withdraw() && stored.await.unwrap_or(false), true)
        }
        () = sleep_until(until) => (!ticket.withdraw() && stored.await.unwrap_or(false), false),
    };
    if is_stored {
        pass(Failpoint::AfterDetour);
        context.stats.postponed.add(1);
        delivery.settle(Settlement::Moved);
        return Waited::Left;
    }
    if is_stopped {
        return Waited::Stopped(delivery);
    }
    // The rest of the pause, if the database has refused the message before its end.
    let rest = until.saturating_duration_since(Instant::now());
    in_memory(context, delivery, Some(rest)).await
}

/// A message in the queue of the detour. If the wait is aborted, it is withdrawn.
struct DetourTicket<'a> {
    queue: &'a DetourQueue,
    number: u64,
}

impl DetourTicket<'_> {
    fn withdraw(&self) -> bool {
        self.queue.withdraw(self.number)
    }
}

impl Drop for DetourTicket<'_> {
    fn drop(&mut self) {
        self.withdraw();
    }
}
