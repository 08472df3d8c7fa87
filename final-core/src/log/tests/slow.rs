//! Batches that take longer than a statement may, on MariaDB.

use super::one_by_one::fresh;
use crate::log::tables::{Log, scheduled::Promotion};

/// Each row takes five seconds to write, and a statement may take twelve.
#[tokio::test]
async fn scheduled_messages_that_take_too_long_together_are_moved_in_smaller_parts() {
    let pool = fresh().await;
    let version: String = sqlx::query_scalar("SELECT VERSION()")
        .fetch_one(&pool)
        .await
        .unwrap();
    if !version.contains("MariaDB") {
        // MySQL ends no statement of that kind.
        return;
    }
    let log = Log::new(pool.clone());
    log.migrate().await.unwrap();
    let due = "\
        INSERT INTO final_log_scheduled \
            (message_id, topic, payload, content_type, durable, lane, weight, created_at, due_at) \
        VALUES ('a', 'placed', '', '', 1, 0, 0, 0, 0), ('b', 'placed', '', '', 1, 0, 0, 0, 0), \
            ('c', 'placed', '', '', 1, 0, 0, 0, 0); \
        CREATE TRIGGER slowly BEFORE INSERT ON final_log FOR EACH ROW DO SLEEP(5)";
    sqlx::raw_sql(due).execute(&pool).await.unwrap();

    let (mut promotion, mut moved) = (Promotion::new(), 0);
    assert!(log.promote(&mut promotion).await.unwrap().is_none());
    assert_eq!(log.give_ups(), 0, "the server has ended it");
    // On a busy machine one row can take too long as well.
    for _ in 0..10 {
        if let Ok(Some(some)) = log.promote(&mut promotion).await {
            assert!(some.moved <= 1, "fewer at once");
            moved += some.moved;
        }
        if moved == 3 {
            break;
        }
    }
    assert_eq!(moved, 3);
}
