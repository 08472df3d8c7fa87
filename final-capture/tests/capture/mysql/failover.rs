//! After a failover the stream goes on at the replica, if that has all that was captured.

use final_capture::source::{
    Source as _, SourceError,
    mysql::{MySqlSource, PositionBy},
};
use final_tests::servers::MariaDb;

use super::shop::{Shop, server};

/// Makes a server the replica of another.
async fn follow(replica: &MariaDb, primary: &MariaDb) {
    let port = primary
        .url()
        .rsplit_once(':')
        .and_then(|(_, rest)| rest.split('/').next()?.parse::<u16>().ok());
    let mut shop = Shop::on_database(&replica.url(), None).await;
    shop.run(&format!(
        "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = 'root',
         MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1; START SLAVE",
        port.expect("a port")
    ))
    .await;
}

#[tokio::test]
async fn a_replica_that_has_our_transactions_is_read_on_and_one_that_lacks_them_is_a_gap() {
    let primary = server(&["--gtid-strict-mode=ON"]).await;
    let good = server(&[
        "--server-id=8",
        "--log-slave-updates=ON",
        "--gtid-strict-mode=ON",
    ])
    .await;
    follow(&good, &primary).await;
    let mut shop = Shop::on(&primary.url()).await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut stream = shop.stream().await;
    shop.run("INSERT INTO t VALUES (1)").await;
    let first = stream.bundle().await;
    let between = stream.position();
    shop.run("INSERT INTO t VALUES (2)").await;
    let second = stream.bundle().await;
    let wait = format!("SELECT MASTER_GTID_WAIT('{}', 30)", second.begin.id);
    let mut there = Shop::on_database(&good.url(), Some(&shop.name)).await;
    there.run(&wait).await;
    // It stops here, so it lacks what the primary does alone.
    there.run("STOP SLAVE").await;
    shop.run("INSERT INTO t VALUES (3)").await;
    let third = stream.bundle().await;
    let beyond = stream.position();

    // What both have comes from each of them the same.
    let mut promoted = there
        .stream_from(&there.source(), &between)
        .await
        .expect("a stream");
    assert_eq!(promoted.bundle().await, second);
    assert_eq!(
        promoted.opened.identity, stream.opened.identity,
        "it is one history"
    );
    there.run("INSERT INTO t VALUES (4)").await;
    assert_eq!(promoted.bundle().await.short(), ["insert t 4"]);
    drop(first);

    // What only the old primary has is a gap: the replica has not got it, or has done otherwise since.
    let lacks = async |position| match there.source().open(&there.all(), Some(position)).await {
        Err(error) => error,
        Ok(opened) => super::shop::Stream::new(opened).error().await,
    };
    let error = lacks(&beyond).await;
    assert!(matches!(error, SourceError::Gap(_)), "{error:?}");

    // A file is of one server alone.
    let by_file = shop.source().position_by(PositionBy::File);
    let position = shop.stream_of(&by_file).await.position();
    let source = there.source().position_by(PositionBy::File);
    let Err(error) = there.stream_from(&source, &position).await else {
        panic!("another server's file was opened");
    };
    assert!(matches!(error, SourceError::Gap(_)), "{error:?}");

    // A replica that keeps no log of what it copies is refused.
    let silent = server(&["--server-id=9", "--log-slave-updates=OFF"]).await;
    follow(&silent, &primary).await;
    let mut there = Shop::on_database(&silent.url(), None).await;
    let wait = format!("SELECT MASTER_GTID_WAIT('{}', 30)", third.begin.id);
    there.run(&wait).await;
    // The rights that the docs name do not let the check ask for replicas.
    there
        .run(
            "SET sql_log_bin = 0; CREATE USER capture@'%' IDENTIFIED BY 'word'; \
             GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO capture@'%'",
        )
        .await;
    let url = silent
        .url()
        .replace("root@", "capture:word@")
        .replace("/mysql", "/");
    let documented = MySqlSource::new(&url).expect("a source");
    let refused = async |source: &MySqlSource| match source.open(&shop.all(), None).await {
        Err(error) => error.to_string(),
        Ok(_) => panic!("a replica without a log was opened"),
    };
    for source in [&there.source(), &documented] {
        let error = refused(source).await;
        assert!(error.contains("source_replica_without_log"), "{error}");
    }
    there.run("STOP SLAVE").await;
    let error = refused(&documented).await;
    assert!(error.contains("source_replica_without_log"), "{error}");
    assert!(error.contains("GRANT REPLICA MONITOR"), "{error}");
    // It copies none any more, and the user may see that.
    there
        .run("GRANT REPLICA MONITOR ON *.* TO capture@'%'; RESET SLAVE ALL")
        .await;
    let opened = documented.open(&shop.all(), None).await.expect("a stream");
    opened.reader.close().await;
}
