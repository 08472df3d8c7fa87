use std::time::Duration;

use sqlx::{Sqlite, SqlitePool, sqlite::SqlitePoolOptions};
use tokio::{sync::mpsc, time::Instant};
use uuid::Uuid;

use super::*;
use crate::{
    engine::vitals::Vitals,
    position::{Position, SourceIdentity, SourcePoint},
    target::{Content, Item, Lot, Mark, OnPoison, parked::entry},
};

const LEASE: Duration = Duration::from_secs(60);

async fn count(pool: &SqlitePool, table: &str) -> i64 {
    let count = format!("SELECT COUNT(*) FROM {table}");
    let count = sqlx::query_scalar(sqlx::AssertSqlSafe(count));
    count.fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn a_lot_whose_answer_was_lost_is_done_also_if_it_has_parked_messages() {
    let file = final_tests::sqlite_file().unwrap();
    let pool = SqlitePoolOptions::new().connect(&file.url()).await.unwrap();
    let positions = Arc::new(SqlPositions::<Sqlite>::new(pool.clone()));
    let place = PlaceOfPosition::Same(Arc::clone(&positions));
    let outlet = LogOutlet::new(SqlBroker::new(pool.clone()), place);
    outlet.migrate().await.unwrap();
    let taken = positions.take("shop", Uuid::now_v7(), LEASE).await;
    let term = taken.unwrap().unwrap().term;
    let standing = Standing {
        position: Position {
            identity: SourceIdentity("script:1".into()),
            point: SourcePoint::Lsn(10),
            partial: None,
        },
        at: None,
        number: 1,
    };
    let messages = [Message::new("cdc.shop.holes", "1").with_key("1")];
    let behind = Content::Message(Message::new("cdc.shop.holes", "2").with_key("2"));
    let parked = [entry(&behind, None, String::new(), 1, 1)];
    // The second time because the answer to the first COMMIT did not come.
    for _ in 0..2 {
        let written = outlet.write(&term, &messages, &parked, &standing).await;
        written.unwrap();
    }
    for table in ["final_log", "final_capture_parked"] {
        assert_eq!(count(&pool, table).await, 1, "{table}");
    }
}

#[tokio::test]
async fn a_parked_message_whose_answer_was_lost_comes_back_once() {
    let file = final_tests::sqlite_file().unwrap();
    let pool = SqlitePoolOptions::new().connect(&file.url()).await.unwrap();
    let positions = Arc::new(SqlPositions::<Sqlite>::new(pool.clone()));
    let place = PlaceOfPosition::Same(Arc::clone(&positions));
    let outlet = LogOutlet::new(SqlBroker::new(pool.clone()), place);
    outlet.migrate().await.unwrap();
    let taken = positions.take("shop", Uuid::now_v7(), LEASE).await;
    let term = taken.unwrap().unwrap().term;
    let standing = Standing {
        position: Position {
            identity: SourceIdentity("script:1".into()),
            point: SourcePoint::Lsn(10),
            partial: None,
        },
        at: None,
        number: 1,
    };
    let message = Message::new("cdc.shop.holes", "1").with_key("1");
    let parked = entry(
        &Content::Message(message.clone()),
        None,
        String::new(),
        1,
        0,
    );
    let (messages, ids) = ([message], [parked.id]);
    positions.save(&term, &standing, &[parked]).await.unwrap();
    // The second time because the answer to the first COMMIT did not come.
    for _ in 0..2 {
        outlet.put_back(&term, &messages, &ids).await.unwrap();
        assert_eq!(count(&pool, "final_log").await, 1);
    }
    // Nor does a reader put anything back whose term is over.
    let old = Term {
        epoch: term.epoch - 1,
        ..term
    };
    let late = outlet.put_back(&old, &messages, &ids).await;
    assert!(matches!(late, Err(WriteError::Deposed)), "{late:?}");
    assert_eq!(count(&pool, "final_log").await, 1);
}

/// With the position elsewhere no epoch guards the log.
#[tokio::test]
async fn a_reader_writes_nothing_once_its_lease_may_be_over() {
    let file = final_tests::sqlite_file().unwrap();
    let pool = SqlitePoolOptions::new().connect(&file.url()).await.unwrap();
    let positions = Arc::new(SqlPositions::<Sqlite>::new(pool.clone()));
    let store = Arc::clone(&positions) as Arc<dyn PositionStore>;
    let outlet = LogOutlet::new(SqlBroker::new(pool.clone()), PlaceOfPosition::Apart(store));
    outlet.migrate().await.unwrap();
    let taken = positions.take("shop", Uuid::now_v7(), LEASE).await;
    let term = taken.unwrap().unwrap().term;
    let vitals = Arc::new(Vitals::new());
    let run = async || {
        let (lots, given) = mpsc::channel(1);
        let end = Mark {
            point: SourcePoint::Lsn(10),
            partial: None,
            at: None,
        };
        let message = Message::new("cdc.shop.holes", "1").with_key("1");
        let item = Item {
            content: Content::Message(message),
            mark: end.clone(),
            ends_change: true,
        };
        let lot = Lot {
            items: vec![item],
            end,
            rows: 1,
        };
        lots.try_send(lot).unwrap();
        let job = Job {
            term: term.clone(),
            identity: SourceIdentity("script:1".into()),
            number: 0,
            lots: given,
            vitals: Arc::clone(&vitals),
            on_poison: OnPoison::Park,
            most_parked: 100,
            max_message_bytes: 1_000,
        };
        drop(lots);
        outlet.run(job).await
    };
    vitals.renewed(Some(Instant::now()));
    let late = run().await;
    assert!(matches!(late, Err(TargetEnd::Deposed)), "{late:?}");
    assert_eq!(count(&pool, "final_log").await, 0);
    vitals.renewed(Some(Instant::now() + LEASE));
    run().await.unwrap();
    assert_eq!(count(&pool, "final_log").await, 1);
}
