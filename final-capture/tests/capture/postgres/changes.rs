//! Which events come of which statements.

use final_capture::{
    source::{Event, RowOp},
    table::{ColumnKind, TableName},
    value::Value,
};

use super::shop::Shop;

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

async fn holes() -> Shop {
    let shop = Shop::new().await;
    shop.run("CREATE TABLE shop.holes (id int PRIMARY KEY, content text, depth numeric(6,2))")
        .await;
    shop
}

#[tokio::test]
async fn each_row_change_of_a_committed_transaction_comes_in_order() {
    let shop = holes().await;
    let mut stream = shop.open(None).await;
    shop.run(
        "INSERT INTO shop.holes VALUES (1, 'one', 1.50), (2, 'two', NULL);
         UPDATE shop.holes SET content = 'uno' WHERE id = 1;
         DELETE FROM shop.holes WHERE id = 2",
    )
    .await;
    let read = stream.transaction().await;
    let rows = read.rows();
    let seen: Vec<_> = rows.iter().map(|row| (row.op, row.index)).collect();
    assert_eq!(
        seen,
        [
            (RowOp::Insert, 0),
            (RowOp::Insert, 1),
            (RowOp::Update, 2),
            (RowOp::Delete, 3)
        ]
    );
    assert_eq!(rows[0].before, None);
    assert_eq!(
        rows[0].after,
        Some(vec![Value::Int(1), text("one"), text("1.50")])
    );
    assert_eq!(
        rows[1].after,
        Some(vec![Value::Int(2), text("two"), Value::Null])
    );
    assert_eq!(rows[2].before, None, "the key is unchanged");
    assert_eq!(
        rows[2].after,
        Some(vec![Value::Int(1), text("uno"), text("1.50")])
    );
    assert_eq!(
        rows[3].before,
        Some(vec![Value::Int(2), Value::Absent, Value::Absent])
    );
    assert_eq!(rows[3].after, None);
    let table = &rows[0].table;
    let name = TableName {
        schema: "shop".into(),
        table: "holes".into(),
    };
    assert_eq!((&table.name, &*table.key), (&name, [0].as_slice()));
    let declared: Vec<_> = table.columns.iter().map(|it| &*it.declared).collect();
    assert_eq!(declared, ["integer", "text", "numeric(6,2)"]);
    assert_eq!(table.columns[2].kind, ColumnKind::Decimal);
    stream.close().await;
}

#[tokio::test]
async fn nothing_that_was_rolled_back_comes() {
    let shop = holes().await;
    let mut stream = shop.open(None).await;
    shop.run("BEGIN; INSERT INTO shop.holes VALUES (1, 'gone'); ROLLBACK")
        .await;
    shop.run(
        "BEGIN;
         INSERT INTO shop.holes VALUES (2, 'kept');
         SAVEPOINT a; INSERT INTO shop.holes VALUES (3, 'gone'); ROLLBACK TO a;
         SAVEPOINT b; INSERT INTO shop.holes VALUES (4, 'kept'); RELEASE b;
         COMMIT",
    )
    .await;
    let read = stream.transaction().await;
    let ids: Vec<_> = read
        .rows()
        .iter()
        .map(|row| row.after.as_ref().unwrap()[0].clone())
        .collect();
    assert_eq!(ids, [Value::Int(2), Value::Int(4)]);
    stream.close().await;
}

#[tokio::test]
async fn a_prepared_transaction_comes_when_it_is_committed() {
    let shop = holes().await;
    let mut stream = shop.open(None).await;
    let name = &shop.slot;
    shop.run(&format!(
        "BEGIN; INSERT INTO shop.holes VALUES (1, 'first'); PREPARE TRANSACTION '{name}'"
    ))
    .await;
    shop.run("INSERT INTO shop.holes VALUES (2, 'second')")
        .await;
    shop.run(&format!("COMMIT PREPARED '{name}'")).await;
    let read = stream.transactions(2).await;
    assert_eq!(read[0].row().after.as_ref().unwrap()[1], text("second"));
    assert_eq!(read[1].row().after.as_ref().unwrap()[1], text("first"));
    stream.close().await;
}

