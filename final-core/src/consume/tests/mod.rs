//! What consuming promises, by theme.

mod again;
mod concurrency;
mod leaving;
mod retrying;
mod stopping;
mod unrouted;
mod with_a_broker;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tower::service_fn;

use super::{Consumed, Subscriber};
use crate::{
    BoxError, Message, Options, Outcome,
    broker::{Delivery, Settlement, Settler},
    router::{Route, Routes},
};

const LIMIT: Duration = Duration::from_secs(25);
const DAY: Duration = Duration::from_secs(24 * 3600);
const TOPIC: &str = "order.placed";

/// Records every settlement.
struct Ledger(mpsc::UnboundedSender<(u64, Settlement)>);

impl Settler for Ledger {
    fn settle(&self, tag: u64, settlement: Settlement) {
        let _ = self.0.send((tag, settlement));
    }
}

/// A running subscriber, and the broker's end of its stream.
struct Bench {
    deliveries: Option<mpsc::Sender<Delivery>>,
    ledger: Arc<Ledger>,
    settled: mpsc::UnboundedReceiver<(u64, Settlement)>,
    stop: CancellationToken,
    subscriber: Arc<Subscriber>,
    run: JoinHandle<()>,
}

impl Bench {
    fn new(route: Route, options: &Options) -> Self {
        let routes = Routes::from([(Arc::from(TOPIC), route)]);
        let stop = CancellationToken::new();
        let subscriber = Subscriber::new(
            crate::runtime::inside::BusNumber::new(),
            routes,
            options,
            "shop".into(),
            stop.clone(),
        );
        let subscriber = Arc::new(subscriber);
        let (deliveries, mut stream) = mpsc::channel(100);
        let (ledger, settled) = mpsc::unbounded_channel();
        let run = tokio::spawn({
            let subscriber = Arc::clone(&subscriber);
            async move { subscriber.run(&mut stream, LIMIT).await }
        });
        Self {
            deliveries: Some(deliveries),
            ledger: Arc::new(Ledger(ledger)),
            settled,
            stop,
            subscriber,
            run,
        }
    }

    async fn deliver(&self, tag: u64, message: Message) {
        self.deliver_any(tag, Ok(message)).await;
    }

    async fn deliver_any(&self, tag: u64, content: Result<Message, String>) {
        let settler = Arc::clone(&self.ledger) as Arc<dyn Settler>;
        let delivery = Delivery::new(content, tag, settler);
        let stream = self.deliveries.as_ref().unwrap();
        stream.send(delivery).await.unwrap();
    }

    /// The next settlement. The paused clock makes a day short.
    async fn settled(&mut self) -> (u64, Settlement) {
        let settled = tokio::time::timeout(DAY, self.settled.recv()).await;
        settled.expect("nothing was settled in a day").unwrap()
    }

    /// Asserts that nothing is settled for that long.
    async fn unsettled_for(&mut self, time: Duration) {
        let settled = tokio::time::timeout(time, self.settled.recv()).await;
        assert!(settled.is_err(), "settled: {settled:?}");
    }

    fn end_stream(&mut self) {
        self.deliveries = None;
    }

    fn stats(&self) -> Consumed {
        self.subscriber.stats()
    }
}

fn message() -> Message {
    Message::new(TOPIC, "payload")
}

fn route<F, R>(handler: F) -> Route
where
    F: Fn(Message) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Outcome, BoxError>> + Send + 'static,
{
    Route::new(service_fn(handler))
}

/// Lets every task run until it waits. The paused clock only moves when all of them wait.
async fn settle_down() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Counts the handlers that run, and lets them go on together.
#[derive(Clone, Default)]
struct Gate {
    running: Arc<AtomicUsize>,
    go: Arc<Notify>,
}

impl Gate {
    fn running(&self) -> usize {
        self.running.load(SeqCst)
    }

    fn open(&self) {
        self.go.notify_waiters();
    }

    fn route(&self) -> Route {
        let gate = self.clone();
        route(move |_| {
            let gate = gate.clone();
            async move {
                gate.running.fetch_add(1, SeqCst);
                gate.go.notified().await;
                gate.running.fetch_sub(1, SeqCst);
                Ok(Outcome::Done)
            }
        })
    }
}
