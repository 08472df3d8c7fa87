//! The log in the database, after answers that got lost.

use std::time::Duration;

use final_core::{Bus, Payload, Router, SqlBroker, SqliteBus};
use final_tests::{WorkDir, eventually};
use sqlx::{SqlitePool, sqlite::SqliteConnectOptions};

use crate::shop::SOON;

/// A claim was carried out and its answer got lost with the connection; or lanes were given away and
/// the server, back after a crash, does not know it any more.
#[tokio::test]
async fn lanes_that_are_ours_without_our_knowing_are_worked_at() {
    let dir = WorkDir::new("log").expect("a folder");
    let file = SqliteConnectOptions::new().filename(dir.join("log.db"));
    let pool = SqlitePool::connect_with(file.create_if_missing(true)).await;
    let pool = pool.expect("SQLite");
    let bus: SqliteBus = Bus::new("mail", pool.clone(), SqlBroker::new(pool.clone()));
    let (sender, mut handled) = tokio::sync::mpsc::unbounded_channel();
    let router = Router::new().route("sold", move |Payload(number): Payload<u64>| {
        let sender = sender.clone();
        async move { sender.send(number).map_err(|_| "the test is over") }
    });
    bus.start(router).await.expect("a start");
    eventually("all lanes", SOON, async || {
        let owned = "SELECT COUNT(member) FROM final_log_lanes";
        let owned: i64 = sqlx::query_scalar(owned)
            .fetch_one(&pool)
            .await
            .unwrap_or(0);
        (owned == 16).then_some(()).ok_or(format!("{owned} lanes"))
    })
    .await;

    sqlx::query("UPDATE final_log_lanes SET epoch = epoch + 1")
        .execute(&pool)
        .await
        .expect("the claims nobody heard of");
    for number in 0..100 {
        bus.publish("sold", &number).await.expect("a message");
    }

    let mut left: std::collections::BTreeSet<u64> = (0..100).collect();
    while !left.is_empty() {
        let next = tokio::time::timeout(SOON + Duration::from_secs(10), handled.recv()).await;
        left.remove(&next.expect("a message in time").expect("a handler"));
    }
    bus.shutdown().await.expect("a shutdown");
}
