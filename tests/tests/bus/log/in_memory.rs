//! SQLite's `:memory:`, whose connections all share one database.

use final_core::{Bus, SqlBroker, SqliteBus};
use sqlx::{SqlitePool, sqlite::SqlitePoolOptions};

use super::{noting, publish, sorted};
use crate::house::Notes;

async fn works(pool: SqlitePool) {
    let bus: SqliteBus = Bus::new("shop", pool.clone(), SqlBroker::new(pool));
    bus.migrate().await.expect("migrate");
    publish(&bus, "placed", 0..50).await;
    let notes = Notes::default();
    bus.start(noting(&notes, &["placed"])).await.expect("start");

    let publishes = (50..100_i64).map(|n| {
        let bus = bus.clone();
        tokio::spawn(async move { bus.publish("placed", &n).await })
    });
    for publish in publishes.collect::<Vec<_>>() {
        publish.await.expect("joined").expect("published");
    }
    notes.reach(100).await;

    bus.shutdown().await.expect("shutdown");
    assert_eq!(sorted(notes.numbers()), Vec::from_iter(0..100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_memory_works_with_one_connection() {
    let one = SqlitePoolOptions::new().max_connections(1);
    works(one.connect("sqlite::memory:").await.expect("opened")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_memory_works_with_many_connections() {
    works(
        SqlitePool::connect("sqlite::memory:")
            .await
            .expect("opened"),
    )
    .await;
}
