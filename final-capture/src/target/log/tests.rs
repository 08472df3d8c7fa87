use std::time::Duration;

use sqlx::{Sqlite, sqlite::SqlitePoolOptions};
use uuid::Uuid;

use super::*;
use crate::{
    position::{Position, SourceIdentity, SourcePoint},
    target::{Content, parked::entry},
};

#[tokio::test]
async fn a_lot_whose_answer_was_lost_is_done_also_if_it_has_parked_messages() {
    let file = final_tests::sqlite_file().unwrap();
    let pool = SqlitePoolOptions::new().connect(&file.url()).await.unwrap();
    let positions = Arc::new(SqlPositions::<Sqlite>::new(pool.clone()));
    let place = PlaceOfPosition::Same(Arc::clone(&positions));
    let outlet = LogOutlet::new(SqlBroker::new(pool.clone()), place);
    outlet.migrate().await.unwrap();
    let lease = Duration::from_secs(60);
    let taken = positions.take("shop", Uuid::now_v7(), lease).await;
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
        let count = format!("SELECT COUNT(*) FROM {table}");
        let count = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(count));
        assert_eq!(count.fetch_one(&pool).await.unwrap(), 1, "{table}");
    }
}
