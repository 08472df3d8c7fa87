use std::time::Duration;

use sqlx::{Sqlite, SqlitePool, sqlite::SqlitePoolOptions};
use tokio::{sync::mpsc, time::Instant};
use uuid::Uuid;

use super::*;
use crate::{
    engine::vitals::Vitals,
    position::{Position, PositionError, SourceIdentity, SourcePoint},
    target::{Content, Item, Lot, Mark, OnPoison, parked::entry},
};

const LEASE: Duration = Duration::from_secs(60);

/// The largest message.
const MOST: usize = 1_000;

/// A reader that has the lease, whose log is one SQLite file.
struct Stage {
    pool: SqlitePool,
    positions: Arc<SqlPositions<Sqlite>>,
    outlet: LogOutlet<Sqlite>,
    term: Term,
    vitals: Arc<Vitals>,
    _file: final_tests::SqliteFile,
}

impl Stage {
    /// With the position where that is said.
    async fn with(
        place: impl FnOnce(Arc<SqlPositions<Sqlite>>) -> PlaceOfPosition<Sqlite>,
    ) -> Self {
        let file = final_tests::sqlite_file().unwrap();
        let pool = SqlitePoolOptions::new().connect(&file.url()).await.unwrap();
        let positions = Arc::new(SqlPositions::<Sqlite>::new(pool.clone()));
        let place = place(Arc::clone(&positions));
        let outlet = LogOutlet::new(SqlBroker::new(pool.clone()), place);
        outlet.migrate().await.unwrap();
        let taken = positions.take("shop", Uuid::now_v7(), LEASE).await;
        let vitals = Arc::new(Vitals::new());
        vitals.renewed(Some(Instant::now() + LEASE));
        Self {
            vitals,
            term: taken.unwrap().unwrap().term,
            pool,
            positions,
            outlet,
            _file: file,
        }
    }

    /// Hands over one lot after the save of that number.
    async fn run(&self, number: i64, items: Vec<Item>) -> Result<(), TargetEnd> {
        let (lots, given) = mpsc::channel(1);
        let lot = Lot {
            rows: items.len() as u64,
            items,
            end: mark(),
        };
        lots.try_send(lot).unwrap();
        drop(lots);
        let job = Job {
            term: self.term.clone(),
            identity: SourceIdentity("script:1".into()),
            number,
            lots: given,
            vitals: Arc::clone(&self.vitals),
            on_poison: OnPoison::Park,
            most_parked: 100,
            max_message_bytes: MOST,
        };
        self.outlet.run(job).await
    }

    async fn count(&self, table: &str) -> i64 {
        let count = format!("SELECT COUNT(*) FROM {table}");
        let count = sqlx::query_scalar(sqlx::AssertSqlSafe(count));
        count.fetch_one(&self.pool).await.unwrap()
    }
}

fn mark() -> Mark {
    Mark {
        point: SourcePoint::Lsn(10),
        partial: None,
        at: None,
    }
}

/// A message of that key.
fn message(key: &str) -> Message {
    Message::new("cdc.shop.holes", "1").with_key(key)
}

