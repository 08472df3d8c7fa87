//! The work on one delivery, from its first attempt to its settlement.
//!
//! Input: a delivery, its route, and a slot. Output: the delivery's settlement. What all deliveries share
//! stands in [`SubscriberContext`].

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    attempt::{Attempted, attempt},
    retry::Retry,
    stalls::watched,
    stats::ConsumeStats,
    unrouted::Unrouted,
};
use crate::{
    Outcome,
    broker::{Cause, Delivery, Settlement},
    failpoint::{Failpoint, pass},
    router::Route,
    runtime::inside::{BusNumber, Inside},
};

/// What all deliveries in flight share.
pub(super) struct SubscriberContext {
    /// The bus whose shutdown waits for the handlers.
    pub(super) bus: BusNumber,
    pub(super) service: Arc<str>,
    /// The route of each topic.
    pub(super) routes: HashMap<Arc<str>, Arc<Route>>,
    /// One permit for each handler that may run at once.
    pub(super) slots: Arc<Semaphore>,
    pub(super) retry: Retry,
    pub(super) unrouted: Unrouted,
    pub(super) stats: ConsumeStats,
    /// Cancelled when the bus stops: no attempt begins after that.
    pub(super) stop: CancellationToken,
}

/// Tries a delivery until it is settled.
///
/// ```text
///   attempt ─ Done ────────────────────────▶ Ack
///    ▲   │ └─ Reject, or no retry left ────▶ Cause
///    │   │ Retry: the slot is free for others
///    │   ▼
///   pause, then wait for a slot ─ stop ────▶ Requeue
/// ```
///
/// No attempt begins once the delivery is void.
pub(super) async fn work(
    context: Arc<SubscriberContext>,
    delivery: Delivery,
    route: Arc<Route>,
    mut slot: OwnedSemaphorePermit,
) {
    let arrived = Instant::now();
    let mut number = 1;
    loop {
        let Ok(message) = delivery.message() else {
            return;
        };
        // The broker delivers it again, perhaps to another process.
        if delivery.is_void() {
            return drop(delivery);
        }
        pass(Failpoint::BeforeHandler);
        let attempt = attempt(&route, message.clone().with_attempt(number));
        let attempt = watched(context.bus, message.shared_topic(), attempt);
        let Attempted { outcome, reason } = Inside::Handler(context.bus).run(attempt).await;
        let pause = match outcome {
            Outcome::Done => {
                pass(Failpoint::AfterHandler);
                return context.ack(delivery);
            }
            Outcome::Retry => context.retry.pause(number, arrived.elapsed()),
            Outcome::Reject => None,
        };
        let Some(pause) = pause else {
            return context.dead_letter(delivery, Cause::new(reason, number));
        };
        tracing::debug!(
            target: "final::consume",
            topic = message.topic(),
            id = %message.id(),
            attempt = number,
            reason,
            ?pause,
            "an attempt failed; the message is tried again"
        );
        context.stats.retried.add(1);
        // Other handlers may run during the pause.
        drop(slot);
        match context.slot_after(pause).await {
            Some(again) => slot = again,
            None => return context.requeue(delivery),
        }
        number = number.saturating_add(1);
    }
}

/// Requeues a delivery after a pause, or when the bus stops.
pub(super) async fn requeue_after(
    context: Arc<SubscriberContext>,
    delivery: Delivery,
    pause: Duration,
) {
    tokio::select! {
        biased;
        () = context.stop.cancelled() => {}
        () = sleep(pause) => {}
    }
    context.requeue(delivery);
}

impl SubscriberContext {
    /// Waits until a handler may run. `None` if the bus stops before.
    pub(super) async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        if !self.stop.is_cancelled()
            && let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned()
        {
            return Some(slot);
        }
        let slot = Arc::clone(&self.slots).acquire_owned();
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            // It fails only if the semaphore is closed, and nothing closes it.
            slot = slot => slot.ok(),
        }
    }

    /// Waits for the pause and then for a slot. `None` if the bus stops before.
    async fn slot_after(&self, pause: Duration) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            () = sleep(pause) => self.slot().await,
        }
    }

    pub(super) fn dead_letter(&self, delivery: Delivery, why: Cause) {
        let message = delivery.message().ok();
        tracing::warn!(
            target: "final::consume",
            service = &*self.service,
            topic = message.map(|message| message.topic()),
            id = message.map(|message| tracing::field::display(message.id())),
            attempts = why.attempts,
            reason = why.reason,
            "a message is dead-lettered"
        );
        self.stats.dead_lettered.add(1);
        delivery.settle(Settlement::DeadLetter(why));
    }

    fn requeue(&self, delivery: Delivery) {
        self.stats.requeued.add(1);
        delivery.settle(Settlement::Requeue);
    }

    fn ack(&self, delivery: Delivery) {
        self.stats.handled.add(1);
        delivery.settle(Settlement::Ack);
    }
}
