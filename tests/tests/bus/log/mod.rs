//! What the log promises: order, groups, members, keys, retention, dead letters.

mod elsewhere;
mod ended;
mod fence;
mod foreign;
mod groups;
mod held;
mod in_memory;
mod key_order;
mod late;
mod letters;
mod members;
mod migration;
pub mod numbers;
mod order;
mod quiet;
mod refused;
mod removing;
mod retention;
mod scheduled;
mod stale;

use std::{sync::Arc, time::Duration};

use final_core::{Bus, Message, Options, Router, SqlBroker};
use final_tests::{SqliteFile, eventually};
use sqlx::{Pool, Transaction};
use tokio::sync::Semaphore;

use crate::{
    database::Database,
    house::{Notes, SOON},
};

/// Makes a test of each function of a list, on a fresh log in every database. `at once:` leaves SQLite out:
/// it has one writer, so two writing transactions are never open at once, and its sequence numbers have no
/// gaps.
#[macro_export]
macro_rules! log_suite {
    ($($name:ident),* $(,)?) => {
        $crate::log_suite!(@on postgres, sqlx::Postgres, $($name),*);
        $crate::log_suite!(@on mariadb, sqlx::MySql, $($name),*);
        $crate::log_suite!(@on sqlite, sqlx::Sqlite, $($name),*);
    };
    (at once: $($name:ident),* $(,)?) => {
        $crate::log_suite!(@on postgres_at_once, sqlx::Postgres, $($name),*);
        $crate::log_suite!(@on mariadb_at_once, sqlx::MySql, $($name),*);
    };
    (@on $database:ident, $type:ty, $($name:ident),*) => {
        mod $database {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name($crate::log::Log::<$type>::new().await).await;
                }
            )*
        }
    };
}

/// A database of its own, with a log for any number of services.
pub struct Log<D: Database> {
    pub pool: Pool<D>,
    _file: Option<SqliteFile>,
}

impl<D: Database> Log<D> {
    pub async fn new() -> Self {
        let (pool, _file) = D::fresh().await;
        Self { pool, _file }
    }

    /// A broker that looks for new messages often.
    pub fn broker(&self) -> SqlBroker<D> {
        SqlBroker::new(self.pool.clone()).poll_interval(Duration::from_millis(200))
    }

    pub fn bus(&self, service: &str) -> Bus<D> {
        self.bus_on(service, self.broker())
    }

    pub fn bus_on(&self, service: &str, broker: SqlBroker<D>) -> Bus<D> {
        Bus::new(service, self.pool.clone(), broker).with_options(options())
    }

    /// Starts a bus of a service that notes every message of these topics.
    pub async fn noting(&self, service: &str, topics: &[&str]) -> (Bus<D>, Notes) {
        self.noting_on(service, self.broker(), topics).await
    }

    pub async fn noting_on(
        &self,
        service: &str,
        broker: SqlBroker<D>,
        topics: &[&str],
    ) -> (Bus<D>, Notes) {
        let (bus, notes) = (self.bus_on(service, broker), Notes::default());
        bus.start(noting(&notes, topics)).await.expect("start");
        (bus, notes)
    }

    pub async fn number(&self, sql: &str) -> i64 {
        D::number(&self.pool, sql).await
    }

    pub async fn run(&self, sql: &str) -> u64 {
        D::run_on(&self.pool, sql).await
    }

