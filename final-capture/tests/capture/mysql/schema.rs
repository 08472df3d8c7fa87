//! What is beside rows: DDL, statements, distributed transactions, rows with some columns only.

use final_capture::{
    source::{Event, RowOp, SourceError},
    value::Value,
};

use mysql_async::prelude::Queryable as _;

use super::shop::{Shop, Stream, server};

#[tokio::test]
async fn a_table_that_was_altered_has_its_new_columns_from_that_row_on() {
    let mut shop = Shop::open().await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
        .await;
    let mut stream = shop.stream().await;
    shop.run(
        "INSERT INTO t VALUES (1, 'a');
         ALTER TABLE t ADD w INT FIRST, MODIFY v VARCHAR(30);
         INSERT INTO t VALUES (7, 2, 'b');
         ALTER TABLE t DROP v, CHANGE w x BIGINT;
         INSERT INTO t VALUES (8, 3);
         INSERT INTO t VALUES (9, 4)",
    )
    .await;

    assert_eq!(stream.bundle().await.short(), ["insert t 1,a"]);
    let second = stream.bundle().await;
    assert_eq!(second.short(), ["insert t 7,2,b"]);
    match &second.changes[0] {
        Event::Columns(table) => {
            let names: Vec<&str> = table.columns.iter().map(|column| &*column.name).collect();
            assert_eq!(names, ["w", "id", "v"]);
            assert_eq!(table.key, [1]);
        }
        other => panic!("{other:?}"),
    }
    let third = stream.bundle().await;
    assert!(matches!(&third.changes[0], Event::Columns(table) if table.columns.len() == 2));
    assert_eq!(third.short(), ["insert t 8,3"]);
    assert_eq!(
        stream.bundle().await.changes.len(),
        1,
        "nothing has changed"
    );
}

#[tokio::test]
async fn a_truncate_comes_as_one_and_ddl_is_passed_over() {
    let mut shop = Shop::open().await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY); CREATE TABLE u (id INT PRIMARY KEY)")
        .await;
    let mut stream = shop.stream().await;
    shop.run(
        "INSERT INTO t VALUES (1); TRUNCATE t; CREATE TABLE c SELECT 5 AS a; ALTER TABLE c ADD b INT;
         DROP TABLE u; RENAME TABLE c TO d; INSERT INTO d VALUES (6, 7)",
    )
    .await;

    assert_eq!(stream.bundle().await.short(), ["insert t 1"]);
    let truncate = stream.bundle().await;
    match &truncate.changes[..] {
        [Event::Truncate { tables, index: 0 }] => {
            assert_eq!(&*tables[0].name.table, "t");
            assert_eq!(tables[0].columns.len(), 1, "the columns of its last row");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        stream.bundle().await.short(),
        ["insert c 5"],
        "made with its rows"
    );
    assert_eq!(stream.bundle().await.short(), ["insert d 6,7"]);
}

