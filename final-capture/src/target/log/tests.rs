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

/// A reader that has the lease, whose log is one SQLite file.
struct Stage {
    pool: SqlitePool,
    positions: Arc<SqlPositions<Sqlite>>,
    outlet: LogOutlet<Sqlite>,
    term: Term,
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
        Self {
            term: taken.unwrap().unwrap().term,
            pool,
            positions,
            outlet,
            _file: file,
        }
    }

    async fn count(&self, table: &str) -> i64 {
        let count = format!("SELECT COUNT(*) FROM {table}");
        let count = sqlx::query_scalar(sqlx::AssertSqlSafe(count));
        count.fetch_one(&self.pool).await.unwrap()
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

/// With the position elsewhere no epoch guards the log.
#[tokio::test]
async fn a_reader_writes_nothing_once_its_lease_may_be_over() {
    let stage = Stage::with(|positions| PlaceOfPosition::Apart(positions)).await;
    let (outlet, term) = (&stage.outlet, &stage.term);
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
    assert_eq!(stage.count("final_log").await, 0);
    vitals.renewed(Some(Instant::now() + LEASE));
    run().await.unwrap();
    assert_eq!(stage.count("final_log").await, 1);
}
