//! Cases that only SQLite has.

use final_core::{Bus, Error, MemoryBroker, SqlBroker, SqliteBus};
use sqlx::{Sqlite, SqlitePool, sqlite::SqlitePoolOptions};

use super::{after_connect, bus_on, pool_of_one, written};
use crate::{database::Database, house::House, transport::Transport};

crate::suite!(
    on sqlx::Sqlite, Memory:
    everywhere: [
        is_an_error_in_a_session_that_only_reads,
    ],
    with an outbox: [
        is_an_error_while_an_open_transaction_has_the_lock,
    ],
);

async fn is_an_error_in_a_session_that_only_reads<T: Transport>(house: House<Sqlite, T>) {
    let pool = pool_of_one(&house.pool, after_connect("PRAGMA query_only = 1")).await;
    let bus = bus_on(&house, pool).await;
    let result = bus.publish(house.topic("placed"), &1_i64).await;
    assert!(matches!(result, Err(Error::Database { .. })), "{result:?}");
    assert_eq!(written(&house).await, 0);
}

async fn is_an_error_while_an_open_transaction_has_the_lock<T: Transport>(house: House<Sqlite, T>) {
    let pool = pool_of_one(&house.pool, |options| options).await;
    let bus = bus_on(&house, pool.clone()).await;
    let mut conn = pool.acquire().await.expect("a connection");
    let begun = Sqlite::raw(&mut conn, "BEGIN IMMEDIATE").await;
    begun.expect("begun");
    drop(conn);

    let result = bus.publish(house.topic("placed"), &1_i64).await;

    assert!(matches!(result, Err(Error::Database { .. })), "{result:?}");
    assert_eq!(written(&house).await, 0);
}

/// A database in memory has no other connection.
async fn says_so(bus: impl Fn(SqlitePool) -> SqliteBus) {
    let one = SqlitePoolOptions::new().max_connections(1);
    let pool = one.connect("sqlite::memory:").await.expect("opened");
    let bus = bus(pool.clone());
    bus.migrate().await.expect("migrate");
    let mut conn = pool.acquire().await.expect("a connection");
    Sqlite::raw(&mut conn, "BEGIN").await.expect("begun");
    drop(conn);

    let result = bus.publish("placed", &1_i64).await;
    assert!(matches!(result, Err(Error::OpenTransaction)), "{result:?}");

    let mut conn = pool.acquire().await.expect("a connection");
    Sqlite::raw(&mut conn, "COMMIT").await.expect("ended");
    drop(conn);
    bus.publish("placed", &1_i64).await.expect("published");
}

#[tokio::test]
async fn an_open_transaction_in_memory_is_an_error() {
    says_so(|pool| Bus::new("shop", pool, MemoryBroker::new())).await;
}

#[tokio::test]
async fn an_open_transaction_in_memory_is_an_error_of_the_log_too() {
    says_so(|pool| Bus::new("shop", pool.clone(), SqlBroker::new(pool))).await;
}