#[tokio::test]
async fn an_update_of_the_key_has_the_old_key_before() {
    let shop = holes().await;
    let mut stream = shop.open(None).await;
    shop.run("INSERT INTO shop.holes VALUES (1, 'one'); UPDATE shop.holes SET id = 7")
        .await;
    let read = stream.transaction().await;
    let update = read.rows()[1];
    assert_eq!(
        update.before,
        Some(vec![Value::Int(1), Value::Absent, Value::Absent])
    );
    assert_eq!(
        update.after,
        Some(vec![Value::Int(7), text("one"), Value::Null])
    );
    stream.close().await;
}

const LARGE: &str = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) i)";

#[tokio::test]
async fn a_large_value_that_an_update_did_not_touch_is_absent() {
    let shop = holes().await;
    let mut stream = shop.open(None).await;
    shop.run("ALTER TABLE shop.holes ALTER content SET STORAGE EXTERNAL")
        .await;
    shop.run(&format!("INSERT INTO shop.holes VALUES (1, {LARGE}, 1)"))
        .await;
    shop.run("UPDATE shop.holes SET depth = 2").await;
    let read = stream.transactions(2).await;
    assert!(
        matches!(&read[0].row().after.as_ref().unwrap()[1], Value::Text(it) if it.len() == 32_000)
    );
    assert_eq!(
        read[1].row().after,
        Some(vec![Value::Int(1), Value::Absent, text("2.00")])
    );
    stream.close().await;
}

#[tokio::test]
async fn with_full_identity_the_old_row_comes_whole_and_fills_large_values() {
    let shop = holes().await;
    shop.run("ALTER TABLE shop.holes ALTER content SET STORAGE EXTERNAL")
        .await;
    shop.run("ALTER TABLE shop.holes REPLICA IDENTITY FULL")
        .await;
    let mut stream = shop.open(None).await;
    shop.run(&format!("INSERT INTO shop.holes VALUES (1, {LARGE}, 1)"))
        .await;
    shop.run("UPDATE shop.holes SET depth = 2").await;
    let read = stream.transactions(2).await;
    let inserted = read[0].row().after.clone().unwrap();
    let update = read[1].row();
    assert_eq!(update.before.as_ref(), Some(&inserted));
    assert_eq!(update.after.as_ref().unwrap()[1], inserted[1]);
    assert_eq!(
        &*update.table.key,
        [0],
        "the key is the primary key, not all columns"
    );
    stream.close().await;
}

#[tokio::test]
async fn a_truncate_names_all_its_tables() {
    let shop = holes().await;
    shop.run("CREATE TABLE shop.replies (id int PRIMARY KEY, hole int REFERENCES shop.holes)")
        .await;
    let mut stream = shop.open(None).await;
    shop.run("INSERT INTO shop.holes VALUES (1)").await;
    shop.run("BEGIN; INSERT INTO shop.holes VALUES (2); TRUNCATE shop.holes CASCADE; COMMIT")
        .await;
    let read = stream.transactions(2).await;
    let Event::Truncate { tables, index } = &read[1].events[2] else {
        panic!("{:?}", read[1]);
    };
    let mut names: Vec<_> = tables.iter().map(|table| table.name.to_string()).collect();
    names.sort();
    assert_eq!(names, ["shop.holes", "shop.replies"]);
    assert_eq!(*index, 1);
    stream.close().await;
}

