//! A position that is no longer there is a gap, and never a start from now.

use final_capture::{
    position::{Position, SourceIdentity, SourcePoint},
    source::{Gap, Source as _, SourceError, mysql::PositionBy},
};

use super::shop::{Shop, Stream, server};

async fn gap(shop: &Shop, by: PositionBy, from: &Position) -> Gap {
    let source = shop.source().position_by(by);
    // A server tells some gaps only with the first event.
    let error = match source.open(&shop.all(), Some(from)).await {
        Err(error) => error,
        Ok(opened) => Stream::new(opened).error().await,
    };
    match error {
        SourceError::Gap(gap) => *gap,
        other => panic!("{from}: {other:?}"),
    }
}

fn file(point: &SourcePoint) -> (&str, u64) {
    match point {
        SourcePoint::File { file, offset } => (file, *offset),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_position_that_was_purged_or_never_was_is_a_gap_with_what_is_left() {
    let server = server(&[]).await;
    let mut shop = Shop::on(&server.url()).await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let by_gtid = shop.stream().await.position();
    let by_file = shop
        .stream_of(&shop.source().position_by(PositionBy::File))
        .await
        .position();
    let (name, offset) = file(&by_file.point);
    assert_eq!(name, "mysql-bin.000001");

    // Positions that never were.
    let at = |file: &str, offset| Position {
        point: SourcePoint::File {
            file: file.into(),
            offset,
        },
        ..by_file.clone()
    };
    for wrong in [
        at(name, offset - 1),
        at(name, offset + 100_000),
        at("mysql-bin.000099", 4),
    ] {
        assert!(
            gap(&shop, PositionBy::File, &wrong).await.oldest.is_some(),
            "{wrong}"
        );
    }
    for wrong in ["0-7-999999", "0-99-1", "5-7-1"] {
        let wrong = Position {
            point: SourcePoint::Gtid(wrong.into()),
            ..by_gtid.clone()
        };
        assert!(
            gap(&shop, PositionBy::Gtid, &wrong).await.oldest.is_some(),
            "{wrong}"
        );
    }

    // Positions that were purged.
    shop.run(
        "INSERT INTO t VALUES (1); FLUSH BINARY LOGS; INSERT INTO t VALUES (2); FLUSH BINARY LOGS",
    )
    .await;
    // A server keeps a file while one of its threads still reads it.
    let patience = std::time::Duration::from_secs(30);
    let conn = tokio::sync::Mutex::new(&mut shop.conn);
    final_tests::eventually("the files are gone", patience, async || {
        let mut conn = conn.lock().await;
        let purge = sqlx::raw_sql("PURGE BINARY LOGS TO 'mysql-bin.000003'");
        purge.execute(&mut **conn).await.expect("a purge");
        let first = sqlx::query("SHOW BINARY LOGS")
            .fetch_one(&mut **conn)
            .await
            .expect("files");
        let first: String = sqlx::Row::try_get_unchecked(&first, 0).expect("a name");
        if first == "mysql-bin.000003" {
            Ok(())
        } else {
            Err(first)
        }
    })
    .await;
    let told = gap(&shop, PositionBy::File, &by_file).await;
    assert_eq!(file(told.oldest.as_ref().unwrap()), ("mysql-bin.000003", 4));
    let told = gap(&shop, PositionBy::Gtid, &by_gtid).await;
    assert!(
        matches!(told.oldest, Some(SourcePoint::Gtid(_))),
        "{told:?}"
    );
    assert_eq!(told.position, by_gtid);

    // The log was begun anew.
    let late = shop.stream().await.position();
    shop.run("RESET MASTER; INSERT INTO t VALUES (3)").await;
    gap(&shop, PositionBy::Gtid, &late).await;

    // Files are those of one server.
    let of_another = Position {
        identity: SourceIdentity("mariadb:file:8:elsewhere:3306".into()),
        ..at("mysql-bin.000001", 4)
    };
    assert!(
        gap(&shop, PositionBy::File, &of_another)
            .await
            .why
            .contains("another server")
    );
}

#[tokio::test]
async fn a_position_inside_of_a_transaction_stops_the_capture() {
    let mut shop = Shop::open().await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let source = shop.source().position_by(PositionBy::File);
    let position = shop.stream_of(&source).await.position();
    shop.run("INSERT INTO t VALUES (1)").await;
    let (name, offset) = file(&position.point);
    // The first event behind the position is the GTID: its end is inside of the transaction.
    let sql = format!("SHOW BINLOG EVENTS IN '{name}' FROM {offset} LIMIT 1");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .fetch_one(&mut shop.conn)
        .await
        .expect("an event");
    let inside = Position {
        point: SourcePoint::File {
            file: name.into(),
            offset: sqlx::Row::try_get_unchecked::<u64, _>(&row, "End_log_pos").expect("its end"),
        },
        ..position
    };
    let mut stream = shop.stream_from(&source, &inside).await.expect("a stream");
    let error = stream.error().await;
    assert!(
        matches!(&error, SourceError::Unreadable { what, .. } if what.contains("inside of")),
        "{error:?}"
    );
}
