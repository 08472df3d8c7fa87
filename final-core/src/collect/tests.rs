//! The collector on a SQLite file, with a link that only notes what it hears.

use std::{
    sync::{
        Mutex as StdMutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{AssertSqlSafe, Row, Sqlite, SqlitePool, sqlite::SqliteConnectOptions};
use tokio::{sync::mpsc, task::JoinHandle};
use uuid::Uuid;

use super::*;
use crate::{
    Message, MessageId,
    broker::{Cause, CollectedLetter, LetterDelivery, LetterSettler},
    lock::lock,
    scratch,
};

const SOON: Duration = Duration::from_secs(60);

/// What the link hears.
#[derive(Default)]
struct Heard {
    stored: StdMutex<Vec<u64>>,
    dropped: StdMutex<Vec<u64>>,
    is_void: AtomicBool,
}

impl LetterSettler for Heard {
    fn stored(&self, tag: u64) {
        lock(&self.stored).push(tag);
    }

    fn dropped(&self, tag: u64) {
        lock(&self.dropped).push(tag);
    }

    fn is_void(&self, _: u64) -> bool {
        self.is_void.load(Ordering::SeqCst)
    }
}

struct House {
    pool: SqlitePool,
    letters: mpsc::Sender<LetterDelivery>,
    wanted: tokio::sync::watch::Receiver<bool>,
    heard: Arc<Heard>,
    ending: CancellationToken,
    collector: Arc<Collector<Sqlite>>,
    task: JoinHandle<()>,
}

impl House {
    async fn new() -> Self {
        let options = SqliteConnectOptions::new()
            .filename(scratch::database())
            .create_if_missing(true);
        let pool = SqlitePool::connect_with(options).await.unwrap();
        let outbox = Outbox::new("shop".to_owned(), pool.clone(), SOON);
        outbox.migrate().await.unwrap();
        outbox.located().await.unwrap();
        let (letters, receiver) = mpsc::channel(50);
        let (stream, wanted) = LetterStream::new(receiver);
        let ending = CancellationToken::new();
        let mut collector = Collector::new("shop".into(), Arc::new(outbox), ending.clone());
        collector.patience = Duration::from_millis(300);
        let collector = Arc::new(collector);
        let (worker, stream) = (Arc::clone(&collector), Arc::new(Mutex::new(stream)));
        let task = tokio::spawn(async move { worker.run(stream, CancellationToken::new()).await });
        Self {
            pool,
            letters,
            wanted,
            heard: Arc::default(),
            ending,
            collector,
            task,
        }
    }

    async fn run(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::raw_sql(sql).execute(&self.pool).await.unwrap();
    }

    async fn rows(&self) -> Vec<(Uuid, String, Option<String>, Option<String>, String)> {
        let sql = "SELECT message_id, topic, message_key, problem, envelope FROM final_shop_dead ORDER BY seq";
        let rows = sqlx::query(sql).fetch_all(&self.pool).await.unwrap();
        let row = |row: sqlx::sqlite::SqliteRow| {
            (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4))
        };
        rows.into_iter().map(row).collect()
    }

    async fn deliver(&self, tag: u64, key: Option<&str>, repeated: Option<u32>) {
        let id = MessageId(Uuid::from_u128(tag.into()));
        let mut message = Message::identified(id, "order.placed", format!("payload {tag}"));
        if let Some(key) = key {
            message = message.with_key(key);
        }
        let cause = Cause::new("out of stock", 4);
        let letter = CollectedLetter::new(id.0, message, cause, "AAEC".to_owned());
        let settler = Arc::clone(&self.heard) as Arc<dyn LetterSettler>;
        let delivery = LetterDelivery::new(letter, tag, repeated, settler);
        self.letters.send(delivery).await.unwrap();
    }

    async fn stored(&self, count: usize) -> Vec<u64> {
        until(|| lock(&self.heard.stored).len() >= count).await;
        lock(&self.heard.stored).clone()
    }

    /// The stream ends. Returns what was dropped.
    async fn end(self) -> Vec<u64> {
        drop(self.letters);
        tokio::time::timeout(SOON, self.task)
            .await
            .unwrap()
            .unwrap();
        lock(&self.heard.dropped).clone()
    }
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.expect("in time");
}

const AWAY: &str = "ALTER TABLE final_shop_dead RENAME TO away";
const BACK: &str = "ALTER TABLE away RENAME TO final_shop_dead";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_go_back_once_in_an_outage_and_come_when_the_copies_here_are_stored() {
    let mut house = House::new().await;
    house.run(AWAY).await;
    for tag in 1..=3 {
        house.deliver(tag, None, None).await;
    }

    house.wanted.wait_for(|wanted| !wanted).await.unwrap();
    let first = std::mem::take(&mut house.heard);
    first.is_void.store(true, Ordering::SeqCst);
    // Longer than its patience: they are not asked for until the table takes them.
    sleep(Duration::from_millis(900)).await;
    assert!(!*house.wanted.borrow());
    house.run(BACK).await;
    house.wanted.wait_for(|wanted| *wanted).await.unwrap();

    // The broker delivers them again, on another channel.
    for tag in 1..=3 {
        house.deliver(tag, None, Some(0)).await;
    }
    assert_eq!(house.stored(3).await, [1, 2, 3]);
    assert_eq!(house.rows().await.len(), 3);
    assert_eq!(house.collector.collected.get(), 3);
    assert!(house.end().await.is_empty());
    assert!(lock(&first.stored).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_whose_texts_are_refused_is_stored_without_them_beside_the_others() {
    let house = House::new().await;
    house
        .run(
            "CREATE TRIGGER no_key BEFORE INSERT ON final_shop_dead WHEN NEW.message_key IS NOT NULL \
             BEGIN SELECT RAISE(ABORT, 'no key'); END",
        )
        .await;
    house.deliver(1, None, None).await;
    house.deliver(2, Some("k"), None).await;
    house.deliver(3, None, None).await;

    house.stored(3).await;
    let rows = house.rows().await;
    for (id, topic, key, problem, envelope) in rows {
        assert_eq!((&*topic, &*envelope, key), ("order.placed", "AAEC", None));
        assert_eq!(problem.is_some(), id == Uuid::from_u128(2));
    }
    assert!(house.end().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_that_is_refused_in_every_form_is_held_and_holds_up_no_other() {
    let house = House::new().await;
    house
        .run(
            "CREATE TRIGGER no_two BEFORE INSERT ON final_shop_dead WHEN CAST(NEW.payload AS TEXT) = 'payload 2' \
             BEGIN SELECT RAISE(ABORT, 'no two'); END",
        )
        .await;
    for tag in 1..=20 {
        house.deliver(tag, None, None).await;
    }

    let stored = house.stored(19).await;
    assert!(!stored.contains(&2));
    assert!(lock(&house.heard.dropped).is_empty(), "it is held");
    assert_eq!(house.end().await, [2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_letters_are_told_apart_by_how_often_they_came() {
    let house = House::new().await;
    // Three equal letters, which come for the first time; then all of them come again.
    for repeated in [None, None, None, Some(0), Some(1), Some(2)] {
        house.deliver(1, None, repeated).await;
    }

    house.stored(6).await;
    assert_eq!(house.rows().await.len(), 3);
    assert!(house.end().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_waits_for_no_database() {
    let house = House::new().await;
    house.run(AWAY).await;
    house.deliver(1, None, None).await;
    house.ending.cancel();

    assert_eq!(house.end().await, [1]);
}
