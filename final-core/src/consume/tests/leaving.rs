//! Messages that wait for long, or with many others, leave the queue.

use std::collections::HashMap;

use super::*;
use crate::{
    HandlerError,
    broker::{Cause, DetourTo, Detoured, Postponing},
    consume::DetourQueue,
    received::{Origin, Received},
};

/// A settler whose messages can leave in some way.
struct Leaving(Postponing, mpsc::UnboundedSender<(u64, Settlement)>);

impl Settler for Leaving {
    fn settle(&self, tag: u64, settlement: Settlement) {
        let _ = self.1.send((tag, settlement));
    }

    fn postponing(&self, _: &Message) -> Postponing {
        self.0
    }
}

/// A broker that can write an envelope.
struct Enveloping;

impl Origin for Enveloping {
    fn received(&self) -> Received {
        Received::default()
    }

    fn envelope(&self, message: &Message) -> Option<String> {
        Some(message.topic().to_owned())
    }
}

/// A running subscriber whose messages can leave.
struct Yard {
    deliveries: mpsc::Sender<Delivery>,
    settler: Arc<Leaving>,
    settled: mpsc::UnboundedReceiver<(u64, Settlement)>,
    detour: Arc<DetourQueue>,
    stop: CancellationToken,
    _run: JoinHandle<()>,
}

impl Yard {
    fn new(how: Postponing, route: Route, options: &Options) -> Self {
        let stop = CancellationToken::new();
        let detour = Arc::new(DetourQueue::new());
        let subscriber = Subscriber::new(
            crate::runtime::inside::BusNumber::new(),
            Routes::from([(Arc::from(TOPIC), route)]),
            options,
            "shop".into(),
            Arc::new(MarksInMemory::default()),
            stop.clone(),
        )
        .with_detour(Arc::clone(&detour));
        let (deliveries, mut stream) = mpsc::channel(1_000);
        let (settler, settled) = mpsc::unbounded_channel();
        let run = tokio::spawn(async move { subscriber.run(&mut stream, LIMIT).await });
        Self {
            deliveries,
            settler: Arc::new(Leaving(how, settler)),
            settled,
            detour,
            stop,
            _run: run,
        }
    }

    async fn deliver(&self, tag: u64, message: Message) {
        let settler = Arc::clone(&self.settler) as Arc<dyn Settler>;
        let message = message.with_origin(Arc::new(Enveloping));
        let delivery = Delivery::new(Ok(message), tag, settler);
        self.deliveries.send(delivery).await.unwrap();
    }

    async fn settled(&mut self) -> (u64, Settlement) {
        let settled = tokio::time::timeout(DAY, self.settled.recv()).await;
        settled.expect("nothing was settled in a day").unwrap()
    }

    fn settled_now(&mut self) -> HashMap<u64, Settlement> {
        std::iter::from_fn(|| self.settled.try_recv().ok()).collect()
    }

    /// The only message that waits to be written. The answer to it is `stored`.
    async fn written(&self, stored: bool) -> Message {
        self.detour.filled().await;
        let mut lot = self.detour.take();
        assert_eq!(lot.len(), 1);
        let (_, entry) = lot.remove(0);
        let message = entry.message.clone();
        entry.answer(stored);
        message
    }
}