    /// Runs a statement in a transaction, and leaves the transaction open.
    pub async fn locked(&self, sql: &str) -> Transaction<'static, D> {
        let mut tx = self.pool.begin().await.expect("begin");
        D::run(&mut tx, sql).await.expect("locked");
        tx
    }

    /// Waits until a query returns this number.
    pub async fn comes_to(&self, sql: &str, wanted: i64) {
        eventually(&format!("{wanted} = {sql}"), SOON, async || {
            match self.number(sql).await {
                seen if seen == wanted => Ok(()),
                seen => Err(seen),
            }
        })
        .await;
    }

    /// Waits until the written progress of a service lists so many open sequence numbers.
    pub async fn has_open(&self, service: &str, wanted: i64) {
        let what = format!("{wanted} are open");
        eventually(&what, SOON, async || match self.open(service).await {
            seen if seen == wanted => Ok(()),
            seen => Err(seen),
        })
        .await;
    }

    async fn open(&self, service: &str) -> i64 {
        let open = format!("SELECT open_seqs FROM final_log_lanes WHERE group_name = '{service}'");
        let number = |text: &str| text.parse::<i64>().expect("a number");
        let length = |span: &str| match span.split_once('-') {
            Some((start, end)) => number(end) - number(start) + 1,
            None => 1,
        };
        let texts = D::texts(&self.pool, &open).await;
        let spans = texts.iter().flat_map(|text| text.split(','));
        spans.filter(|span| !span.is_empty()).map(length).sum()
    }

    /// Waits until so many members own all lanes of a service.
    pub async fn shared_by(&self, service: &str, members: i64) {
        let owners = format!(
            "SELECT count(DISTINCT member) * 100 + count(member) FROM final_log_lanes \
             WHERE group_name = '{service}'"
        );
        self.comes_to(&owners, members * 100 + 16).await;
    }

    /// Waits until the written progress of a service reaches the end of the log.
    pub async fn is_done(&self, service: &str) {
        let behind = format!(
            "SELECT count(*) FROM final_log_lanes WHERE group_name = '{service}' AND settled_to < \
                 (SELECT coalesce(max(seq), 0) FROM final_log)"
        );
        self.comes_to(&behind, 0).await;
    }
}

/// Options that make a test quick.
pub fn options() -> Options {
    Options::default()
        .concurrency(1_000)
        .retry_interval(Duration::from_millis(5))
        .shutdown_timeout(SOON)
}

pub fn noting(notes: &Notes, topics: &[&str]) -> Router {
    topics.iter().fold(Router::new(), |router, topic| {
        let notes = notes.clone();
        router.route(*topic, move |message: Message| {
            let notes = notes.clone();
            async move { notes.add(message) }
        })
    })
}

/// A handler that waits until it is let go.
#[derive(Clone)]
pub struct Held {
    /// The messages that the handler has received.
    pub begun: Notes,
    /// The messages that the handler has finished.
    pub done: Notes,
    gate: Arc<Semaphore>,
}

impl Held {
    pub fn new() -> Self {
        Self {
            begun: Notes::default(),
            done: Notes::default(),
            gate: Arc::new(Semaphore::new(0)),
        }
    }

    pub fn router(&self, topic: &str) -> Router {
        let held = self.clone();
        Router::new().route(topic, move |message: Message| {
            let held = held.clone();
            async move {
                held.begun.add(message.clone());
                held.gate.acquire().await.expect("open").forget();
                held.done.add(message);
            }
        })
    }

    /// Lets so many messages finish.
    pub fn let_go(&self, messages: usize) {
        self.gate.add_permits(messages);
    }
}

/// Publishes these numbers, a hundred in each transaction.
pub async fn publish<D: Database>(
    bus: &Bus<D>,
    topic: &str,
    numbers: impl IntoIterator<Item = i64>,
) {
    let numbers: Vec<i64> = numbers.into_iter().collect();
    for some in numbers.chunks(100) {
        let tx = bus.begin().await.expect("begin");
        bus.transaction(tx, async |mut txbus| {
            for number in some {
                txbus.publish(topic, number).await?;
            }
            Ok::<_, final_core::Error>(())
        })
        .await
        .expect("commit");
    }
}

/// The numbers in ascending order, with repeats.
pub fn sorted(numbers: impl IntoIterator<Item = i64>) -> Vec<i64> {
    let mut numbers: Vec<i64> = numbers.into_iter().collect();
    numbers.sort_unstable();
    numbers
}