fn item(key: &str) -> Item {
    Item {
        content: Content::Message(message(key)),
        mark: mark(),
        ends_change: true,
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
async fn a_lot_whose_answer_was_lost_is_done_also_if_it_has_parked_messages() {
    let stage = Stage::with(PlaceOfPosition::Same).await;
    let (outlet, term, standing) = (&stage.outlet, &stage.term, standing());
    let messages = [Message::new("cdc.shop.holes", "1").with_key("1")];
    let behind = Content::Message(Message::new("cdc.shop.holes", "2").with_key("2"));
    let parked = [entry(&behind, None, String::new(), 1, 1)];
    // The second time because the answer to the first COMMIT did not come.
    for _ in 0..2 {
        let written = outlet.write(term, &messages, &parked, &standing).await;
        written.unwrap();
    }
    for table in ["final_log", "final_capture_parked"] {
        assert_eq!(stage.count(table).await, 1, "{table}");
    }
}

#[tokio::test]
async fn a_parked_message_whose_answer_was_lost_comes_back_once() {
    let stage = Stage::with(PlaceOfPosition::Same).await;
    let (outlet, term) = (&stage.outlet, &stage.term);
    let message = Message::new("cdc.shop.holes", "1").with_key("1");
    let parked = entry(
        &Content::Message(message.clone()),
        None,
        String::new(),
        1,
        0,
    );
    let (messages, ids) = ([message], [parked.id]);
    let saved = stage.positions.save(term, &standing(), &[parked]).await;
    saved.unwrap();
    // The second time because the answer to the first COMMIT did not come.
    for _ in 0..2 {
        outlet.put_back(term, &messages, &ids).await.unwrap();
        assert_eq!(stage.count("final_log").await, 1);
    }
    // Nor does a reader put anything back whose term is over.
    let old = Term {
        epoch: term.epoch - 1,
        ..term.clone()
    };
    let late = outlet.put_back(&old, &messages, &ids).await;
    assert!(matches!(late, Err(WriteError::Deposed)), "{late:?}");
    assert_eq!(stage.count("final_log").await, 1);
}

#[tokio::test]
async fn what_is_parked_is_changed_by_the_reader_alone() {
    let stage = Stage::with(PlaceOfPosition::Same).await;
    let (store, term) = (&stage.positions, &stage.term);
    let message = Content::Message(message("1"));
    let parked = [0, 1].map(|place| entry(&message, None, String::new(), 1, place));
    let ids = parked.each_ref().map(|change| change.id);
    store.save(term, &standing(), &parked).await.unwrap();
    let before = store.parked("shop", false, -1, 10).await.unwrap();
    let old = Term {
        epoch: term.epoch - 1,
        ..term.clone()
    };
    for late in [
        store.mark_rest(&old, &ids).await,
        store.unmark(&old, &ids, "no").await,
        store.unpark(&old, &ids).await,
    ] {
        assert!(matches!(late, Err(PositionError::Deposed)), "{late:?}");
    }
    assert_eq!(store.parked("shop", false, -1, 10).await.unwrap(), before);
    store.mark_rest(term, &ids).await.unwrap();
    assert_eq!(store.parked("shop", true, -1, 10).await.unwrap().len(), 2);
    store.unmark(term, &ids, "no").await.unwrap();
    let unmarked = store.parked("shop", false, -1, 10).await.unwrap();
    let reasons: Vec<_> = unmarked.iter().map(|head| head.reason.as_deref()).collect();
    assert_eq!(reasons, [Some("no"), None]);
    store.unpark(term, &ids).await.unwrap();
    assert_eq!(stage.count("final_capture_parked").await, 0);
}

#[tokio::test]
async fn a_change_of_a_parked_key_waits_and_the_others_go_on() {
    let stage = Stage::with(PlaceOfPosition::Same).await;
    let parked = entry(&Content::Message(message("1")), None, String::new(), 1, 0);
    let (store, term) = (&stage.positions, &stage.term);
    store.save(term, &standing(), &[parked]).await.unwrap();
    stage
        .run(1, vec![item("1"), item("2"), item("1")])
        .await
        .unwrap();
    assert_eq!(stage.count("final_log").await, 1);
    assert_eq!(stage.count("final_capture_parked").await, 3);
}

/// One of its messages without the others would be another change.
#[tokio::test]
async fn a_change_of_several_messages_is_parked_as_a_whole() {
    let stage = Stage::with(PlaceOfPosition::Same).await;
    let delete = Item {
        ends_change: false,
        ..item("1")
    };
    let large = Message::new("cdc.shop.holes", vec![b'x'; MOST + 1]).with_key("2");
    let insert = Item {
        content: Content::Message(large),
        ..item("2")
    };
    let items = vec![item("3"), delete, insert, item("4")];
    stage.run(0, items).await.unwrap();
    assert_eq!(stage.count("final_log").await, 2);
    let parked = stage.positions.parked("shop", false, -1, 10).await.unwrap();
    let keys: Vec<_> = parked.iter().map(|head| head.key.as_deref()).collect();
    assert_eq!(keys, [Some("1"), Some("2")]);
}

/// With the position elsewhere no epoch guards the log.
#[tokio::test]
async fn a_reader_writes_nothing_once_its_lease_may_be_over() {
    let stage = Stage::with(|positions| PlaceOfPosition::Apart(positions)).await;
    stage.vitals.renewed(Some(Instant::now()));
    let late = stage.run(0, vec![item("1")]).await;
    assert!(matches!(late, Err(TargetEnd::Deposed)), "{late:?}");
    assert_eq!(stage.count("final_log").await, 0);
    stage.vitals.renewed(Some(Instant::now() + LEASE));
    stage.run(0, vec![item("1")]).await.unwrap();
    assert_eq!(stage.count("final_log").await, 1);
}

#[tokio::test]
async fn a_save_that_fails_elsewhere_is_tried_again_without_the_messages() {
    let stage = Stage::with(|positions| PlaceOfPosition::Apart(positions)).await;
    let broken = "CREATE TABLE broken (id INT); INSERT INTO broken VALUES (1); \
                  CREATE TRIGGER no BEFORE UPDATE OF saves ON final_captures WHEN EXISTS (SELECT 1 FROM broken) \
                  BEGIN SELECT RAISE(ABORT, 'the disk is full'); END";
    sqlx::raw_sql(broken).execute(&stage.pool).await.unwrap();
    let mended = async {
        while stage.vitals.copy().target_trouble.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sqlx::query("DELETE FROM broken")
            .execute(&stage.pool)
            .await
            .unwrap();
    };

    let (ended, ()) = tokio::join!(stage.run(0, vec![item("1"), item("2")]), mended);

    ended.unwrap();
    assert_eq!(stage.count("final_log").await, 2);
}
