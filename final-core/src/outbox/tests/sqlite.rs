//! What only SQLite has: its journal, databases in memory, and one writer at a time.

use sqlx::{Sqlite, SqlitePool};

use super::calls::Calls;
use super::{
    Outbox,
    house::{LEASE, shop},
};
use crate::database::Driver;

#[tokio::test]
async fn the_file_is_switched_to_wal() {
    let outbox = Outbox::<Sqlite>::new().await;

    let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&outbox.pool)
        .await
        .unwrap();

    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn a_database_in_memory_is_shared_with_its_only_connection() {
    let pool = sqlx::pool::PoolOptions::new()
        .max_connections(1)
        .connect_lazy("sqlite::memory:")
        .unwrap();
    let relay: SqlitePool = Sqlite::relay_pool(&pool);

    Sqlite::migrate(&relay, &shop()).await.unwrap();

    let s = Sqlite::locate(&relay, &shop()).await.unwrap();
    assert_eq!(Sqlite::backlog(&pool, &s).await.unwrap().pending(), 0);
}

#[tokio::test]
async fn an_empty_claim_does_not_wait_for_a_callers_transaction() {
    let outbox = Outbox::<Sqlite>::new().await;
    let _open = outbox.begin().await;

    // One that waits is refused in the end, as the transaction stays open: that would be an error.
    assert!(outbox.claim(10).await.is_empty());
}

#[tokio::test]
async fn a_transaction_of_the_bus_may_read_first_and_write_later() {
    let outbox = Outbox::<Sqlite>::new().await;

    let all = (0..8).map(|_| {
        let (pool, table) = (outbox.pool.clone(), Sqlite::table(&outbox.s).to_owned());
        tokio::spawn(async move {
            for _ in 0..20 {
                let mut tx = Sqlite::begin(&pool).await?;
                let read = format!("SELECT COUNT(*) FROM {table}");
                sqlx::query(sqlx::AssertSqlSafe(read))
                    .execute(&mut *tx)
                    .await?;
                let write = format!("UPDATE {table} SET attempts = 0");
                sqlx::query(sqlx::AssertSqlSafe(write))
                    .execute(&mut *tx)
                    .await?;
                tx.commit().await?;
            }
            Ok::<_, sqlx::Error>(())
        })
    });

    for result in futures::future::join_all(all).await {
        result.unwrap().unwrap();
    }
}

#[tokio::test]
async fn there_is_no_startup_lock() {
    let outbox = Outbox::<Sqlite>::new().await;

    let door = crate::outbox::Outbox::new("my-shop".to_owned(), outbox.pool.clone(), LEASE);
    let purge = door.begin_purge().await.unwrap();

    // One that holds the only writer's lock would keep this one out.
    outbox.fill("order.placed", 1).await;
    assert_eq!(purge.run().await.unwrap(), 1);
}
