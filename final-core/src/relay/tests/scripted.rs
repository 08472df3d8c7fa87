//! A broker that does what the test tells it, and a bus on it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use sqlx::{Sqlite, SqlitePool, sqlite::SqliteConnectOptions};
use tokio::sync::{mpsc, watch};

use crate::{
    Bus, Message, Options, Router, Stats,
    broker::{Broker, BrokerError, Link, LinkState, Opened, Outgoing, Setup, Staged},
    outbox::NewRecord,
    relay::Reserved,
    scratch,
};

/// A limit of waiting. Only what is broken takes this long, also on a machine with other work.
pub(super) const SOON: Duration = Duration::from_secs(60);

/// The bus's end of the script.
struct ScriptedBroker(Mutex<Option<(mpsc::UnboundedSender<Outgoing>, watch::Receiver<LinkState>)>>);

struct ScriptedLink {
    sent: mpsc::UnboundedSender<Outgoing>,
    state: watch::Receiver<LinkState>,
}

impl Broker for ScriptedBroker {
    fn open(&self, _: Setup) -> BoxFuture<'_, Result<Opened, BrokerError>> {
        let (sent, state) = self.0.lock().unwrap().take().unwrap();
        let link = Arc::new(ScriptedLink { sent, state });
        let opened = Opened::new(link, mpsc::channel(1).1);
        std::future::ready(Ok(opened)).boxed()
    }
}

impl Link for ScriptedLink {
    fn state(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    fn send(&self, outgoing: Outgoing) {
        let _ = self.sent.send(outgoing);
    }

    fn stop_consuming(&self, _: Duration) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }

    fn finish_consuming(&self, _: Duration) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }

    fn close(&self, _: Duration) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}

/// A bus on a SQLite file, and the test's end of the script.
pub(super) struct Stage {
    pub(super) bus: Bus<Sqlite>,
    sent: mpsc::UnboundedReceiver<Outgoing>,
    pub(super) state: watch::Sender<LinkState>,
    pub(super) file: std::path::PathBuf,
}

impl Stage {
    pub(super) async fn new(options: Options) -> Self {
        Self::on(scratch::database(), options).await
    }

    /// Another instance of the same service.
    pub(super) async fn another(&self, options: Options) -> Self {
        Self::on(self.file.clone(), options).await
    }

    /// Another instance that is not started yet.
    pub(super) async fn unstarted(&self, options: Options) -> Bus<Sqlite> {
        let (broker, ..) = script();
        Bus::new("shop", pool(&self.file).await, broker).with_options(options)
    }

    async fn on(file: std::path::PathBuf, options: Options) -> Self {
        let (broker, sent, state) = script();
        let bus = Bus::new("shop", pool(&file).await, broker).with_options(options);
        bus.start(Router::new()).await.unwrap();
        Self {
            bus,
            sent,
            state,
            file,
        }
    }

    pub(super) async fn publish(&self, topic: &str) {
        self.bus.publish(topic, "payload").await.unwrap();
    }

    /// Waits until the scanner has looked at the table; next it looks when there is a reason.
    pub(super) async fn first_look(&self) {
        self.until("a first look", |stats| stats.relay_statements >= 4)
            .await;
    }

