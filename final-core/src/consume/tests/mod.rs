//! What consuming promises, by theme.

mod again;
mod concurrency;
mod leaving;
mod retrying;
mod stopping;
mod suspects;
mod unrouted;
mod with_a_broker;

use std::{
    collections::HashMap,
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tower::service_fn;
use uuid::Uuid;

use super::{Consumed, Marks, Subscriber};
use crate::{
    BoxError, Message, Options, Outcome,
    broker::{Delivery, Settlement, Settler},
    database::DbResult,
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

/// The marks of suspects, of all processes.
#[derive(Default)]
struct MarksInMemory {
    begun: Mutex<HashMap<Uuid, u32>>,
    /// Whether the database is away.
    fails: AtomicBool,
    statements: AtomicUsize,
}

impl MarksInMemory {
    fn of(&self, message: &Message) -> Option<u32> {
        self.begun
            .lock()
            .unwrap()
            .get(&message.identity().0)
            .copied()
    }

    fn set(&self, message: &Message, begun: u32) {
        self.begun
            .lock()
            .unwrap()
            .insert(message.identity().0, begun);
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut HashMap<Uuid, u32>) -> T,
    ) -> BoxFuture<'_, DbResult<T>>
    where
        T: Send + 'static,
    {
        self.statements.fetch_add(1, SeqCst);
        let done = match self.fails.load(SeqCst) {
            true => Err(sqlx::Error::PoolTimedOut),
            false => Ok(change(&mut self.begun.lock().unwrap())),
        };
        Box::pin(ready(done))
    }
}

impl Marks for MarksInMemory {
    fn begun(&self, id: Uuid) -> BoxFuture<'_, DbResult<u32>> {
        self.change(|begun| begun.get(&id).copied().unwrap_or(0))
    }

    fn begins(&self, id: Uuid) -> BoxFuture<'_, DbResult<()>> {
        self.change(|begun| *begun.entry(id).or_insert(0) += 1)
    }

    fn ended(&self, id: Uuid) -> BoxFuture<'_, DbResult<()>> {
        self.change(|begun| {
            begun.remove(&id);
        })
    }

    fn forget(&self, _: Duration) -> BoxFuture<'_, DbResult<()>> {
        self.change(|_| ())
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
        Self::with_marks(route, options, Arc::new(MarksInMemory::default()))
    }

    fn with_marks(route: Route, options: &Options, marks: Arc<MarksInMemory>) -> Self {
        let routes = Routes::from([(Arc::from(TOPIC), route)]);
        let stop = CancellationToken::new();
        let subscriber = Subscriber::new(
            crate::runtime::inside::BusNumber::new(),
            routes,
            options,
            "shop".into(),
            marks,
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
        self.hand_over(self.delivery(tag, content)).await;
    }

    async fn deliver_suspect(&self, tag: u64, message: Message) {
        self.hand_over(self.delivery(tag, Ok(message)).suspected(true))
            .await;
    }

    fn delivery(&self, tag: u64, content: Result<Message, String>) -> Delivery {
        let settler = Arc::clone(&self.ledger) as Arc<dyn Settler>;
        Delivery::new(content, tag, settler)
    }

    async fn hand_over(&self, delivery: Delivery) {
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
