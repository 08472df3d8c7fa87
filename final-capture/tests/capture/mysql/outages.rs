//! The server goes away, comes back, gives the stream to another, or says nothing.

use std::time::Duration;

use final_capture::source::{
    SourceError,
    mysql::{MySqlSource, PositionBy},
};
use final_tests::proxy::Proxy;
use tokio::time::timeout;

use super::shop::{Shop, server};

fn is_away(error: &SourceError) -> bool {
    matches!(error, SourceError::Away(_))
}

#[tokio::test]
async fn a_server_that_is_killed_and_started_again_is_read_on_in_its_new_file() {
    let server = server(&[]).await;
    let mut shop = Shop::on(&server.url()).await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    for by in [PositionBy::Gtid, PositionBy::File] {
        let mut shop = shop.again().await;
        shop.run("TRUNCATE TABLE t").await;
        let source = shop.source().position_by(by);
        let mut stream = shop.stream_of(&source).await;
        shop.run("INSERT INTO t VALUES (1)").await;
        assert_eq!(stream.bundle().await.short(), ["insert t 1"]);
        server.kill9();
        let error = stream.error().await;
        assert!(is_away(&error), "{error:?}");
        server.start_again().await.expect("it starts");
        let mut shop = shop.again().await;
        shop.run("INSERT INTO t VALUES (2)").await;
        let mut stream = shop
            .stream_from(&source, &stream.position())
            .await
            .expect("a stream");
        let bundle = stream.bundle().await;
        assert_eq!(bundle.short(), ["insert t 2"]);
        if by == PositionBy::File {
            let point = bundle.commit.to_string();
            assert!(
                point.contains("000003"),
                "the file after the second start: {point}"
            );
        }
    }
}

#[tokio::test]
async fn a_reader_whose_id_another_one_takes_is_told_so() {
    let mut shop = Shop::open().await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let source = shop.source().server_id(4711);
    let mut first = shop.stream_of(&source).await;
    let mut second = shop
        .stream_from(&source, &first.position())
        .await
        .expect("a stream");
    let error = first.error().await;
    assert!(matches!(error, SourceError::Busy(_)), "{error:?}");
    shop.run("INSERT INTO t VALUES (2)").await;
    assert_eq!(second.bundle().await.short(), ["insert t 2"]);
}

#[tokio::test]
async fn a_server_that_says_nothing_for_three_heartbeats_is_away() {
    let server = server(&[]).await;
    let mut shop = Shop::on(&server.url()).await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let source = shop.source().heartbeat(Duration::from_millis(400));
    let mut stream = shop.stream_of(&source).await;
    // Heartbeats alone keep it.
    tokio::time::sleep(Duration::from_millis(1600)).await;
    shop.run("INSERT INTO t VALUES (1)").await;
    assert_eq!(stream.bundle().await.short(), ["insert t 1"]);
    server.pause();
    let error = stream.error().await;
    server.resume();
    assert!(is_away(&error), "{error:?}");

    // A server that ends the stream is away as well.
    let mut stream = shop
        .stream_from(&source, &stream.position())
        .await
        .expect("a stream");
    let threads: Vec<i64> = sqlx::query_scalar(
        "SELECT CAST(ID AS SIGNED) FROM information_schema.PROCESSLIST WHERE COMMAND = 'Binlog Dump'",
    )
    .fetch_all(&mut shop.conn)
    .await
    .expect("the threads");
    for thread in threads {
        shop.run(&format!("KILL {thread}")).await;
    }
    let error = stream.error().await;
    assert!(is_away(&error), "{error:?}");
    let mut again = shop
        .stream_from(&source, &stream.position())
        .await
        .expect("a stream");
    shop.run("INSERT INTO t VALUES (2)").await;
    assert_eq!(again.bundle().await.short(), ["insert t 2"]);
}

#[tokio::test]
async fn an_event_that_takes_longer_to_arrive_than_a_server_may_be_silent_arrives_at_last() {
    let mut shop = Shop::open().await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY, v LONGTEXT)")
        .await;
    let line = Proxy::to(&shop.url).await.expect("a proxy");
    let source = MySqlSource::new(&line.url(&shop.url)).expect("a source");
    let source = source.heartbeat(Duration::from_millis(200));
    let mut stream = shop.stream_of(&source).await;
    let from = stream.position();
    line.limit(1 << 20);
    shop.run("INSERT INTO t VALUES (1, REPEAT('x', 3 << 20)); INSERT INTO t VALUES (2, '')")
        .await;

    let arrives = async {
        let mut ends = 0;
        loop {
            match stream.next().await {
                Ok(bundle) => return (ends, bundle),
                Err(error) => assert!(is_away(&error), "{error:?}"),
            }
            ends += 1;
            stream = shop.stream_from(&source, &from).await.expect("a stream");
        }
    };
    let arrived = timeout(Duration::from_secs(60), arrives).await;

    let (ends, first) = arrived.expect("the large row");
    assert!(ends > 0, "it came at the first try: nothing is shown");
    assert!(first.short().concat().starts_with("insert t 1,xxx"));
    assert_eq!(stream.bundle().await.short(), ["insert t 2,"]);
}
