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
