//! The work on one delivery, from its first attempt to its settlement.
//!
//! Input: a delivery, its route, and a slot. Output: the delivery's settlement.

use std::{sync::Arc, time::Duration};

use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{
    attempt::{Attempted, attempt},
    context::{SubscriberContext, TopicRoute},
    leave::wait,
    pause::{Wait, Waited},
    stalls::watched,
};
use crate::{
    Message, Outcome,
    broker::{Cause, Delivery},
    failpoint::{Failpoint, pass},
    runtime::inside::Inside,
};

/// Tries a delivery until it is settled.
///
/// ```text
///   attempt ─ Done ────────────────────────▶ Ack
///    ▲   │ └─ Reject, or no retry left ────▶ DeadLetter, or Hold if the route holds what fails
///    │   │ Retry: the slot is free for others
///    │   ▼
///   pause, then wait for a slot ─ stop ────▶ Requeue
///     └ long, or many wait ────────────────▶ Moved or Postpone: it comes back as another delivery; never if the route
///                                            holds what fails
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
        let began = Instant::now();
        let attempt = attempt(&route.route, message.clone().with_attempt(number));
        let attempt = watched(context.bus, message.shared_topic(), attempt);
        let Attempted {
            outcome,
            reason,
            pause: asked,
            is_panic,
        } = Inside::Handler(context.bus).run(attempt).await;
        route.stats.process.observe(began.elapsed());
        context.panics.add(usize::from(is_panic));
        let pause = match outcome {
            Outcome::Done => {
                route.failures.end();
                route.stats.observe_age(message);
                pass(Failpoint::AfterHandler);
                return context.ack(&route.stats, delivery);
            }
            Outcome::Retry if route.route.hold().is_some() => context.retry.quick(number, asked),
            Outcome::Retry => context.retry.next(number, asked),
            Outcome::Reject => None,
        };
        let Some(pause) = pause else {
            return context.give_up(&route, delivery, Cause::new(reason, number), asked);
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
        route.stats.retried.add(1);
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
            stays: route.route.hold().is_some(),
        };
        delivery.wait(true);
        delivery = match wait(&context, &route.stats, delivery, pausing).await {
            Waited::Over(delivery) => delivery,
            Waited::Left => return,
            Waited::TooLong(delivery) => {
                return context.give_up(&route, delivery, Cause::new(reason, number), None);
            }
            Waited::Stopped(delivery) => return context.requeue(&route.stats, delivery),
        };
        match context.slot().await {
            Some(again) => slot = again,
            None => return context.requeue(&route.stats, delivery),
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
        stays: false,
    };
    match wait(&context, &context.other, delivery, pausing).await {
        Waited::Left => {}
        Waited::Over(delivery) | Waited::TooLong(delivery) | Waited::Stopped(delivery) => {
            context.requeue(&context.other, delivery);
        }
    }
}
