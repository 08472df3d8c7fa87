//! Each setting of the server that changes how its log is written.

use final_capture::source::mysql::PositionBy;

use super::shop::{Shop, server};

const ROWS: &str = "INSERT INTO t VALUES (1, REPEAT('long ', 200)), (2, 'b'); UPDATE t SET v = REPEAT('other ', 200);
     DELETE FROM t WHERE id = 1; TRUNCATE TABLE t";

fn expected() -> Vec<Vec<String>> {
    let (long, other) = ("long ".repeat(200), "other ".repeat(200));
    vec![
        vec![format!("insert t 1,{long}"), "insert t 2,b".to_owned()],
        vec![
            format!("update t 1,{long} > 1,{other}"),
            format!("update t 2,b > 2,{other}"),
        ],
        vec![format!("delete t 1,{other}")],
        vec![],
    ]
}

/// Runs the statements under each setting, one after the other, and reads them from the first position on.
async fn reads(args: &[&str], settings: &[&str]) {
    let server = server(args).await;
    for by in [PositionBy::Gtid, PositionBy::File] {
        let mut shop = Shop::on(&server.url()).await;
        shop.run("CREATE TABLE t (id INT PRIMARY KEY, v TEXT)")
            .await;
        let source = shop.source().position_by(by);
        let mut stream = shop.stream_of(&source).await;
        let start = stream.position();
        for setting in settings {
            shop.run(setting).await;
            shop.run(ROWS).await;
        }
        let mut behind = Vec::new();
        for (at, setting) in settings.iter().enumerate() {
            for (step, rows) in expected().into_iter().enumerate() {
                let bundle = stream.bundle().await;
                assert_eq!(
                    bundle.short(),
                    rows,
                    "{setting}, step {step} of round {at}, {by:?}"
                );
                behind.push((stream.position(), bundle));
            }
        }
        // The same from the start on, over the files that were left since.
        let mut again = shop.stream_from(&source, &start).await.expect("a stream");
        for (position, bundle) in &behind {
            assert_eq!(again.bundle().await, *bundle);
            assert_eq!(again.position(), *position);
        }
        // And behind each transaction.
        for two in behind.windows(2).step_by(3) {
            let mut again = shop
                .stream_from(&source, &two[0].0)
                .await
                .expect("a stream");
            let bundle = again.bundle().await;
            assert_eq!(bundle.short(), two[1].1.short());
            assert_eq!(
                (bundle.begin, bundle.commit),
                (two[1].1.begin.clone(), two[1].1.commit.clone())
            );
        }
    }
}

#[tokio::test]
async fn events_with_and_without_checksums_and_compressed_ones_are_read_also_where_the_setting_changes()
 {
    reads(
        &["--log-bin-compress-min-len=10"],
        &[
            "SET GLOBAL binlog_checksum = 'NONE'",
            "SET GLOBAL binlog_checksum = 'CRC32'",
            "SET GLOBAL log_bin_compress = ON",
            "SET GLOBAL binlog_checksum = 'NONE'; FLUSH BINARY LOGS",
            "SET GLOBAL log_bin_compress = OFF; SET GLOBAL binlog_checksum = 'CRC32'",
        ],
    )
    .await;
}

#[tokio::test]
async fn an_encrypted_log_is_read() {
    let keys = final_tests::WorkDir::new("keys").expect("a folder");
    keys.write("keys", &format!("1;{}\n", "0a".repeat(32)))
        .expect("the keys");
    let path = keys.join("keys");
    std::fs::set_permissions(
        keys.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .expect("readable");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .expect("readable");
    reads(
        &[
            "--plugin-load-add=file_key_management",
            "--file-key-management",
            &format!("--file-key-management-filename={}", path.display()),
            "--encrypt-binlog=ON",
        ],
        &["FLUSH BINARY LOGS", "SET GLOBAL binlog_checksum = 'NONE'"],
    )
    .await;
}