fn unreadable(error: &SourceError) -> &str {
    match error {
        SourceError::Unreadable { what, .. } => what,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_change_in_statement_format_stops_the_stream_before_it() {
    let mut shop = Shop::open().await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut stream = shop.stream().await;
    let passing = shop.source().pass_statements(true);
    let mut passes = shop.stream_of(&passing).await;
    shop.run(
        "INSERT INTO t VALUES (1);
         SET SESSION binlog_format = 'STATEMENT'; INSERT INTO t VALUES (2);
         SET SESSION binlog_format = 'ROW'; INSERT INTO t VALUES (3)",
    )
    .await;

    let first = stream.bundle().await;
    let error = stream.error().await;
    let told = unreadable(&error);
    assert!(
        told.contains("INSERT: ") && !told.contains("INTO"),
        "{error}"
    );
    assert!(unreadable(&error).contains("binlog_format"), "{error}");
    assert!(
        matches!(&error, SourceError::Unreadable { after, .. } if *after == first.commit),
        "{error:?} after {}",
        first.commit
    );
    assert_eq!(passes.bundle().await, first);
    assert_eq!(
        passes.bundle().await.short(),
        ["insert t 3"],
        "as it was asked to"
    );
}

#[tokio::test]
async fn a_distributed_transaction_of_a_captured_table_stops_the_stream_and_others_pass() {
    let mut shop = Shop::open().await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut other = Shop::open().await;
    other.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut stream = shop.stream().await;
    let xid = final_tests::shared::unique("x");
    other
        .run(&format!(
            "XA START '{xid}'; INSERT INTO t VALUES (1); XA END '{xid}'; XA PREPARE '{xid}'; XA COMMIT '{xid}'"
        ))
        .await;
    shop.run(&format!(
        "XA START '{xid}'; INSERT INTO t VALUES (1); XA END '{xid}'; XA COMMIT '{xid}' ONE PHASE"
    ))
    .await;
    assert_eq!(
        stream.bundle().await.short(),
        ["insert t 1"],
        "one phase is a commit"
    );
    shop.run(&format!(
        "XA START '{xid}'; INSERT INTO t VALUES (2); XA END '{xid}'; XA PREPARE '{xid}'; XA ROLLBACK '{xid}'"
    ))
    .await;
    let error = stream.error().await;
    assert!(unreadable(&error).contains("XA PREPARE"), "{error}");
}

#[tokio::test]
async fn a_session_that_writes_some_columns_only_is_told_as_it_is() {
    let mut shop = Shop::open().await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY, a INT DEFAULT 5, b TEXT, c INT)")
        .await;
    let mut stream = shop.stream().await;
    shop.run(
        "SET SESSION binlog_row_image = 'MINIMAL'; INSERT INTO t (id, c) VALUES (1, 9);
         UPDATE t SET c = 10; DELETE FROM t;
         SET SESSION binlog_row_image = 'NOBLOB'; INSERT INTO t VALUES (2, 1, 'blob', 2);
         UPDATE t SET c = 3; SET SESSION binlog_row_image = 'FULL'",
    )
    .await;
    assert_eq!(
        stream.bundle().await.short(),
        ["insert t 1,absent,absent,9"]
    );
    assert_eq!(
        stream.bundle().await.short(),
        ["update t 1,absent,absent,absent > 1,absent,absent,10"],
        "what the old row tells is in the new one"
    );
    assert_eq!(
        stream.bundle().await.short(),
        ["delete t 1,absent,absent,absent"]
    );
    assert_eq!(stream.bundle().await.short(), ["insert t 2,1,blob,2"]);
    assert_eq!(
        stream.bundle().await.short(),
        ["update t 2,1,absent,2 > 2,1,absent,3"]
    );
}

#[tokio::test]
async fn generated_invisible_and_versioned_columns_come_with_their_values() {
    let mut shop = Shop::open().await;
    shop.run(
        "CREATE TABLE g (a INT PRIMARY KEY, b INT AS (a + 1) VIRTUAL, c INT AS (a + 2) STORED, d INT INVISIBLE DEFAULT 5);
         CREATE TABLE v (id INT PRIMARY KEY, n INT) WITH SYSTEM VERSIONING",
    )
    .await;
    let mut stream = shop.stream().await;
    shop.run("INSERT INTO g (a) VALUES (1); UPDATE g SET a = 2; INSERT INTO v VALUES (1, 1); DELETE FROM v")
        .await;
    assert_eq!(stream.bundle().await.short(), ["insert g 1,2,3,5"]);
    // MariaDB 11.8 leaves generated columns out of an UPDATE. None is made up for them.
    let update = stream.bundle().await.short();
    assert!(
        update == ["update g 1,2,3,5 > 2,3,4,5"]
            || update == ["update g 1,absent,absent,5 > 2,absent,absent,5"],
        "{update:?}"
    );
    let table = &stream.bundle().await.rows()[0].table.clone();
    let names: Vec<&str> = table.columns.iter().map(|column| &*column.name).collect();
    assert_eq!(names, ["id", "n", "row_start", "row_end"]);
    // A versioned row is never deleted: it ends.
    let ended = stream.bundle().await;
    assert_eq!(ended.rows()[0].op, RowOp::Update);
    let after = ended.rows()[0].after.as_ref().unwrap();
    assert!(
        matches!(&after[3], Value::Text(end) if !end.starts_with("2038")),
        "{after:?}"
    );
}

#[tokio::test]
async fn a_memory_table_that_lost_its_rows_by_a_restart_is_told_as_truncated() {
    let server = super::shop::server(&[]).await;
    let mut shop = Shop::on(&server.url()).await;
    shop.run("CREATE TABLE m (id INT PRIMARY KEY) ENGINE=MEMORY; INSERT INTO m VALUES (1)")
        .await;
    let position = shop.stream().await.position();
    server.stop().await.expect("it stops");
    server.start_again().await.expect("it starts");
    let mut shop = shop.again().await;
    shop.run("INSERT INTO m VALUES (2)").await;
    let mut stream: Stream = shop
        .stream_from(&shop.source(), &position)
        .await
        .expect("a stream");
    let truncate = stream.bundle().await;
    assert!(
        matches!(&truncate.changes[..], [Event::Truncate { tables, .. }] if &*tables[0].name.table == "m"),
        "{truncate:?}"
    );
    assert_eq!(stream.bundle().await.short(), ["insert m 2"]);
}

#[tokio::test]
async fn a_hash_that_the_server_hides_in_its_rows_is_no_column() {
    let mut shop = Shop::open().await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY, v TEXT UNIQUE, w INT)")
        .await;
    let mut stream = shop.stream().await;
    shop.run("INSERT INTO t VALUES (1, 'a', 2); UPDATE t SET v = 'b', w = 3; DELETE FROM t")
        .await;

    let mut all = Vec::new();
    for _ in 0..3 {
        all.extend(stream.bundle().await.short());
    }
    assert_eq!(
        all,
        ["insert t 1,a,2", "update t 1,a,2 > 1,b,3", "delete t 1,b,3"]
    );
}

