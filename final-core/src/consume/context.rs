//! What all deliveries of a subscriber share.
//!
//! Input: settlements, and requests for a slot. State: the routes, the slots, what waits, and the counts. Output: a
//! slot, or the settlement of a delivery, counted.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    detour::DetourQueue,
    pause::{Failures, WaitingPlaces},
    retry::Retry,
    stats::ConsumeStats,
    suspects::Suspects,
    unrouted::Unrouted,
};
use crate::{
    broker::{Cause, Delivery, Holding, Settlement},
    router::Route,
    runtime::{counter::Counter, inside::BusNumber},
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
    /// The counts of deliveries without a route, and of a topic with the name that they have together.
    pub(super) other: Arc<ConsumeStats>,
    /// Panics of layers and handlers.
    pub(super) panics: Arc<Counter>,
    /// Cancelled when the bus stops: no attempt begins after that.
    pub(super) stop: CancellationToken,
}

/// A route, and how its topic fares.
pub(super) struct TopicRoute {
    pub(super) route: Route,
    pub(super) failures: Failures,
    pub(super) stats: Arc<ConsumeStats>,
}

impl SubscriberContext {
    /// Each set of counts once, with its topic; `None` for what has no route.
    pub(super) fn counted(&self) -> impl Iterator<Item = (Option<&str>, &ConsumeStats)> {
        let routes = self.routes.iter();
        routes
            .filter(|(_, route)| !Arc::ptr_eq(&route.stats, &self.other))
            .map(|(topic, route)| (Some(&**topic), &*route.stats))
            .chain([(None, &*self.other)])
    }

    /// The counts for a delivery whose route is not at hand.
    pub(super) fn stats_of(&self, delivery: &Delivery) -> &ConsumeStats {
        let message = delivery.message().ok();
        let route = message.and_then(|message| self.routes.get(message.topic()));
        route.map_or(&self.other, |route| &route.stats)
    }

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

    pub(super) fn dead_letter(&self, stats: &ConsumeStats, delivery: Delivery, why: Cause) {
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
        stats.dead_lettered.add(1);
        delivery.settle(Settlement::DeadLetter(why));
    }

    /// The end of a delivery whose handler has failed for good: it is held if its route holds what fails, and goes to
    /// the dead letters otherwise.
    pub(super) fn give_up(
        &self,
        route: &TopicRoute,
        delivery: Delivery,
        why: Cause,
        pause: Option<Duration>,
    ) {
        match route.route.hold() {
            None => self.dead_letter(&route.stats, delivery, why),
            Some(_) => {
                let holding = Holding {
                    pause,
                    ..Holding::new(why)
                };
                self.hold(&route.stats, delivery, holding);
            }
        }
    }

    pub(super) fn hold(&self, stats: &ConsumeStats, delivery: Delivery, holding: Holding) {
        stats.held.add(1);
        delivery.settle(Settlement::Hold(holding));
    }

    pub(super) fn requeue(&self, stats: &ConsumeStats, delivery: Delivery) {
        stats.requeued.add(1);
        delivery.settle(Settlement::Requeue);
    }

    pub(super) fn ack(&self, stats: &ConsumeStats, delivery: Delivery) {
        stats.handled.add(1);
        delivery.settle(Settlement::Ack);
    }
}
