//! Transactions of any size.

use final_capture::{
    source::{Event, SourceError, mysql::PositionBy},
    value::Value,
};

use super::shop::Shop;

#[tokio::test]
async fn a_transaction_beyond_what_is_held_is_read_twice_and_comes_once() {
    for by in [PositionBy::Gtid, PositionBy::File] {
        let mut shop = Shop::open().await;
        shop.run("CREATE TABLE t (id INT PRIMARY KEY, v INT); CREATE TABLE m (id INT PRIMARY KEY) ENGINE=MyISAM")
            .await;
        let source = shop.source().position_by(by).hold(20_000);
        let mut stream = shop.stream_of(&source).await;
        shop.run(
            "INSERT INTO t VALUES (-1, 0);
             START TRANSACTION; INSERT INTO t SELECT seq, 1 FROM seq_1_to_20000; SAVEPOINT s;
             INSERT INTO m VALUES (1); INSERT INTO t SELECT seq, 2 FROM seq_20001_to_30000; ROLLBACK TO s;
             INSERT INTO t VALUES (30001, 3); COMMIT;
             START TRANSACTION; CREATE TEMPORARY TABLE x (a INT);
             INSERT INTO t SELECT seq, 1 FROM seq_40001_to_60000; ROLLBACK;
             INSERT INTO t VALUES (-2, 0)",
        )
        .await;

        assert_eq!(stream.bundle().await.short(), ["insert t -1,0"]);
        assert_eq!(stream.bundle().await.short(), ["insert m 1"]);
        let large = stream.bundle().await;
        let indices: Vec<u64> = large.rows().iter().map(|row| row.index).collect();
        let expected: Vec<u64> = (0..20_000).chain([30_000]).collect();
        assert_eq!(indices, expected);
        assert_eq!(large.short().last().unwrap(), "insert t 30001,3");
        assert_eq!(stream.bundle().await.short(), ["insert t -2,0"]);
    }
}

#[tokio::test]
async fn a_call_returns_about_as_much_as_it_was_asked_for() {
    let mut shop = Shop::open().await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(200))")
        .await;
    let mut opened = {
        use final_capture::source::Source as _;
        shop.source()
            .open(&shop.all(), None)
            .await
            .expect("a stream")
    };
    shop.run("INSERT INTO t SELECT seq, REPEAT('x', 150) FROM seq_1_to_20000")
        .await;
    let mut rows = 0;
    while rows < 20_000 {
        let mut events = Vec::new();
        opened
            .reader
            .read(&mut events, 32 << 10)
            .await
            .expect("events");
        let some = events
            .iter()
            .filter(|event| matches!(event, Event::Row(_)))
            .count();
        assert!(some < 1000, "{some} rows at once");
        rows += some;
    }
}

#[tokio::test]
async fn a_row_beyond_16_mb_is_read_and_one_beyond_the_limit_stops_the_stream() {
    let server = super::shop::server(&["--max-allowed-packet=64M"]).await;
    let mut shop = Shop::on(&server.url()).await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY, v LONGBLOB)")
        .await;
    let mut stream = shop.stream().await;
    let narrow = shop.source().max_event(18 << 20).expect("a source");
    let mut limited = shop.stream_of(&narrow).await;
    // Lengths at the border of the protocol's packets of 16 MB - 1, whose rest is empty or one byte.
    let (before, border) = (40_u64, (1_u64 << 24) - 1);
    for bytes in [border - before, border, 20 << 20] {
        shop.run(&format!(
            "INSERT INTO t VALUES ({bytes}, REPEAT('x', {bytes}))"
        ))
        .await;
    }
    for bytes in [border - before, border, 20 << 20] {
        let bundle = stream.bundle().await;
        let row = bundle.rows()[0].after.as_ref().expect("a row");
        match &row[1] {
            Value::Bytes(value) => {
                assert_eq!(u64::try_from(value.len()).unwrap(), bytes);
                assert!(value.iter().all(|&byte| byte == b'x'));
            }
            other => panic!("{other:?}"),
        }
    }
    limited.bundle().await;
    let second = limited.bundle().await;
    let error = limited.error().await;
    assert!(
        matches!(&error, SourceError::Unreadable { after, what } if *after == second.commit && what.contains("max_event")),
        "{error:?}"
    );
}
