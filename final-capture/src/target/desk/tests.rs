use std::sync::Mutex;

use sqlx::{Sqlite, sqlite::SqlitePoolOptions};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::*;
use crate::{
    position::{Position, SourceIdentity, SourcePoint, SqlPositions, Standing},
    target::{Content, OnPoison, parked::entry},
};

/// A target whose database goes away for good after some messages: the reader is deposed.
struct Fragile {
    store: SqlPositions<Sqlite>,
    left: Mutex<usize>,
    got: Mutex<Vec<String>>,
}

impl PutBack for Fragile {
    fn store(&self) -> &dyn PositionStore {
        &self.store
    }

    fn put_back<'a>(
        &'a self,
        term: &'a Term,
        messages: &'a [Message],
        ids: &'a [i64],
    ) -> BoxFuture<'a, Result<(), WriteError>> {
        Box::pin(async move {
            {
                let mut left = self.left.lock().unwrap();
                *left = left.checked_sub(1).ok_or(WriteError::Deposed)?;
                let texts = messages.iter().map(|message| message.text());
                self.got.lock().unwrap().extend(texts);
            }
            Ok(self.store.unpark(term, ids).await?)
        })
    }
}

trait Text {
    fn text(&self) -> String;
}

impl Text for Message {
    fn text(&self) -> String {
        String::from_utf8(self.payload().to_vec()).unwrap()
    }
}

const LEASE: Duration = Duration::from_secs(60);

fn job(term: &Term) -> Job {
    let vitals = Vitals::new();
    vitals.renewed(Some(Instant::now() + LEASE));
    Job {
        term: term.clone(),
        identity: SourceIdentity("script:1".into()),
        number: 1,
        lots: mpsc::channel(1).1,
        vitals: Arc::new(vitals),
        on_poison: OnPoison::Park,
        most_parked: 100,
        max_message_bytes: 1_000,
    }
}

fn standing() -> Standing {
    Standing {
        position: Position {
            identity: SourceIdentity("script:1".into()),
            point: SourcePoint::Lsn(10),
            partial: None,
        },
        at: None,
        number: 1,
    }
}

#[tokio::test]
async fn a_key_whose_retry_was_interrupted_is_put_back_by_the_next_reader() {
    for mark in [ParkedMark::Retry, ParkedMark::Skip] {
        let file = final_tests::sqlite_file().unwrap();
        let pool = SqlitePoolOptions::new().connect(&file.url()).await.unwrap();
        let store = SqlPositions::new(pool);
        store.migrate().await.unwrap();
        let taken = store.take("shop", Uuid::now_v7(), LEASE);
        let term = taken.await.unwrap().unwrap().term;
        let parked = |place: usize| {
            let message = Message::new("cdc.shop.holes", place.to_string()).with_key("1");
            entry(&Content::Message(message), None, String::new(), 1, place)
        };
        let entries: Vec<_> = (0..4).map(parked).collect();
        store.save(&term, &standing(), &entries).await.unwrap();
        let first = [entries[0].id];
        store.mark("shop", Some(&first), mark).await.unwrap();

        let sink = Fragile {
            store,
            left: Mutex::new(1),
            got: Mutex::default(),
        };
        let mut desk = Desk::open(&sink.store, &job(&term)).await.unwrap();
        let cut_off = desk.put_back(&sink).await;
        assert!(matches!(cut_off, Err(TargetEnd::Deposed)), "{cut_off:?}");
        let later = Content::Message(Message::new("cdc.shop.holes", "4").with_key("1"));
        assert!(desk.parked.holds(&later), "it waits behind the rest");
        *sink.left.lock().unwrap() = 100;
        let mut desk = Desk::open(&sink.store, &job(&term)).await.unwrap();
        assert_eq!(desk.parked.count(), 3);
        desk.put_back(&sink).await.unwrap();
        assert_eq!(desk.parked.count(), 0);
        assert!(!desk.parked.holds(&later), "nothing is before it");
        let expected: &[&str] = match mark {
            ParkedMark::Retry => &["0", "1", "2", "3"],
            ParkedMark::Skip => &["1", "2", "3"],
        };
        assert_eq!(*sink.got.lock().unwrap(), expected);
    }
}

#[tokio::test]
async fn nothing_is_put_back_once_the_lease_may_be_over() {
    let file = final_tests::sqlite_file().unwrap();
    let pool = SqlitePoolOptions::new().connect(&file.url()).await.unwrap();
    let store = SqlPositions::new(pool);
    store.migrate().await.unwrap();
    let taken = store.take("shop", Uuid::now_v7(), LEASE);
    let term = taken.await.unwrap().unwrap().term;
    let message = Message::new("cdc.shop.holes", "0").with_key("1");
    let parked = entry(&Content::Message(message), None, String::new(), 1, 0);
    store.save(&term, &standing(), &[parked]).await.unwrap();
    store.mark("shop", None, ParkedMark::Retry).await.unwrap();
    let sink = Fragile {
        store,
        left: Mutex::new(1),
        got: Mutex::default(),
    };
    let job = job(&term);
    let mut desk = Desk::open(&sink.store, &job).await.unwrap();
    job.vitals.renewed(Some(Instant::now()));
    let late = desk.put_back(&sink).await;
    assert!(matches!(late, Err(TargetEnd::Deposed)), "{late:?}");
    assert!(sink.got.lock().unwrap().is_empty());
    job.vitals.renewed(Some(Instant::now() + LEASE));
    desk.put_back(&sink).await.unwrap();
    assert_eq!(*sink.got.lock().unwrap(), ["0"]);
}

#[tokio::test]
async fn a_list_of_parked_changes_has_no_payloads_and_the_message_comes_back_as_it_was() {
    let file = final_tests::sqlite_file().unwrap();
    let pool = SqlitePoolOptions::new().connect(&file.url()).await.unwrap();
    let store = SqlPositions::new(pool);
    store.migrate().await.unwrap();
    let taken = store.take("shop", Uuid::now_v7(), LEASE);
    let term = taken.await.unwrap().unwrap().term;
    let message = Message::new("cdc.shop.holes", vec![7; 5_000])
        .with_key("1")
        .with_header("a", "b")
        .with_content_type("x/y");
    let unwritable = Content::Unwritable {
        topic: "cdc.shop.holes".into(),
        key: None,
        why: "no".to_owned(),
    };
    let entries = [
        entry(
            &Content::Message(message.clone()),
            None,
            String::new(),
            1,
            0,
        ),
        entry(&unwritable, None, String::new(), 1, 1),
    ];
    store.save(&term, &standing(), &entries).await.unwrap();
    let heads = store.parked("shop", false, -1, 10).await.unwrap();
    let parts = heads.iter().map(|head| (head.message_id, head.bytes));
    let parts: Vec<_> = parts.collect();
    assert_eq!(parts, [(Some(message.id()), Some(5_000)), (None, None)]);
    let back = store.parked_message("shop", heads[0].id).await.unwrap();
    assert_eq!(format!("{back:?}"), format!("{:?}", Some(&message)));
    assert_eq!(back.unwrap().payload(), message.payload());
    for id in [heads[1].id, heads[1].id + 1] {
        let none = store.parked_message("shop", id).await.unwrap();
        assert!(none.is_none(), "{none:?}");
    }
}
