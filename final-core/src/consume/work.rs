//! One delivery: from its first attempt to its settlement.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    attempt::{Verdict, attempt},
    retry::Retry,
    stats::ConsumeStats,
    unrouted::Unrouted,
};
use crate::{
    broker::{DeadLetter, Delivery, Settlement},
    failpoint::{Failpoint, pass},
    router::Route,
};

/// What all deliveries in hand share.
pub(super) struct Desk {
    pub(super) service: Arc<str>,
    pub(super) routes: HashMap<Arc<str>, Arc<Route>>,
    /// One for each handler that may run.
    pub(super) slots: Arc<Semaphore>,
    pub(super) retry: Retry,
    pub(super) unrouted: Unrouted,
    pub(super) stats: ConsumeStats,
    pub(super) stop: CancellationToken,
}

/// Tries a delivery until it is settled.
///
/// ```text
///   attempt ─ done ────────────────────────▶ Ack
///    ▲   │ └─ rejected, or no retry left ──▶ DeadLetter
///    │   │ failed: the slot is given up
///    │   ▼
///   pause, then wait for a slot ─ stop ────▶ Requeue
/// ```
pub(super) async fn work(
    desk: Arc<Desk>,
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
        pass(Failpoint::BeforeHandler);
        let reason = match attempt(&route, message.clone().with_attempt(number)).await {
            Verdict::Done => {
                pass(Failpoint::AfterHandler);
                return desk.done(delivery);
            }
            Verdict::Rejected(reason) => {
                return desk.put_away(delivery, DeadLetter::new(reason, number));
            }
            Verdict::Failed(reason) => reason,
        };
        let Some(pause) = desk.retry.pause(number, arrived.elapsed()) else {
            return desk.put_away(delivery, DeadLetter::new(reason, number));
        };
        tracing::debug!(
            topic = message.topic(),
            id = %message.id(),
            attempt = number,
            reason,
            ?pause,
            "an attempt failed; the message is tried again"
        );
        desk.stats.retried.add(1);
        // Others may run meanwhile.
        drop(slot);
        match desk.slot_after(pause).await {
            Some(again) => slot = again,
            None => return desk.hand_back(delivery),
        }
        number = number.saturating_add(1);
    }
}

/// Hands a delivery back after a pause, or when the bus stops.
pub(super) async fn hand_back_after(desk: Arc<Desk>, delivery: Delivery, pause: Duration) {
    tokio::select! {
        biased;
        () = desk.stop.cancelled() => {}
        () = sleep(pause) => {}
    }
    desk.hand_back(delivery);
}

impl Desk {
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
            // Fails only once the semaphore is closed, which nobody does.
            slot = slot => slot.ok(),
        }
    }

    async fn slot_after(&self, pause: Duration) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            () = sleep(pause) => self.slot().await,
        }
    }

    pub(super) fn put_away(&self, delivery: Delivery, why: DeadLetter) {
        let message = delivery.message().ok();
        tracing::warn!(
            service = &*self.service,
            topic = message.map(|message| message.topic()),
            id = message.map(|message| tracing::field::display(message.id())),
            attempts = why.attempts,
            reason = why.reason,
            "a message goes to the dead letters"
        );
        self.stats.dead_lettered.add(1);
        delivery.settle(Settlement::DeadLetter(why));
    }

    fn hand_back(&self, delivery: Delivery) {
        self.stats.requeued.add(1);
        delivery.settle(Settlement::Requeue);
    }

    fn done(&self, delivery: Delivery) {
        self.stats.handled.add(1);
        delivery.settle(Settlement::Ack);
    }
}
