//! The connection: slow targets, dead peers, restarts, and reads that are dropped.

use std::time::Duration;

use final_capture::{
    source::{Event, Source, SourceError},
    value::Value,
};
use final_tests::proxy::Proxy;

use super::shop::{LIMIT, Shop, Stream, server};

async fn holes() -> Shop {
    let shop = Shop::new().await;
    shop.run("CREATE TABLE shop.holes (id int PRIMARY KEY, content text)")
        .await;
    shop
}

fn ids(events: &[Event]) -> Vec<i64> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Row(row) => match row.after.as_ref()?.first()? {
                Value::Int(id) => Some(*id),
                _ => None,
            },
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_large_transaction_waits_at_the_server_while_the_target_is_slow() {
    let shop = holes().await;
    let name = shop.url.rsplit_once('/').unwrap().1;
    shop.run(&format!(
        "ALTER DATABASE {name} SET wal_sender_timeout = '8s'"
    ))
    .await;
    let proxy = Proxy::to(&shop.url).await.unwrap();
    let source = shop
        .source_at(&proxy.url(&shop.url))
        .silence(Duration::from_secs(8));
    let mut stream = Stream::of(source.open(&shop.wanted, None).await.unwrap());
    shop.run("INSERT INTO shop.holes SELECT i, repeat('x', 300) FROM generate_series(1, 300000) i")
        .await;
    // Nobody reads for longer than the server waits for a sign of life, and than we wait for one of the server.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let carried = proxy.carried();
    assert!(
        carried < 30 << 20,
        "{carried} bytes came before any was taken, of about 100 MB"
    );
    let mut seen = Vec::new();
    while seen.len() < 300_000 {
        let events = stream.some().await.unwrap();
        seen.extend(ids(&events));
    }
    assert!(seen.into_iter().eq(1..=300_000));
    stream.close().await;
}

#[tokio::test]
async fn a_read_that_is_dropped_loses_nothing() {
    let shop = holes().await;
    let mut stream = shop.open(None).await;
    shop.run("INSERT INTO shop.holes SELECT i, repeat('x', 200) FROM generate_series(1, 30000) i")
        .await;
    let mut events = Vec::new();
    let deadline = tokio::time::Instant::now() + LIMIT;
    while ids(&events).len() < 30_000 {
        assert!(tokio::time::Instant::now() < deadline);
        let read = stream.reader.read(&mut events, 1);
        let _ = tokio::time::timeout(Duration::from_micros(fastrand::u64(0..300)), read).await;
    }
    assert!(ids(&events).into_iter().eq(1..=30_000));
    stream.close().await;
}

#[tokio::test]
async fn a_server_that_falls_silent_is_noticed() {
    let shop = holes().await;
    let proxy = Proxy::to(&shop.url).await.unwrap();
    let source = shop
        .source_at(&proxy.url(&shop.url))
        .silence(Duration::from_secs(3));
    let mut stream = Stream::of(source.open(&shop.wanted, None).await.unwrap());
    proxy.stall();
    let error = stream.failure().await;
    assert!(matches!(error, SourceError::Away(_)), "{error}");
    assert!(error.to_string().contains("silent"), "{error}");
}

#[tokio::test]
async fn an_idle_server_is_not_taken_for_a_dead_one() {
    let shop = holes().await;
    let source = shop.source().silence(Duration::from_secs(3));
    let mut stream = Stream::of(source.open(&shop.wanted, None).await.unwrap());
    let mut events = Vec::new();
    let end = tokio::time::Instant::now() + Duration::from_secs(5);
    loop {
        let read = stream.reader.read(&mut events, 1);
        match tokio::time::timeout_at(end, read).await {
            Ok(read) => read.unwrap(),
            Err(_) => break,
        }
    }
    stream.close().await;
}

#[tokio::test]
async fn a_stream_that_the_server_ended_goes_on_where_it_was_saved() {
    let shop = holes().await;
    let mut stream = shop.open(None).await;
    shop.run("INSERT INTO shop.holes VALUES (1)").await;
    stream.transaction().await;
    let position = stream.position();
    shop.run(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
         WHERE database = current_database()",
    )
    .await;
    let error = stream.failure().await;
    assert!(matches!(error, SourceError::Away(_)), "{error}");
    assert!(stream.some().await.is_err(), "nothing comes after an error");
    shop.run("INSERT INTO shop.holes VALUES (2)").await;
    let mut stream = shop.open(Some(&position)).await;
    let read = stream.transaction().await;
    assert_eq!(ids(&read.events), [2]);
    stream.close().await;
}

#[tokio::test]
async fn a_server_can_be_shut_down_while_nothing_is_saved_and_killed_and_the_stream_goes_on() {
    let server = server(&["fsync=on"]).await;
    let shop = Shop::at(&server.url()).await;
    shop.run("CREATE TABLE shop.holes (id int PRIMARY KEY, content text)")
        .await;
    let source = shop.source().look_each(Duration::from_millis(200));
    let mut stream = Stream::of(source.open(&shop.wanted, None).await.unwrap());
    let position = stream.position();
    shop.run("INSERT INTO shop.holes VALUES (1)").await;
    stream.transaction().await;
    shop.pool.close().await;
    let stopped = tokio::time::timeout(Duration::from_secs(20), server.stop()).await;
    stopped.expect("the server waits for us").unwrap();
    let error = stream.failure().await;
    assert!(matches!(error, SourceError::Away(_)), "{error}");
    let error = shop.try_open(Some(&position)).await.unwrap_err();
    assert!(matches!(error, SourceError::Away(_)), "{error}");

    server.start_again().await.unwrap();
    let mut stream = shop.open(Some(&position)).await;
    assert_eq!(ids(&stream.transaction().await.events), [1]);
    server.kill9();
    let error = stream.failure().await;
    assert!(matches!(error, SourceError::Away(_)), "{error}");
    server.start_again().await.unwrap();
    let mut stream = shop.open(Some(&position)).await;
    assert_eq!(ids(&stream.transaction().await.events), [1]);
    stream.close().await;
}

#[tokio::test]
async fn a_change_over_the_limit_stops_the_stream_and_is_not_skipped() {
    let shop = holes().await;
    let source = shop.source().most_message(100_000);
    let mut stream = Stream::of(source.open(&shop.wanted, None).await.unwrap());
    shop.run("INSERT INTO shop.holes VALUES (1, 'small')").await;
    stream.transaction().await;
    let position = stream.position();
    shop.run("INSERT INTO shop.holes VALUES (2, repeat('x', 200000))")
        .await;
    match stream.failure().await {
        SourceError::Unreadable { after, what } => {
            assert_eq!(after, position.point);
            assert!(what.contains("200") && what.contains("100000"), "{what}");
        }
        other => panic!("{other}"),
    }
    let mut stream = shop.open(Some(&position)).await;
    assert_eq!(ids(&stream.transaction().await.events), [2]);
    stream.close().await;
}
