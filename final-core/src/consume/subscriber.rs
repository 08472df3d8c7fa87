//! The Subscriber: takes deliveries and starts the work on each.
//!
//! Input: the stream of deliveries, and the sign to stop. State: one task per delivery in flight. Output: each
//! delivery is settled at once (no message, no route) or by its task (`work.rs`).
//!
//! ```text
//!   taking ── stop ──▶ draining: deliveries are kept until the stream ends ──▶ requeued
//!     │                └ tasks go on; after a limit they are aborted ────────▶ requeued
//!     └── the stream ends ──▶ tasks go on to their end
//! ```

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    Consumed,
    context::{SubscriberContext, TopicRoute},
    detour::DetourQueue,
    once_more::once_more,
    pause::{Failures, WaitingPlaces},
    retry::Retry,
    stats::ConsumeStats,
    suspect_work::work_suspect,
    suspects::{Marks, Suspects},
    unrouted::{Ruling, Unrouted},
    work::{requeue_after, work},
};
use crate::{
    Options,
    broker::{Cause, Delivery},
    metrics::{ConsumedTopic, OTHER},
    router::Routes,
    runtime::{backoff::Backoff, counter::Counter, crew::Hands, inside::BusNumber},
};

/// How many deliveries are taken at once.
const MANY: usize = 64;

/// Takes what the broker delivers and brings it to the handlers.
pub(crate) struct Subscriber {
    context: Arc<SubscriberContext>,
}

impl Subscriber {
    /// A subscriber of a service. From the cancelling of `stop` on it begins no handler.
    pub(crate) fn new(
        bus: BusNumber,
        routes: Routes,
        options: &Options,
        service: Arc<str>,
        marks: Arc<dyn Marks>,
        stop: CancellationToken,
    ) -> Self {
        let backoff = Backoff::new(options.retry_interval, options.max_retry_interval);
        let concurrency = options.concurrency.min(Semaphore::MAX_PERMITS);
        // In an `Arc`, so that a delivery need not clone its route before its first attempt.
        let other = Arc::new(ConsumeStats::default());
        let routes = routes
            .into_iter()
            .map(|(topic, route)| {
                let stats = match *topic == *OTHER {
                    true => Arc::clone(&other),
                    false => Arc::default(),
                };
                let failures = Failures::default();
                let route = TopicRoute {
                    route,
                    failures,
                    stats,
                };
                (topic, Arc::new(route))
            })
            .collect();
        Self {
            context: Arc::new(SubscriberContext {
                bus,
                service,
                routes,
                concurrency,
                slots: Arc::new(Semaphore::new(concurrency)),
                retry: Retry::new(options.retry_count, backoff, &options.later_retries),
                places: WaitingPlaces::default(),
                detour: None,
                unrouted: Unrouted::new(options.unrouted_grace),
                suspects: Suspects::new(marks, options.crash_limit),
                other,
                panics: Arc::default(),
                stop,
            }),
        }
    }

    /// Lets messages that wait for long leave the queue by the outbox. To be called before the first delivery.
    pub(crate) fn with_detour(mut self, detour: Arc<DetourQueue>) -> Self {
        if let Some(context) = Arc::get_mut(&mut self.context) {
            context.detour = Some(detour);
        }
        self
    }

    /// Counts panics of layers and handlers there. To be called before the first delivery.
    pub(crate) fn with_panics(mut self, panics: Arc<Counter>) -> Self {
        if let Some(context) = Arc::get_mut(&mut self.context) {
            context.panics = panics;
        }
        self
    }

    /// The counts so far.
    pub(crate) fn stats(&self) -> Consumed {
        let mut sum = Consumed::default();
        let context = &self.context;
        for (_, stats) in context.counted() {
            stats.add_to(&mut sum);
        }
        sum
    }

