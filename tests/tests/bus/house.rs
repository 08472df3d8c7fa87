//! A house: the database and the broker of a service, and the messages that its handlers got.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use final_core::{Bus, Message, Options, Router, Stats};
use final_tests::{SqliteFile, eventually};
use sqlx::Pool;

use crate::{database::Database, transport::Transport};

/// A limit of waiting. Only what is broken takes this long, also on a machine with other work.
pub const SOON: Duration = Duration::from_secs(120);

fn service() -> String {
    final_tests::unique("svc").replace('_', "-")
}

/// Everything one test needs.
pub struct House<D: Database, T: Transport> {
    pub pool: Pool<D>,
    pub transport: T,
    pub service: String,
    _file: Option<SqliteFile>,
}

impl<D: Database, T: Transport> House<D, T> {
    pub async fn new() -> Self {
        let (pool, _file) = D::fresh().await;
        D::run_on(&pool, "CREATE TABLE orders (total INTEGER NOT NULL)").await;
        Self {
            pool,
            transport: T::fresh().await,
            service: service(),
            _file,
        }
    }

    /// The same on a database of the test's own.
    pub async fn on(pool: Pool<D>) -> Self {
        Self {
            pool,
            transport: T::fresh().await,
            service: service(),
            _file: None,
        }
    }

    /// Another service, with a database of its own, on the same broker.
    pub async fn neighbour(&self) -> Self {
        let (pool, _file) = D::fresh().await;
        Self {
            pool,
            transport: self.transport.clone(),
            service: service(),
            _file,
        }
    }

    /// Options that make a test quick. Neither a lease nor a shutdown runs out of time where the machine
    /// is slow.
    pub fn options(&self) -> Options {
        Options::default()
            .scan_interval(Duration::from_millis(500))
            .retry_interval(Duration::from_millis(5))
            .lease(SOON)
            .shutdown_timeout(SOON)
    }

    pub fn bus(&self) -> Bus<D> {
        self.bus_with(self.options())
    }

    pub fn bus_with(&self, options: Options) -> Bus<D> {
        self.transport
            .bus(&self.service, self.pool.clone())
            .with_options(options)
    }

    /// A topic of this house alone, because tests may share a broker and its exchanges.
    pub fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.service)
    }

    /// Starts a bus that notes every message of these topics.
    pub async fn start_noting(&self, options: Options, topics: &[&str]) -> (Bus<D>, Notes) {
        let bus = self.bus_with(options);
        let notes = Notes::default();
        bus.start(self.noting(&notes, topics)).await.expect("start");
        (bus, notes)
    }

    /// The same, and waits until the bus is connected to the broker. From then on it hands messages over.
    pub async fn start_connected(&self, options: Options, topics: &[&str]) -> (Bus<D>, Notes) {
        let (bus, notes) = self.start_noting(options, topics).await;
        self.stats_are(&bus, "a connected broker", |stats| stats.connected)
            .await;
        (bus, notes)
    }

    pub fn noting(&self, notes: &Notes, topics: &[&str]) -> Router {
        topics.iter().fold(Router::new(), |router, topic| {
            let notes = notes.clone();
            router.route(self.topic(topic), move |message: Message| {
                let notes = notes.clone();
                async move { notes.add(message) }
            })
        })
    }

    pub async fn orders(&self) -> i64 {
        D::number(&self.pool, "SELECT count(*) FROM orders").await
    }

    /// The outbox table's name.
    pub fn table(&self) -> String {
        format!("final_{}_outbox", self.service.replace('-', "_"))
    }

    pub async fn records(&self) -> i64 {
        D::number(
            &self.pool,
            &format!("SELECT count(*) FROM {}", self.table()),
        )
        .await
    }

    /// Waits until nothing is pending.
    pub async fn outbox_is_empty(&self, bus: &Bus<D>) {
        self.stats_are(bus, "an empty outbox", |stats| stats.pending == 0)
            .await;
    }

    /// Publishes one more number, and asserts that it is the only one that is handled. A message that was
    /// sent earlier would arrive first.
    pub async fn handles_only(&self, bus: &Bus<D>, notes: &Notes, number: i64) {
        bus.publish(self.topic("placed"), &number)
            .await
            .expect("publish");
        notes.reach(1).await;
        self.outbox_is_empty(bus).await;
        assert_eq!(notes.numbers(), [number]);
    }

    /// Waits until the stats are as wanted.
    pub async fn stats_are(
        &self,
        bus: &Bus<D>,
        what: &str,
        wanted: impl Fn(&Stats) -> bool,
    ) -> Stats {
        eventually(what, SOON, async || match bus.stats().await {
            Ok(stats) if wanted(&stats) => Ok(stats),
            other => Err(other),
        })
        .await
    }
}

/// The messages that handlers were given.
#[derive(Clone, Default)]
pub struct Notes(Arc<Mutex<Vec<Message>>>);

impl Notes {
    pub fn add(&self, message: Message) {
        self.0.lock().expect("lock").push(message);
    }

    pub fn all(&self) -> Vec<Message> {
        self.0.lock().expect("lock").clone()
    }

    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// The payloads, read as msgpack numbers, in order of arrival.
    pub fn numbers(&self) -> Vec<i64> {
        self.all().iter().map(number).collect()
    }

    /// Waits for so many messages.
    pub async fn reach(&self, count: usize) {
        eventually(&format!("{count} handled messages"), SOON, async || {
            self.len() >= count
        })
        .await;
    }
}

fn number(message: &Message) -> i64 {
    rmp_serde::from_slice(message.payload()).expect("a number")
}

/// The error of the tests' handlers and closures.
#[derive(Debug)]
#[expect(dead_code, reason = "read in the text of a panic")]
pub enum TestError {
    Bus(final_core::Error),
    Sql(sqlx::Error),
    OnPurpose,
}

impl From<final_core::Error> for TestError {
    fn from(error: final_core::Error) -> Self {
        Self::Bus(error)
    }
}

impl From<sqlx::Error> for TestError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}
