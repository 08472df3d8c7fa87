//! The rows about held messages, in SQLite.

use std::sync::Arc;

use sqlx::{Sqlite, SqlitePool, sqlite::SqliteConnectOptions};
use uuid::Uuid;

use crate::{
    log::{
        progress::{
            held::{HeldWrite, Wish},
            rows::LaneId,
        },
        tables::{Log, session::Session},
    },
    scratch,
};

const OURS: LaneId = LaneId { stream: 0, lane: 1 };

struct Table {
    pool: SqlitePool,
    log: Arc<Log<Sqlite>>,
}

impl Table {
    async fn new() -> Self {
        let options = SqliteConnectOptions::new().filename(scratch::database());
        let pool = SqlitePool::connect_with(options.create_if_missing(true))
            .await
            .unwrap();
        let log = Log::new(pool.clone());
        log.migrate().await.unwrap();
        let lanes = "INSERT INTO final_log_lanes (group_name, stream, lane, epoch, read_to, settled_to) \
             VALUES ('shop', 0, 0, 1, 0, 0), ('shop', 0, 1, 1, 0, 0)";
        sqlx::raw_sql(lanes).execute(&pool).await.unwrap();
        Self {
            pool,
            log: Arc::new(log),
        }
    }

    /// Messages of a lane that hold their topics, after a sequence number.
    async fn hold(&self, lane: i64, after: i64, rows: i64, wish: i64) {
        let numbers =
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?3)";
        let log = format!(
            "{numbers} INSERT INTO final_log \
                 (seq, message_id, topic, payload, content_type, durable, lane, weight, created_at) \
             SELECT ?2 + i, x'00', 'placed', x'', '', 1, ?1, 0, 0 FROM n"
        );
        let held = format!(
            "{numbers} INSERT INTO final_log_held \
                 (group_name, seq, message_id, topic, stream, lane, scope, reason, attempts, times, held_since, \
                  retries, retry_at, wish) \
             SELECT 'shop', ?2 + i, x'00', 'placed', 0, ?1, 1, '', 1, 1, 0, 1, 0, ?4 FROM n"
        );
        for text in [log, held] {
            let insert = sqlx::query(sqlx::AssertSqlSafe(text));
            let insert = insert.bind(lane).bind(after).bind(rows).bind(wish);
            insert.execute(&self.pool).await.unwrap();
        }
    }

    fn session(&self) -> Session<Sqlite> {
        Session::new(Arc::clone(&self.log))
    }
}

/// Where everything fails, each of many members holds thousands.
#[tokio::test]
async fn what_is_held_in_a_lane_is_found_behind_what_others_hold() {
    let table = Table::new().await;
    table.hold(0, 0, 20_001, 2).await;
    table.hold(1, 20_001, 3, 1).await;
    let (ours, mut session) = ([20_002, 20_003, 20_004], table.session());
    let is_ours = |lane| lane == OURS;

    let held = table.log.held("shop", is_ours).await.unwrap();
    assert_eq!(held.iter().map(|known| known.seq).collect::<Vec<_>>(), ours);

    let wishes = session.wishes("shop", is_ours).await.unwrap();
    assert_eq!(wishes, ours.map(|seq| (seq, Wish::Retry)));

    let topics = session.held_topics("shop", |lane| !is_ours(lane));
    let topics = topics.await.unwrap();
    assert_eq!(topics, ours.map(|seq| ("placed".to_owned(), seq)));
}

/// An operator has skipped it, or its time to live is over, and the database refuses its letter.
#[tokio::test]
async fn a_message_that_is_done_but_for_its_letter_holds_its_topic_in_no_other_member() {
    let table = Table::new().await;
    table.hold(1, 0, 2, 2).await;
    let mut session = table.session();

    let done = [HeldWrite::Open(1)];
    session
        .write_held("shop", Uuid::nil(), &done)
        .await
        .unwrap();
    let topics = session.held_topics("shop", |_| false).await.unwrap();
    assert_eq!(topics, [("placed".to_owned(), 2)]);
    let held = table.log.held("shop", |_| true).await.unwrap();
    assert_eq!(held.len(), 2, "its row stays");
}