    /// The same by topic, in the order of the topics; the last one is for all deliveries without a route.
    pub(crate) fn topics(&self) -> Vec<ConsumedTopic> {
        let counted = self.context.counted();
        let mut all: Vec<_> = counted.map(|(topic, stats)| stats.read(topic)).collect();
        // `None` is to be the last.
        all.sort_unstable_by(|a, b| {
            (a.topic.is_none(), &a.topic).cmp(&(b.topic.is_none(), &b.topic))
        });
        all
    }

    /// Whether it has a handler of any topic.
    pub(crate) fn has_routes(&self) -> bool {
        !self.context.routes.is_empty()
    }

    /// Works until the stream of deliveries has ended and every delivery is settled.
    ///
    /// After `stop` no handler begins: deliveries that have not begun, or that wait for their retry, are
    /// requeued. Running handlers may finish. `limit` after `stop` the remaining handlers are aborted, and
    /// their deliveries are requeued as well.
    ///
    /// End the stream as well when you cancel `stop`, by
    /// [`Link::stop_consuming`](crate::broker::Link::stop_consuming). Otherwise this waits for `limit`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the handlers and requeues every delivery in flight. It can be called again.
    pub(crate) async fn run(&self, deliveries: &mut mpsc::Receiver<Delivery>, limit: Duration) {
        let mut hands = Hands::new("handler");
        let work = async {
            self.take(deliveries, &mut hands).await;
            hands.finish().await;
        };
        let deadline = async {
            self.context.stop.cancelled().await;
            sleep(limit).await;
        };
        tokio::select! {
            biased;
            () = work => return,
            () = deadline => {}
        }
        let aborted = hands.abort().await;
        self.context.suspects.let_all_go().await;
        if aborted > 0 {
            tracing::warn!(
                target: "final::consume",
                service = &*self.context.service,
                handlers = aborted,
                ?limit,
                "handlers did not finish in time; their messages are requeued"
            );
            self.context.other.requeued.add(aborted);
        }
    }

    /// Takes deliveries until the stream ends. After `stop` it only keeps them, and requeues them at the end.
    async fn take(&self, deliveries: &mut mpsc::Receiver<Delivery>, hands: &mut Hands) {
        let mut stopped = pin!(self.context.stop.cancelled());
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
        // As long as the broker knows this consumer, it would deliver requeued messages to it again. So they
        // are kept until the stream ends. The prefetch bounds them.
        while let Some(delivery) = deliveries.recv().await {
            kept.push(delivery);
        }
        for delivery in &kept {
            self.context.stats_of(delivery).requeued.add(1);
        }
    }

    /// Starts the work on a delivery. Returns it if the bus stops before its handler could begin.
    async fn take_up(&self, mut delivery: Delivery, hands: &mut Hands) -> Option<Delivery> {
        let context = &self.context;
        if let Some(earlier) = delivery.take_earlier() {
            hands.spawn(once_more(Arc::clone(context), delivery, earlier));
            return None;
        }
        let message = match delivery.message() {
            Ok(message) => message,
            Err(reason) => {
                let why = Cause::new(reason, 0);
                context.dead_letter(&context.other, delivery, why);
                return None;
            }
        };
        let Some(route) = context.routes.get(message.topic()) else {
            let now = Instant::now();
            match context.unrouted.rule(message, now) {
                Ruling::Requeue(pause) => {
                    let waited = context.unrouted.age(message, now);
                    hands.spawn(requeue_after(Arc::clone(context), delivery, pause, waited));
                }
                Ruling::DeadLetter => {
                    let (topic, service) = (message.topic(), &context.service);
                    let reason = format!("service {service:?} has no handler for topic {topic:?}");
                    context.dead_letter(&context.other, delivery, Cause::new(reason, 0));
                }
            }
            return None;
        };
        if delivery.is_suspect() {
            let (context, route) = (Arc::clone(context), Arc::clone(route));
            hands.spawn(work_suspect(context, delivery, route));
            return None;
        }
        let Some(slot) = context.slot().await else {
            return Some(delivery);
        };
        hands.spawn(work(Arc::clone(context), delivery, Arc::clone(route), slot));
        None
    }
}