#[tokio::test]
async fn rows_have_the_columns_that_their_table_had_when_they_were_written() {
    let shop = holes().await;
    let position = shop.open(None).await.close().await;
    shop.run("INSERT INTO shop.holes VALUES (1, 'one')").await;
    shop.run("ALTER TABLE shop.holes DROP COLUMN depth").await;
    shop.run("INSERT INTO shop.holes VALUES (2, 'two')").await;
    shop.run("ALTER TABLE shop.holes RENAME COLUMN content TO words")
        .await;
    shop.run("ALTER TABLE shop.holes ADD COLUMN wide boolean DEFAULT true")
        .await;
    shop.run("BEGIN; INSERT INTO shop.holes VALUES (3, 'three'); ALTER TABLE shop.holes ALTER id TYPE bigint; COMMIT")
        .await;
    shop.run("ALTER TABLE shop.holes RENAME TO pits").await;
    shop.run("INSERT INTO shop.pits VALUES (4, 'four')").await;
    let mut stream = shop.open(Some(&position)).await;
    let read = stream.transactions(4).await;
    let columns = |at: usize| -> Vec<String> {
        let table = &read[at].row().table;
        table.columns.iter().map(|it| it.name.to_string()).collect()
    };
    assert_eq!(columns(0), ["id", "content", "depth"]);
    assert_eq!(columns(1), ["id", "content"]);
    assert_eq!(columns(2), ["id", "words", "wide"]);
    assert_eq!(
        read[2].row().after,
        Some(vec![Value::Int(3), text("three"), Value::Bool(true)])
    );
    assert_eq!(read[3].row().table.name.to_string(), "shop.pits");
    let has_news = |at: usize| {
        let events = &read[at].events;
        events
            .iter()
            .any(|event| matches!(event, Event::Columns(_)))
    };
    assert_eq!([0, 1, 2, 3].map(has_news), [false, true, true, true]);
    stream.close().await;
}

#[tokio::test]
async fn changes_of_a_partition_come_as_those_of_its_table() {
    let shop = Shop::new().await;
    shop.run(
        "CREATE TABLE shop.visits (at int, id int, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
         CREATE TABLE shop.visits_1 PARTITION OF shop.visits FOR VALUES FROM (0) TO (10);
         CREATE TABLE shop.visits_2 PARTITION OF shop.visits FOR VALUES FROM (10) TO (20)",
    )
    .await;
    let mut stream = shop.open(None).await;
    shop.run("INSERT INTO shop.visits VALUES (1, 1), (11, 2)")
        .await;
    shop.run("UPDATE shop.visits SET at = 12 WHERE id = 1")
        .await;
    let read = stream.transactions(2).await;
    let seen: Vec<_> = read
        .iter()
        .flat_map(|read| read.rows())
        .map(|row| (row.table.name.to_string(), row.op))
        .collect();
    let visits = |op| ("shop.visits".to_owned(), op);
    assert_eq!(
        seen,
        [RowOp::Insert, RowOp::Insert, RowOp::Delete, RowOp::Insert].map(visits)
    );
    stream.close().await;
}

#[tokio::test]
async fn a_transaction_is_the_same_each_time_it_is_read() {
    let shop = holes().await;
    let mut stream = shop.open(None).await;
    let position = stream.position();
    shop.run("INSERT INTO shop.holes VALUES (1), (2)").await;
    shop.run("DELETE FROM shop.holes").await;
    let first = stream.transactions(2).await;
    stream.close().await;
    let mut stream = shop.open(Some(&position)).await;
    let again = stream.transactions(2).await;
    stream.close().await;
    for (first, again) in first.iter().zip(&again) {
        assert_eq!((first.id(), &first.point), (again.id(), &again.point));
        assert_eq!(first.rows(), again.rows());
    }
    // After the first of them only the second comes.
    let position = final_capture::position::Position {
        point: first[0].point.clone(),
        ..position
    };
    let mut stream = shop.open(Some(&position)).await;
    assert_eq!(stream.transaction().await.id(), first[1].id());
    stream.close().await;
}

#[tokio::test]
async fn tables_that_are_not_wanted_are_left_out_and_counted() {
    let shop = holes().await;
    shop.run("CREATE TABLE shop.other (id int PRIMARY KEY)")
        .await;
    let publication = &shop.slot;
    shop.run(&format!(
        "CREATE PUBLICATION {publication} FOR TABLE shop.holes, shop.other"
    ))
    .await;
    let wanted = final_capture::select::Selection::tables(["shop.holes"]);
    let opened = final_capture::source::Source::open(&shop.source(), &wanted, None).await;
    let mut stream = super::shop::Stream::of(opened.unwrap());
    shop.run("BEGIN; INSERT INTO shop.other VALUES (1); INSERT INTO shop.holes VALUES (1); COMMIT")
        .await;
    let read = stream.transaction().await;
    assert_eq!(
        (read.row().index, &*read.row().table.name.table),
        (1, "holes")
    );
    stream.close().await;
}
