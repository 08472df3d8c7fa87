//! The work on one delivery, from its first attempt to its settlement.
//!
//! Input: a delivery, its route, and a slot. Output: the delivery's settlement. What all deliveries share
//! stands in [`SubscriberContext`].

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    attempt::{Attempted, attempt},
    detour::DetourQueue,
    pause::{Failures, Wait, Waited, WaitingPlaces, wait},
    retry::Retry,
    stalls::watched,
    stats::ConsumeStats,
    suspects::Suspects,
    unrouted::Unrouted,
};
use crate::{
    Message, Outcome,
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
    pub(super) routes: HashMap<Arc<str>, Arc<TopicRoute>>,
    /// How many handlers may run at once.
    pub(super) concurrency: usize,
    /// One permit for each handler that may run at once.
    pub(super) slots: Arc<Semaphore>,
    pub(super) retry: Retry,
    /// How many messages wait in memory.
    pub(super) places: WaitingPlaces,
    /// Where messages wait to leave the queue. `None` without an outbox.
    pub(super) detour: Option<Arc<DetourQueue>>,
    pub(super) unrouted: Unrouted,
    pub(super) suspects: Suspects,
    pub(super) stats: ConsumeStats,
    /// Cancelled when the bus stops: no attempt begins after that.
    pub(super) stop: CancellationToken,
}

/// A route, and how its topic fares.
pub(super) struct TopicRoute {
    pub(super) route: Route,
    pub(super) failures: Failures,
}

/// Tries a delivery until it is settled.
///
/// ```text
///   attempt ─ Done ────────────────────────▶ Ack
///    ▲   │ └─ Reject, or no retry left ────▶ Cause
///    │   │ Retry: the slot is free for others
///    │   ▼
///   pause, then wait for a slot ─ stop ────▶ Requeue
///     └ long, or many wait ────────────────▶ Moved or Postpone: it comes back as another delivery
/// ```
///
/// No attempt begins once the delivery is void.
pub(super) async fn work(
    context: Arc<SubscriberContext>,
    mut delivery: Delivery,
    route: Arc<TopicRoute>,
    mut slot: OwnedSemaphorePermit,
) {
    let arrived = Instant::now();
    let mut number = delivery.message().map_or(1, Message::attempt);
    loop {
        let Ok(message) = delivery.message() else {
            return;
        };
        // The broker delivers it again, perhaps to another process.
        if delivery.is_void() {
            return drop(delivery);
        }
        pass(Failpoint::BeforeHandler);
        let attempt = attempt(&route.route, message.clone().with_attempt(number));
        let attempt = watched(context.bus, message.shared_topic(), attempt);
        let Attempted {
            outcome,
            reason,
            pause: asked,
        } = Inside::Handler(context.bus).run(attempt).await;
        let pause = match outcome {
            Outcome::Done => {
                route.failures.end();
                pass(Failpoint::AfterHandler);
                return context.ack(delivery);
            }
            Outcome::Retry => context.retry.next(number, asked),
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
        let pausing = Wait {
            pause,
            in_memory: context.retry.in_memory(pause, number, arrived.elapsed()),
            attempts: number,
            waited: message.waited(),
            since: arrived,
            is_in_trouble: route.failures.add(context.concurrency),
            is_unrouted: false,
        };
        delivery.wait(true);
        delivery = match wait(&context, delivery, pausing).await {
            Waited::Over(delivery) => delivery,
            Waited::Left => return,
            Waited::TooLong(delivery) => {
                return context.dead_letter(delivery, Cause::new(reason, number));
            }
            Waited::Stopped(delivery) => return context.requeue(delivery),
        };
        match context.slot().await {
            Some(again) => slot = again,
            None => return context.requeue(delivery),
        }
        delivery.wait(false);
        number = number.saturating_add(1);
    }
}

/// Requeues a delivery without a route after a pause, or when the bus stops, unless its message leaves the queue
/// instead.
pub(super) async fn requeue_after(
    context: Arc<SubscriberContext>,
    delivery: Delivery,
    pause: Duration,
    waited: Duration,
) {
    delivery.wait(true);
    let attempts = delivery
        .message()
        .map_or(0, |message| message.attempt().saturating_sub(1));
    let pausing = Wait {
        pause,
        in_memory: Some(pause),
        attempts,
        waited,
        since: Instant::now(),
        is_in_trouble: true,
        is_unrouted: true,
    };
    match wait(&context, delivery, pausing).await {
        Waited::Left => {}
        Waited::Over(delivery) | Waited::TooLong(delivery) | Waited::Stopped(delivery) => {
            context.requeue(delivery);
        }
    }
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

    pub(super) fn requeue(&self, delivery: Delivery) {
        self.stats.requeued.add(1);
        delivery.settle(Settlement::Requeue);
    }

    fn ack(&self, delivery: Delivery) {
        self.stats.handled.add(1);
        delivery.settle(Settlement::Ack);
    }
}
