//! A delivery waits, in memory or outside of the service's queue.
//!
//! Input: a delivery, and how long it is to wait. State: none here. Output: the wait is over; or the message has left
//! the queue, and comes back as another delivery; or the bus stops.
//!
//! ```text
//!   short, and few wait ─▶ in memory ──────────────────────────────────▶ Over
//!   long, or many wait ──▶ by settlement ──────────────────────────────▶ Left
//!                    └───▶ by the outbox ─ stored ─────────────────────▶ Left
//!                              └ refused, or the database is away ─▶ in memory
//! ```

use std::time::Duration;

use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use super::{
    context::SubscriberContext,
    detour::DetourQueue,
    pause::{SHORTEST, Wait, Waited},
    retry::MAX_HOLD,
    stats::ConsumeStats,
};
use crate::{
    broker::{Delivery, Detoured, Postponement, Postponing, Settlement},
    failpoint::{Failpoint, pass},
};
/// Waits, in memory or outside of the queue.
pub(super) async fn wait(
    context: &SubscriberContext,
    stats: &ConsumeStats,
    delivery: Delivery,
    wait: Wait,
) -> Waited {
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
            stats.postponed.add(1);
            delivery.settle(Settlement::Postpone(postponement));
            Waited::Left
        }
        Postponing::Outbox => by_outbox(context, stats, delivery, wait, &postponement).await,
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
    stats: &ConsumeStats,
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
        stats.postponed.add(1);
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
