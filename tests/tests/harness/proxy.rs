//! The proxy.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use final_tests::{Proxy, eventually, pg_database};
use sqlx::{Connection, PgConnection};
use tokio::{net::TcpStream, time::timeout};

use crate::{A_WHILE, SOON};

/// A fresh database behind a proxy, and a connection through it.
async fn behind_a_proxy() -> (Proxy, String, PgConnection) {
    let direct = pg_database().await.unwrap();
    let proxy = Proxy::to(&direct).await.unwrap();
    let connection = PgConnection::connect(&proxy.url(&direct)).await.unwrap();
    (proxy, direct, connection)
}

#[tokio::test]
async fn a_cut_ends_open_connections_and_serves_new_ones() {
    let (proxy, direct, mut connection) = behind_a_proxy().await;
    assert_eq!(proxy.open(), 1);
    proxy.cut();
    assert!(timeout(SOON, connection.ping()).await.unwrap().is_err());
    eventually("no connection is open", SOON, async || proxy.open() == 0).await;
    PgConnection::connect(&proxy.url(&direct))
        .await
        .unwrap()
        .ping()
        .await
        .unwrap();
    assert_eq!(proxy.taken(), 2);
}

#[tokio::test]
async fn a_stalled_wire_loses_nothing() {
    let (proxy, _, mut connection) = behind_a_proxy().await;
    proxy.stall();
    let mut ping = Box::pin(connection.ping());
    assert!(
        timeout(A_WHILE, &mut ping).await.is_err(),
        "something came through"
    );
    proxy.resume();
    timeout(SOON, ping).await.unwrap().unwrap();
}

#[tokio::test]
async fn with_answers_stalled_requests_are_still_carried_out() {
    let (proxy, direct, mut connection) = behind_a_proxy().await;
    let mut witness = PgConnection::connect(&direct).await.unwrap();
    proxy.stall_answers();
    let create = sqlx::raw_sql("CREATE TABLE done ()").execute(&mut connection);
    assert!(
        timeout(A_WHILE, create).await.is_err(),
        "an answer came through"
    );
    eventually("the table is there", SOON, async || {
        let done = sqlx::raw_sql("SELECT FROM done")
            .execute(&mut witness)
            .await;
        done.map_err(|error| error.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_refusing_wire_keeps_open_connections() {
    let (proxy, _, mut connection) = behind_a_proxy().await;
    proxy.refuse();
    eventually(
        "new connections are refused",
        SOON,
        async || match TcpStream::connect(("127.0.0.1", proxy.port())).await {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await;
    connection.ping().await.unwrap();
    proxy.accept().unwrap();
    TcpStream::connect(("127.0.0.1", proxy.port()))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_slow_wire_takes_its_time_until_it_is_resumed() {
    let (proxy, _, mut connection) = behind_a_proxy().await;
    let delay = Duration::from_millis(150);
    proxy.delay(delay);
    let start = Instant::now();
    connection.ping().await.unwrap();
    // The delay applies to both directions.
    assert!(start.elapsed() >= 2 * delay, "{:?}", start.elapsed());
    proxy.resume();
    // On a machine with other work a single one may be late.
    eventually("a ping without a delay", SOON, async || {
        let start = Instant::now();
        connection.ping().await.unwrap();
        match start.elapsed() {
            quick if quick < delay => Ok(()),
            slow => Err(slow),
        }
    })
    .await;
}

#[tokio::test]
async fn a_narrow_wire_carries_no_more_than_its_limit() {
    let (proxy, _, mut connection) = behind_a_proxy().await;
    proxy.limit(100_000);
    let (start, before) = (Instant::now(), proxy.carried());
    let text: String = sqlx::query_scalar("SELECT repeat('x', 50000)")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(text.len(), 50_000);
    assert!(proxy.carried() - before >= 50_000);
    // The limit may let the last tenth of a second through at once.
    assert!(
        start.elapsed() >= Duration::from_millis(390),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_direction_can_be_closed_alone() {
    let (proxy, direct, mut connection) = behind_a_proxy().await;
    proxy.close_requests();
    assert!(timeout(SOON, connection.ping()).await.unwrap().is_err());
    let mut connection = PgConnection::connect(&proxy.url(&direct)).await.unwrap();
    connection.ping().await.unwrap();
    proxy.close_answers();
    assert!(timeout(SOON, connection.ping()).await.unwrap().is_err());
}