    /// Writes records behind the bus's back.
    pub(super) async fn insert(&self, records: &[NewRecord<'_>]) {
        let relay = self.bus.relay();
        let mut conn = relay.outbox.caller().acquire().await.unwrap();
        let insert = relay.outbox.insert(&mut conn, records);
        insert.await.unwrap();
    }

    /// Writes a due record behind the bus's back.
    pub(super) async fn insert_one(&self, topic: &str) {
        self.insert(&Reserved::none(&[staged(topic)]).records).await;
    }

    /// Writes `records` due records of a topic behind the bus's back, and rings the scanner.
    pub(super) async fn backlog(&self, topic: &str, records: usize) {
        self.backlog_for(topic, records, None).await;
    }

    /// The same, with a time to live.
    pub(super) async fn backlog_for(&self, topic: &str, records: usize, ttl: Option<Duration>) {
        let staged = (0..records).map(|_| Staged {
            ttl,
            ..staged(topic)
        });
        let staged: Vec<_> = staged.collect();
        self.insert(&Reserved::none(&staged).records).await;
        self.bus.relay().ring();
    }

    /// Writes a record that an earlier bus has parked.
    pub(super) async fn parked_by_another(&self, topic: &str) {
        let staged = [staged(topic)];
        let mut records = Reserved::none(&staged).records;
        records[0].parked = true;
        self.insert(&records).await;
    }

    /// How many records are claimed.
    pub(super) async fn claimed(&self) -> i64 {
        self.count("claimed").await
    }

    /// How many records are not claimed.
    pub(super) async fn unclaimed(&self) -> i64 {
        self.count("NOT claimed").await
    }

    /// How many claims are neither finished nor have run out.
    pub(super) async fn live_claims(&self) -> i64 {
        let count =
            "SELECT COUNT(*) FROM final_shop_claims WHERE live_until > unixepoch('subsec') * 1000";
        let pool = pool(&self.file).await;
        sqlx::query_scalar(count).fetch_one(&pool).await.unwrap()
    }

    /// Runs a statement behind the bus's back.
    pub(super) async fn run(&self, statement: &'static str) {
        let pool = self.bus.relay().outbox.caller().clone();
        sqlx::query(statement).execute(&pool).await.unwrap();
    }

    async fn count(&self, which: &'static str) -> i64 {
        let count = sqlx::AssertSqlSafe(format!(
            "SELECT COUNT(*) FROM (SELECT claimed_by IS NOT NULL OR EXISTS ( \
                 SELECT 1 FROM final_shop_claims WHERE live_until > unixepoch('subsec') * 1000 \
                   AND (first_at, first_id) <= (available_at, message_id) \
                   AND (last_at, last_id) >= (available_at, message_id)) AS claimed \
             FROM final_shop_outbox) WHERE {which}"
        ));
        let pool = self.bus.relay().outbox.caller().clone();
        sqlx::query_scalar(count).fetch_one(&pool).await.unwrap()
    }

    /// Waits until at least `records` are claimed.
    pub(super) async fn until_claimed(&self, records: i64) {
        let start = std::time::Instant::now();
        loop {
            let claimed = self.claimed().await;
            if claimed >= records {
                return;
            }
            assert!(start.elapsed() < SOON, "{claimed} are claimed");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What the bus sends next.
    pub(super) async fn sent(&mut self) -> Outgoing {
        tokio::time::timeout(SOON, self.sent.recv())
            .await
            .expect("nothing was sent in time")
            .expect("the link is open")
    }

    /// Whether nothing is sent for a while.
    pub(super) async fn is_quiet(&mut self, during: Duration) -> bool {
        tokio::time::timeout(during, self.sent.recv())
            .await
            .is_err()
    }

    pub(super) async fn until(&self, what: &str, wanted: impl Fn(&Stats) -> bool) -> Stats {
        let start = std::time::Instant::now();
        loop {
            let stats = self.bus.stats().await.unwrap();
            if wanted(&stats) {
                return stats;
            }
            assert!(start.elapsed() < SOON, "not so in time: {what}: {stats:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A message to be written at once.
pub(super) fn staged(topic: &str) -> Staged {
    Staged::new(Message::new(topic, "payload"))
}

fn script() -> (
    ScriptedBroker,
    mpsc::UnboundedReceiver<Outgoing>,
    watch::Sender<LinkState>,
) {
    let (sender, sent) = mpsc::unbounded_channel();
    let (state, states) = watch::channel(LinkState::Ready);
    (
        ScriptedBroker(Mutex::new(Some((sender, states)))),
        sent,
        state,
    )
}

pub(super) async fn pool(file: &std::path::Path) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true);
    SqlitePool::connect_with(options).await.unwrap()
}

/// A scan interval that would be too late for every test.
pub(super) fn options() -> Options {
    Options::default().scan_interval(SOON * 10)
}
