//! The Subscriber: takes deliveries, and sees each to its settlement.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    Consumed,
    retry::Retry,
    stats::ConsumeStats,
    unrouted::{Ruling, Unrouted},
    work::{Desk, hand_back_after, work},
};
use crate::{
    Options,
    broker::{DeadLetter, Delivery},
    router::Routes,
    runtime::backoff::Backoff,
    runtime::crew::Hands,
};

/// How many deliveries are taken at once.
const MANY: usize = 64;

/// Takes what the broker delivers, and brings it to the handlers.
pub(crate) struct Subscriber {
    desk: Arc<Desk>,
}

impl Subscriber {
    /// A subscriber of that service. When `stop` is cancelled it begins no more handlers.
    pub(crate) fn new(
        routes: Routes,
        options: &Options,
        service: Arc<str>,
        stop: CancellationToken,
    ) -> Self {
        let backoff = Backoff::new(options.retry_interval, options.max_retry_interval);
        let concurrency = options.concurrency.min(Semaphore::MAX_PERMITS);
        // Behind an `Arc` a delivery need not clone its route before its first attempt.
        let routes = routes
            .into_iter()
            .map(|(topic, route)| (topic, Arc::new(route)))
            .collect();
        Self {
            desk: Arc::new(Desk {
                service,
                routes,
                slots: Arc::new(Semaphore::new(concurrency)),
                retry: Retry::new(options.retry_count, backoff),
                unrouted: Unrouted::new(options.unrouted_grace),
                stats: ConsumeStats::default(),
                stop,
            }),
        }
    }

    /// What became of deliveries so far.
    pub(crate) fn stats(&self) -> Consumed {
        self.desk.stats.read()
    }

    /// Works until the stream of deliveries has ended and everything in hand is settled.
    ///
    /// After `stop` nothing new begins: what has not begun, and what waits for its retry, is handed
    /// back. Handlers at work may finish. `limit` after `stop` those left are aborted, and what they
    /// had is handed back as well.
    ///
    /// End the stream ([`Link::stop_consuming`](crate::broker::Link::stop_consuming)) when you stop;
    /// otherwise this waits for `limit`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the handlers and hands back everything in hand. It can be called
    /// again.
    pub(crate) async fn run(&self, deliveries: &mut mpsc::Receiver<Delivery>, limit: Duration) {
        let mut hands = Hands::new("handler");
        let work = async {
            self.take(deliveries, &mut hands).await;
            hands.finish().await;
        };
        let deadline = async {
            self.desk.stop.cancelled().await;
            sleep(limit).await;
        };
        tokio::select! {
            biased;
            () = work => return,
            () = deadline => {}
        }
        let aborted = hands.abort().await;
        if aborted > 0 {
            tracing::warn!(
                service = &*self.desk.service,
                handlers = aborted,
                ?limit,
                "handlers did not finish in time; their messages are handed back"
            );
            self.desk.stats.requeued.add(aborted);
        }
    }

    /// Takes deliveries until the stream ends.
    async fn take(&self, deliveries: &mut mpsc::Receiver<Delivery>, hands: &mut Hands) {
        let mut stopped = pin!(self.desk.stop.cancelled());
        let (mut kept, mut came) = (Vec::new(), Vec::new());
        loop {
            let some = tokio::select! {
                biased;
                () = &mut stopped => break,
                some = deliveries.recv_many(&mut came, MANY) => some,
            };
            if some == 0 {
                return;
            }
            for delivery in came.drain(..) {
                kept.extend(self.take_up(delivery, hands).await);
            }
        }
        // Handed back now they would be delivered again, perhaps to us, as long as the broker knows
        // us as a consumer. There are no more than it lets us hold.
        while let Some(delivery) = deliveries.recv().await {
            kept.push(delivery);
        }
        self.desk.stats.requeued.add(kept.len());
    }

    /// Decides on a delivery. It comes back if the bus stops before its handler could begin.
    async fn take_up(&self, delivery: Delivery, hands: &mut Hands) -> Option<Delivery> {
        let desk = &self.desk;
        let message = match delivery.message() {
            Ok(message) => message,
            Err(reason) => {
                let why = DeadLetter::new(reason, 0);
                desk.put_away(delivery, why);
                return None;
            }
        };
        let Some(route) = desk.routes.get(message.topic()) else {
            match desk.unrouted.rule(message, Instant::now()) {
                Ruling::HandBack(pause) => {
                    hands.spawn(hand_back_after(Arc::clone(desk), delivery, pause));
                }
                Ruling::GiveUp => {
                    let (topic, service) = (message.topic(), &desk.service);
                    let reason = format!("service {service:?} has no handler for topic {topic:?}");
                    desk.put_away(delivery, DeadLetter::new(reason, 0));
                }
            }
            return None;
        };
        let Some(slot) = desk.slot().await else {
            return Some(delivery);
        };
        hands.spawn(work(Arc::clone(desk), delivery, Arc::clone(route), slot));
        None
    }
}