fn retry_in(pause: Duration) -> Route {
    route(move |_| {
        let error = HandlerError::retry_in(pause, "closed").into_boxed();
        async { Err(error) }
    })
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn a_message_whose_pause_is_long_leaves_the_queue_at_once() {
    let mut yard = Yard::new(Postponing::Settlement, retry_in(HOUR), &Options::default());
    let began = Instant::now();
    yard.deliver(1, message()).await;

    let (_, settlement) = yard.settled().await;
    let Settlement::Postpone(why) = settlement else {
        panic!("{settlement:?}");
    };
    assert_eq!(
        (why.delay, why.attempts, why.waited),
        (HOUR, 1, Duration::ZERO)
    );
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn the_attempts_before_a_message_has_left_count() {
    let options = Options::default().later_retries([HOUR]);
    let failing = route(async |_| Err("away".into()));
    let mut yard = Yard::new(Postponing::Settlement, failing, &options);

    yard.deliver(1, message().with_attempt(4)).await;
    let (_, settlement) = yard.settled().await;
    assert!(
        matches!(&settlement, Settlement::Postpone(why) if why.delay == HOUR && why.attempts == 4),
        "{settlement:?}"
    );
    yard.deliver(2, message().with_attempt(5)).await;
    let dead = Settlement::DeadLetter(Cause::new("away", 5));
    assert_eq!(yard.settled().await, (2, dead));
}

#[tokio::test(start_paused = true)]
async fn at_most_as_many_wait_in_memory_as_handlers_may_run() {
    let options = Options::default()
        .concurrency(4)
        .retry_interval(Duration::from_millis(400));
    let failing = route(async |_| Err("away".into()));
    let mut yard = Yard::new(Postponing::Settlement, failing, &options);

    for tag in 0..300 {
        yard.deliver(tag, message()).await;
    }
    settle_down().await;

    let left = yard.settled_now();
    assert!(
        left.values()
            .all(|one| matches!(one, Settlement::Postpone(_)))
    );
    assert_eq!(left.len(), 296);
}

#[tokio::test(start_paused = true)]
async fn a_few_failures_wait_in_memory() {
    let flaky = route(async |message: Message| match message.attempt() {
        4 => Ok(Outcome::Done),
        _ => Ok(Outcome::Retry),
    });
    let mut yard = Yard::new(Postponing::Settlement, flaky, &Options::default());

    for tag in 0..30 {
        yard.deliver(tag, message()).await;
    }
    for _ in 0..30 {
        assert_eq!(yard.settled().await.1, Settlement::Ack);
    }
}

#[tokio::test(start_paused = true)]
async fn short_pauses_of_a_topic_in_trouble_are_no_reason_to_stay() {
    let options = Options::default().concurrency(4);
    let failing = route(async |_| Err("away".into()));
    let mut yard = Yard::new(Postponing::Settlement, failing, &options);

    for tag in 0..300 {
        yard.deliver(tag, message()).await;
    }
    // All are tried before the first pause of 5 to 15 ms is over. The first eight failures are no trouble yet.
    settle_down().await;
    assert!(yard.settled_now().len() >= 280);
}

#[tokio::test(start_paused = true)]
async fn a_message_without_a_handler_leaves_the_queue_at_once() {
    let options = Options::default();
    let mut yard = Yard::new(Postponing::Outbox, Gate::default().route(), &options);
    let nobodys = Message::identified(crate::MessageId::new(), "nobodys", "payload");
    let began = Instant::now();
    yard.deliver(1, nobodys.clone()).await;

    let detoured = Detoured::read(&yard.written(true).await).unwrap();
    let second = Duration::from_secs(1);
    let DetourTo::Queue {
        attempts, waited, ..
    } = detoured.to
    else {
        panic!("{detoured:?}");
    };
    assert_eq!((attempts, waited), (0, second));
    assert_eq!(yard.settled().await, (1, Settlement::Moved));
    assert!(began.elapsed() < Duration::from_millis(100));

    let grace = Options::default().unrouted_grace;
    yard.deliver(2, nobodys.with_waited(grace)).await;
    let (_, settlement) = yard.settled().await;
    assert!(
        matches!(settlement, Settlement::DeadLetter(_)),
        "{settlement:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn of_many_messages_without_a_handler_few_wait_to_be_requeued() {
    let options = Options::default().concurrency(4);
    let route = Gate::default().route();
    let mut yard = Yard::new(Postponing::Settlement, route, &options);
    for tag in 0..300 {
        let nobodys = Message::identified(crate::MessageId::new(), "nobodys", "payload");
        yard.deliver(tag, nobodys).await;
    }
    settle_down().await;

    let left = yard.settled_now();
    assert!(
        left.values()
            .all(|one| matches!(one, Settlement::Postpone(_)))
    );
    assert_eq!(left.len(), 296);
    for _ in 0..4 {
        assert_eq!(yard.settled().await.1, Settlement::Requeue);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_outbox_has_is_moved() {
    let mut yard = Yard::new(Postponing::Outbox, retry_in(HOUR), &Options::default());
    yard.deliver(1, message()).await;

    yard.written(true).await;
    assert_eq!(yard.settled().await, (1, Settlement::Moved));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_outbox_refuses_waits_in_memory() {
    let pause = Duration::from_secs(30);
    let options = Options::default().retry_count(1);
    let mut yard = Yard::new(Postponing::Outbox, retry_in(pause), &options);
    let began = Instant::now();
    yard.deliver(1, message()).await;

    yard.written(false).await;
    let dead = Settlement::DeadLetter(Cause::new("closed", 2));
    assert_eq!(yard.settled().await, (1, dead));
    assert!(began.elapsed() >= pause);
}

#[tokio::test(start_paused = true)]
async fn while_the_database_is_away_messages_wait_in_memory() {
    let pause = Duration::from_secs(30);
    let options = Options::default().retry_count(1);
    let mut yard = Yard::new(Postponing::Outbox, retry_in(pause), &options);
    let began = Instant::now();
    yard.deliver(1, message()).await;

    // Nobody writes.
    let dead = Settlement::DeadLetter(Cause::new("closed", 2));
    assert_eq!(yard.settled().await, (1, dead));
    assert!(began.elapsed() >= pause);
    assert!(yard.detour.take().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_being_written_when_the_bus_stops_is_not_requeued_if_it_is_stored() {
    let mut yard = Yard::new(Postponing::Outbox, retry_in(HOUR), &Options::default());
    yard.deliver(1, message()).await;
    yard.deliver(2, message()).await;
    yard.detour.filled().await;
    settle_down().await;
    let mut lot = yard.detour.take();
    assert_eq!(lot.len(), 2);
    let (_, second) = lot.pop().unwrap();
    let (_, first) = lot.pop().unwrap();

    yard.stop.cancel();
    settle_down().await;
    first.answer(true);
    second.answer(false);

    settle_down().await;
    let settled = yard.settled_now();
    let all = HashMap::from([(1, Settlement::Moved), (2, Settlement::Requeue)]);
    assert_eq!(settled, all);
}

#[tokio::test(start_paused = true)]
async fn nothing_leaves_while_nothing_can_come_back() {
    let options = Options::default().retry_count(1);
    let mut yard = Yard::new(Postponing::Outbox, retry_in(HOUR), &options);
    yard.detour.block_if(|| true);
    yard.deliver(1, message()).await;

    let dead = Settlement::DeadLetter(Cause::new("closed", 2));
    assert_eq!(yard.settled().await, (1, dead));
    assert!(yard.detour.take().is_empty());
}
