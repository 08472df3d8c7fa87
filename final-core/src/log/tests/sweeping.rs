//! Messages that trimming has passed over, because no group had subscribed their topic.

use std::time::Duration;

use sqlx::{Sqlite, SqlitePool, sqlite::SqliteConnectOptions};

use crate::{
    log::{tables::Log, tuning::Keep},
    scratch,
};

#[tokio::test]
async fn a_message_that_was_passed_over_stays_until_the_service_that_subscribes_it_has_it() {
    let options = SqliteConnectOptions::new().filename(scratch::database());
    let pool = SqlitePool::connect_with(options.create_if_missing(true))
        .await
        .unwrap();
    let log = Log::<Sqlite>::new(pool.clone());
    log.migrate().await.unwrap();
    let rows = "\
        INSERT INTO final_log \
            (message_id, topic, payload, content_type, durable, lane, weight, created_at) \
        VALUES (x'00', 'shipped', x'', '', 1, 0, 0, 0); \
        UPDATE final_log_state SET trimmed = 1; \
        INSERT INTO final_log_topics VALUES ('shop', 0, 'shipped', 0); \
        INSERT INTO final_log_lanes (group_name, stream, lane, epoch, read_to, settled_to) \
        VALUES ('shop', 0, 0, 1, 0, 0)";
    sqlx::raw_sql(rows).execute(&pool).await.unwrap();
    let keep = Keep {
        after_read: Duration::ZERO,
        unread: None,
    };
    let left = async || {
        log.sweep(0, keep, |_, _| false).await.unwrap();
        let rows = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM final_log");
        rows.fetch_one(&pool).await.unwrap()
    };

    assert_eq!(left().await, 1);
    let settled = "UPDATE final_log_lanes SET settled_to = 1";
    sqlx::query(settled).execute(&pool).await.unwrap();
    assert_eq!(left().await, 0);
}
