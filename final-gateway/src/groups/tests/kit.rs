//! Groups over the in-process broker, and a publisher.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use final_core::{
    Error, MemoryBroker, Message,
    broker::{
        Broker, BrokerError, DeadLetter, DeadLetterFilter, DeadLetters, Delivery, Link,
        LinkBacklog, Opened, Outgoing, Setup,
    },
    database::DbResult,
};
use futures::future::BoxFuture;

use crate::{
    groups::{GroupDesk, GroupOptions, GroupTables, Groups, Holder, Lot, Pulled, Taken},
    names::Pair,
};

pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// Groups, the broker below them, and a publisher.
pub(super) struct Kit {
    pub(super) groups: Groups,
    pub(super) broker: MemoryBroker,
    publisher: Arc<dyn Link>,
}

impl Kit {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut GroupOptions)) -> Self {
        let broker = MemoryBroker::new();
        Self::over(Arc::new(broker.clone()), broker, change).await
    }

    /// Groups over a broker that stands before the in-process one.
    pub(super) async fn over(
        front: Arc<dyn Broker>,
        broker: MemoryBroker,
        change: impl FnOnce(&mut GroupOptions),
    ) -> Self {
        let mut options = GroupOptions::default();
        change(&mut options);
        let desk = Arc::new(MemoryDesk(broker.clone()));
        let tables = Arc::<Tables>::default();
        let groups = Groups::start(front, Some(desk), tables, "one", options).await;
        let nothing: [&str; 0] = [];
        let publisher = broker.open(Setup::new("publisher", nothing)).await;
        Self {
            groups: groups.unwrap(),
            broker,
            publisher: publisher.unwrap().link,
        }
    }

    /// Publishes payloads to a topic that somebody has subscribed.
    pub(super) fn publish<P: AsRef<str>>(
        &self,
        topic: &str,
        payloads: impl IntoIterator<Item = P>,
    ) {
        for payload in payloads {
            let message = Message::new(topic, payload.as_ref().to_owned());
            self.publisher.send(Outgoing::untracked(message));
        }
    }

    pub(super) async fn hold(&self, pair: &Pair) -> Holder {
        self.groups.hold(pair).await.unwrap()
    }

    /// Pulls up to ten messages, which have to be acked within a minute.
    pub(super) async fn pull(&self, pair: &Pair) -> Vec<Pulled> {
        let pairs = std::slice::from_ref(pair);
        self.groups.pull(pairs, lot(10), MINUTE).await.unwrap()
    }

    pub(super) async fn ack(&self, group: &str, pulled: &[Pulled]) {
        let results = self.groups.ack(group, &receipts(pulled)).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }

    pub(super) fn dead(&self, pair: &Pair) -> Vec<(String, String, u32)> {
        let letters = self.broker.dead_letters(&pair.broker_group());
        let told = |letter: DeadLetter| {
            let message = letter.message.unwrap();
            (text(&message), letter.reason, letter.attempts)
        };
        letters.into_iter().map(told).collect()
    }
}

pub(super) fn pair() -> Pair {
    Pair::new("g", "t").unwrap()
}

/// So many messages, and a second of waiting.
pub(super) fn lot(messages: usize) -> Lot {
    Lot {
        messages,
        bytes: usize::MAX,
        wait: Duration::from_secs(1),
        gather: Duration::ZERO,
    }
}

pub(super) fn text(message: &Message) -> String {
    String::from_utf8(message.payload().to_vec()).unwrap()
}

pub(super) fn receipts(pulled: &[Pulled]) -> Vec<String> {
    pulled.iter().map(|pulled| pulled.receipt.clone()).collect()
}

pub(super) fn pulled_texts(pulled: &[Pulled]) -> Vec<String> {
    pulled.iter().map(|pulled| text(&pulled.message)).collect()
}

pub(super) fn taken_texts(taken: &[Taken]) -> Vec<String> {
    taken.iter().map(|taken| text(&taken.message)).collect()
}

/// Tables in memory.
#[derive(Default)]
struct Tables(Mutex<HashMap<String, i64>>);

impl GroupTables for Tables {
    fn migrate(&self) -> BoxFuture<'_, DbResult<()>> {
        Box::pin(async { Ok(()) })
    }

    fn next_epoch<'a>(&'a self, group: &'a str) -> BoxFuture<'a, DbResult<i64>> {
        let mut epochs = self.0.lock().unwrap();
        let epoch = epochs.entry(group.to_owned()).or_default();
        *epoch += 1;
        let epoch = *epoch;
        Box::pin(async move { Ok(epoch) })
    }

    fn key(&self) -> BoxFuture<'_, DbResult<[u8; 32]>> {
        Box::pin(async { Ok([7; 32]) })
    }
}

/// The in-process broker as one that can be asked.
struct MemoryDesk(MemoryBroker);

impl DeadLetters for MemoryDesk {
    fn list<'a>(
        &'a self,
        service: &'a str,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<Vec<DeadLetter>, Error>> {
        self.0.list(service, filter)
    }

    fn replay<'a>(
        &'a self,
        service: &'a str,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<u64, Error>> {
        self.0.replay(service, filter)
    }

    fn discard<'a>(
        &'a self,
        service: &'a str,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<u64, Error>> {
        self.0.discard(service, filter)
    }
}

impl GroupDesk for MemoryDesk {
    fn backlog<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<LinkBacklog, Error>> {
        let mut backlog = LinkBacklog::default();
        backlog.waiting = self.0.queue_len(group) as u64;
        Box::pin(async move { Ok(backlog) })
    }
}

/// A broker that opens nothing until it is told how.
pub(super) struct Door {
    broker: MemoryBroker,
    open: tokio::sync::watch::Receiver<Option<Result<(), &'static str>>>,
    pub(super) openings: Arc<std::sync::atomic::AtomicUsize>,
}

impl Door {
    pub(super) fn new(
        broker: MemoryBroker,
    ) -> (
        Self,
        tokio::sync::watch::Sender<Option<Result<(), &'static str>>>,
    ) {
        let (sender, open) = tokio::sync::watch::channel(None);
        let openings = Arc::default();
        (
            Self {
                broker,
                open,
                openings,
            },
            sender,
        )
    }
}

impl Broker for Door {
    fn open(&self, setup: Setup) -> BoxFuture<'_, Result<Opened, BrokerError>> {
        self.openings
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Box::pin(async move {
            let mut open = self.open.clone();
            let told = *open
                .wait_for(Option::is_some)
                .await
                .expect("the test goes on");
            match told {
                Some(Err(why)) => {
                    let kind = final_core::broker::BrokerErrorKind::Refused;
                    Err(BrokerError::new(kind, why))
                }
                _ => self.broker.open(setup).await,
            }
        })
    }
}

/// A broker whose deliveries a test makes.
pub(super) struct Handmade {
    broker: MemoryBroker,
    deliveries: Mutex<Option<tokio::sync::mpsc::Receiver<Delivery>>>,
}

impl Handmade {
    pub(super) fn new(broker: MemoryBroker) -> (Self, tokio::sync::mpsc::Sender<Delivery>) {
        let (sender, deliveries) = tokio::sync::mpsc::channel(10);
        let deliveries = Mutex::new(Some(deliveries));
        (Self { broker, deliveries }, sender)
    }
}

impl Broker for Handmade {
    fn open(&self, setup: Setup) -> BoxFuture<'_, Result<Opened, BrokerError>> {
        Box::pin(async move {
            let mut opened = self.broker.open(setup).await?;
            let made = self.deliveries.lock().unwrap().take();
            opened.deliveries = made.expect("opened once");
            Ok(opened)
        })
    }
}