#[tokio::test]
async fn a_truncate_is_told_however_its_case_where_the_server_has_names_in_lower_case() {
    let server = server(&["--lower-case-table-names=1"]).await;
    let mut shop = Shop::on(&server.url()).await;
    shop.run("CREATE TABLE holes (id INT PRIMARY KEY)").await;
    let mut stream = shop.stream().await;
    let upper = shop.name.to_uppercase();
    shop.run(&format!(
        "INSERT INTO Holes VALUES (1); TRUNCATE TABLE {upper}.HOLES; TRUNCATE Holes; INSERT INTO holes VALUES (2)"
    ))
    .await;

    assert_eq!(stream.bundle().await.short(), ["insert holes 1"]);
    for _ in 0..2 {
        let truncate = stream.bundle().await;
        let [Event::Truncate { tables, .. }] = &truncate.changes[..] else {
            panic!("{truncate:?}");
        };
        assert_eq!(tables[0].name.to_string(), format!("{}.holes", shop.name));
        assert_eq!(tables[0].columns.len(), 1);
    }
    assert_eq!(stream.bundle().await.short(), ["insert holes 2"]);
}

#[tokio::test]
async fn statements_of_clients_in_any_character_set_are_passed_over() {
    let mut shop = Shop::open().await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY); CREATE TABLE u (id INT)")
        .await;
    let mut stream = shop.stream().await;
    let url = format!("{}/{}", shop.url.trim_end_matches("/mysql"), shop.name);
    let mut client = mysql_async::Conn::from_url(url).await.expect("a client");
    for (charset, character) in [
        ("latin1", &b"\xe9"[..]),
        ("gbk", b"\xa4\xa2"),
        ("big5", b"\xa4\x40"),
        ("sjis", b"\x82\xa0"),
        ("cp932", b"\x82\xa0"),
        ("euckr", b"\xaa\xa2"),
        ("ujis", b"\xa4\xa2"),
        ("eucjpms", b"\xa4\xa2"),
    ] {
        let alter = [
            b"/* ",
            character,
            b" */ ALTER TABLE u COMMENT '",
            character,
            b"'",
        ]
        .concat();
        client
            .query_drop(format!("SET NAMES {charset}"))
            .await
            .expect("a set");
        client.query_drop(alter).await.expect("an ALTER");
    }
    shop.run("INSERT INTO t VALUES (1)").await;

    assert_eq!(stream.bundle().await.short(), ["insert t 1"]);
}

#[tokio::test]
async fn rows_in_a_character_set_that_no_column_has_any_more_are_read() {
    let mut shop = Shop::open().await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET euckr)")
        .await;
    let from = shop.stream().await.position();
    shop.run(
        "INSERT INTO t VALUES (1, '\u{d55c}\u{ad6d}'); ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4",
    )
    .await;

    let mut stream = shop
        .stream_from(&shop.source(), &from)
        .await
        .expect("a stream");
    assert_eq!(
        stream.bundle().await.short(),
        ["insert t 1,\u{d55c}\u{ad6d}"]
    );
}

#[tokio::test]
async fn a_delete_of_all_rows_in_statement_format_is_passed_over_if_such_statements_are() {
    let mut shop = Shop::open().await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY); CREATE TABLE u (id INT)")
        .await;
    let source = shop.source().pass_statements(true);
    let (mut stream, mut strict) = (shop.stream_of(&source).await, shop.stream().await);
    let name = shop.name.clone();
    shop.run(&format!(
        "SET SESSION binlog_format = 'STATEMENT'; DELETE FROM `{name}`.`u`; SET SESSION binlog_format = 'ROW';
         INSERT INTO t VALUES (1)"
    ))
    .await;

    assert_eq!(stream.bundle().await.short(), ["insert t 1"]);
    let error = strict.error().await.to_string();
    assert!(
        error.contains("DELETE") && error.contains("binlog_format"),
        "{error}"
    );
}
