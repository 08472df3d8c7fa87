//! The lock around the state that all clones of an in-process broker share.
//!
//! Input: one step, which is a function of the state. State: [`State`], behind the lock. Output: the step's
//! result. What the step has laid aside is dropped once the lock is open again.

use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

use super::{queue::Consumer, state::BrokerState};
use crate::{
    broker::{Delivery, Settlement, Settler, Setup},
    lock::lock,
};

/// The shared state behind its lock, which is never held over an `.await`.
///
/// Dropping a delivery or an outgoing message settles it, and that can take this lock again. So what is
/// to be dropped is laid aside, and dropped when the lock is open again.
pub(super) struct Hub(Mutex<BrokerState>);

/// Settles the deliveries of one queue.
struct QueueSettler {
    hub: Arc<Hub>,
    queue: usize,
}

impl Settler for QueueSettler {
    fn settle(&self, tag: u64, settlement: Settlement) {
        self.hub
            .enter(|state| state.settle(self.queue, tag, settlement));
    }
}

impl Hub {
    pub(super) fn new(capacity: usize) -> Self {
        Self(Mutex::new(BrokerState::new(capacity)))
    }

    /// Runs a step under the lock, then drops what it laid aside.
    pub(super) fn enter<R>(&self, step: impl FnOnce(&mut BrokerState) -> R) -> R {
        let mut state = lock(&self.0);
        let result = step(&mut state);
        let aside = state.aside();
        drop(state);
        drop(aside);
        result
    }

    /// Declares the service's queue and bindings, and attaches a consumer to it.
    pub(super) fn consume(
        self: &Arc<Self>,
        link: u64,
        setup: &Setup,
        prefetch: usize,
    ) -> (usize, mpsc::Receiver<Delivery>) {
        let (sender, deliveries) = mpsc::channel(prefetch);
        let queue = self.enter(|state| {
            let queue = state.declare(&setup.service, &setup.topics);
            let settler = Arc::new(QueueSettler {
                hub: Arc::clone(self),
                queue,
            });
            let consumer = Consumer {
                id: link,
                sender,
                settler,
                prefetch,
                in_flight: 0,
            };
            state.attach(queue, consumer);
            queue
        });
        (queue, deliveries)
    }
}
