//! Which changes come, and which do not.

use final_capture::{source::mysql::PositionBy, value::Value};

use super::shop::Shop;

#[tokio::test]
async fn inserts_updates_and_deletes_come_in_their_transactions_with_before_and_after() {
    for by in [PositionBy::Gtid, PositionBy::File] {
        let mut shop = Shop::open().await;
        shop.run("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
            .await;
        let mut stream = shop.stream_of(&shop.source().position_by(by)).await;
        shop.run(
            "INSERT INTO t VALUES (1, 'a'), (2, 'b');
             START TRANSACTION; UPDATE t SET v = 'c' WHERE id = 1; DELETE FROM t WHERE id = 2; COMMIT",
        )
        .await;

        let first = stream.bundle().await;
        assert_eq!(first.short(), ["insert t 1,a", "insert t 2,b"]);
        let second = stream.bundle().await;
        assert_eq!(second.short(), ["update t 1,a > 1,c", "delete t 2,b"]);
        assert_ne!(second.begin.id, first.begin.id);
        let indices: Vec<u64> = second.rows().iter().map(|row| row.index).collect();
        assert_eq!(indices, [0, 1]);
        let table = &first.rows()[0].table;
        assert_eq!(table.name.to_string(), format!("{}.t", shop.name));
        assert_eq!(table.key, [0]);
        assert_eq!(&*table.columns[1].declared, "varchar(20)");
        assert_eq!(first.rows()[0].after.as_ref().unwrap()[0], Value::Int(1));

        // Behind the first one, the second comes again, the same.
        let source = shop.source().position_by(by);
        let position = final_capture::position::Position {
            point: first.commit,
            ..stream.position()
        };
        let mut again = shop.stream_from(&source, &position).await.unwrap();
        assert_eq!(again.bundle().await, second);
    }
}

#[tokio::test]
async fn what_was_rolled_back_never_comes_although_the_log_has_it() {
    let mut shop = Shop::open().await;
    shop.run(
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20));
         CREATE TABLE m (id INT PRIMARY KEY) ENGINE=MyISAM",
    )
    .await;
    let mut stream = shop.stream().await;
    // A transaction that has made a temporary table is written with its rows, and ROLLBACK at its end.
    shop.run(
        "START TRANSACTION; CREATE TEMPORARY TABLE tmp (a INT); INSERT INTO t VALUES (1, 'no'); ROLLBACK;
         DROP TEMPORARY TABLE tmp",
    )
    .await;
    // Rows behind a savepoint are written if a table without transactions was changed in between.
    shop.run(
        "START TRANSACTION; INSERT INTO t VALUES (2, 'yes'); SAVEPOINT s; INSERT INTO m VALUES (1);
         INSERT INTO t VALUES (3, 'no'); ROLLBACK TO s; INSERT INTO t VALUES (4, 'yes'); COMMIT;
         START TRANSACTION; INSERT INTO t VALUES (5, 'no'); ROLLBACK;
         INSERT INTO t VALUES (6, 'end')",
    )
    .await;

    assert_eq!(stream.bundle().await.short(), ["insert m 1"]);
    let bundle = stream.bundle().await;
    assert_eq!(bundle.short(), ["insert t 2,yes", "insert t 4,yes"]);
    let indices: Vec<u64> = bundle.rows().iter().map(|row| row.index).collect();
    assert_eq!(indices, [0, 2], "what was undone counts");
    assert_eq!(stream.bundle().await.short(), ["insert t 6,end"]);
}

#[tokio::test]
async fn transactions_of_several_domains_each_have_their_own_place_in_the_position() {
    let mut shop = Shop::open().await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY, v INT)").await;
    let mut stream = shop.stream().await;
    shop.run(
        "INSERT INTO t VALUES (1, 0); SET SESSION gtid_domain_id = 5; INSERT INTO t VALUES (2, 5);
         SET SESSION gtid_domain_id = 9; INSERT INTO t VALUES (3, 9); SET SESSION gtid_domain_id = 0;
         INSERT INTO t VALUES (4, 0)",
    )
    .await;
    let mut behind = Vec::new();
    for id in 1..=4 {
        let bundle = stream.bundle().await;
        assert_eq!(
            bundle.short()[0].split(',').next().unwrap(),
            format!("insert t {id}")
        );
        behind.push(stream.position());
    }
    assert!(
        behind[2].point.to_string().contains(",5-7-1,9-7-1"),
        "{}",
        behind[2].point
    );
    for (id, position) in (2..).zip(&behind[..3]) {
        let mut again = shop
            .stream_from(&shop.source(), position)
            .await
            .expect("a stream");
        let bundle = again.bundle().await;
        assert_eq!(
            bundle.short()[0].split(',').next().unwrap(),
            format!("insert t {id}")
        );
    }
}

#[tokio::test]
async fn the_bytes_that_were_not_read_yet_are_told() {
    let mut shop = Shop::open().await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY, v TEXT)")
        .await;
    let source = shop
        .source()
        .heartbeat(std::time::Duration::from_millis(100));
    let mut stream = shop.stream_of(&source).await;
    shop.run("INSERT INTO t SELECT seq, REPEAT('x', 1000) FROM seq_1_to_5000")
        .await;
    let patience = std::time::Duration::from_secs(30);
    final_tests::eventually("the bytes are told", patience, async || {
        let unread = stream.opened.reader.lag().unread_bytes;
        if unread.is_some_and(|unread| unread > 5_000_000) {
            Ok(())
        } else {
            Err(unread)
        }
    })
    .await;
    stream.bundle().await;
    let read = stream.opened.reader.lag().unread_bytes;
    assert!(read.is_some_and(|unread| unread < 5_000_000), "{read:?}");
}
