//! What would lose changes is told before the first one, with its cure.

use final_capture::{
    select::{ColumnRules, Selection},
    source::{Source as _, SourceError, mysql::MySqlSource},
};
use final_core::admin::doctor::{Finding, Level};

use super::shop::{Shop, server};

async fn findings(source: &MySqlSource, wanted: &Selection) -> Vec<Finding> {
    source.check(wanted).await.expect("findings")
}

fn names(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.name).collect()
}

/// Those that an open is refused for.
async fn refused(source: &MySqlSource, wanted: &Selection) -> Vec<Finding> {
    match source.open(wanted, None).await {
        Err(SourceError::Refused(findings)) => findings,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was opened"),
    }
}

#[tokio::test]
async fn settings_and_rights_that_lose_changes_are_refused_and_the_cures_help() {
    let server = server(&[]).await;
    let mut shop = Shop::on(&server.url()).await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let source = shop.source();
    let all = shop.all();
    assert_eq!(names(&findings(&source, &all).await), [] as [&str; 0]);

    // Each wrong setting, and each is mended by what its finding says.
    for (name, wrong, is_refused) in [
        (
            "source_binlog_format",
            "SET GLOBAL binlog_format = 'MIXED'",
            true,
        ),
        (
            "source_binlog_row_metadata",
            "SET GLOBAL binlog_row_metadata = 'MINIMAL'",
            true,
        ),
        (
            "source_binlog_row_image",
            "SET GLOBAL binlog_row_image = 'MINIMAL'",
            false,
        ),
        (
            "source_binlog_retention",
            "SET GLOBAL binlog_expire_logs_seconds = 600",
            false,
        ),
    ] {
        shop.run(wrong).await;
        let found = findings(&source, &all).await;
        assert_eq!(names(&found), [name]);
        assert_eq!(found[0].level == Level::Error, is_refused, "{name}");
        if is_refused {
            assert_eq!(names(&refused(&source, &all).await), [name]);
        }
        let cure = found[0]
            .mend
            .split('`')
            .nth(1)
            .expect("a statement")
            .to_owned();
        shop.run(&cure).await;
        assert_eq!(
            names(&findings(&source, &all).await),
            [] as [&str; 0],
            "after {cure}"
        );
    }

    // A user without rights.
    shop.run("CREATE USER nobody@'%' IDENTIFIED BY 'secret-word'")
        .await;
    let url = server
        .url()
        .replace("root@", "nobody:secret-word@")
        .replace("/mysql", "/");
    let nobody = MySqlSource::new(&url).expect("a source");
    let found = findings(&nobody, &all).await;
    assert!(names(&found).contains(&"source_grant_missing"), "{found:?}");
    assert!(!format!("{found:?} {nobody:?}").contains("secret-word"));
    assert_eq!(
        names(&refused(&nobody, &all).await),
        ["source_grant_missing"]
    );
    shop.run(&format!(
        "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO nobody@'%'; GRANT SELECT ON {}.* TO nobody@'%'",
        shop.name
    ))
    .await;
    assert_eq!(names(&findings(&nobody, &all).await), [] as [&str; 0]);
    nobody
        .open(&all, None)
        .await
        .expect("a stream")
        .reader
        .close()
        .await;

    // A distributed transaction from before the first start.
    shop.run("XA START 'x'; INSERT INTO t VALUES (1); XA END 'x'; XA PREPARE 'x'")
        .await;
    assert_eq!(names(&refused(&source, &all).await), ["source_xa_prepared"]);
    shop.run("XA COMMIT 'x'").await;
    source
        .open(&all, None)
        .await
        .expect("a stream")
        .reader
        .close()
        .await;

    // Rows that were written without names are never read, also where the setting is right by now.
    let position = shop.stream().await.position();
    shop.run(
        "SET GLOBAL binlog_row_metadata = 'MINIMAL'; INSERT INTO t VALUES (2);
         SET GLOBAL binlog_row_metadata = 'FULL'",
    )
    .await;
    let error = shop
        .stream_from(&source, &position)
        .await
        .expect("a stream")
        .error()
        .await;
    assert!(
        matches!(&error, SourceError::Unreadable { what, .. } if what.contains("binlog_row_metadata")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_schema_that_the_server_leaves_out_of_its_log_is_refused() {
    let server = server(&["--binlog-do-db=kept"]).await;
    let mut shop = Shop::on(&server.url()).await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY); CREATE DATABASE kept; CREATE TABLE kept.t (id INT PRIMARY KEY)")
        .await;
    let source = shop.source();
    let everything = Selection::tables(["*.*"]);
    for wanted in [&shop.all(), &everything] {
        let found = findings(&source, wanted).await;
        assert_eq!(names(&found), ["source_binlog_filter"]);
        assert!(found[0].what.contains(&shop.name), "{found:?}");
        assert!(!found[0].what.contains("of kept"), "{found:?}");
        assert_eq!(
            names(&refused(&source, wanted).await),
            ["source_binlog_filter"]
        );
    }
    // By the finding's cure only what is in the log is captured.
    let kept = Selection::tables(["*.*".to_owned(), format!("!{}.*", shop.name)]);
    assert_eq!(names(&findings(&source, &kept).await), [] as [&str; 0]);
    let opened = source.open(&kept, None).await.expect("a stream");
    opened.reader.close().await;
}

#[tokio::test]
async fn a_server_without_a_log_is_refused() {
    let server = final_tests::servers::MariaDb::start()
        .await
        .expect("MariaDB");
    let source = MySqlSource::new(&server.url()).expect("a source");
    let all = Selection::tables(["*.*"]);
    let refused = refused(&source, &all).await;
    assert!(
        names(&refused).contains(&"source_log_bin_off"),
        "{refused:?}"
    );
    assert!(refused[0].mend.contains("--log-bin"), "{refused:?}");
}

#[tokio::test]
async fn tables_whose_changes_are_not_whole_are_named() {
    let mut shop = Shop::open().await;
    shop.run(
        "CREATE TABLE parent (id INT PRIMARY KEY);
         CREATE TABLE child (id INT PRIMARY KEY, p INT, CONSTRAINT own FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE);
         CREATE TABLE keyless (id INT UNIQUE);
         CREATE TABLE ujis (id INT PRIMARY KEY, v TEXT CHARACTER SET ujis);
         CREATE TABLE versioned (id INT PRIMARY KEY) WITH SYSTEM VERSIONING",
    )
    .await;
    let found = findings(&shop.source(), &shop.all()).await;
    let told = |name: &str, table: &str| {
        let is = |finding: &&Finding| finding.name == name;
        let what = &found
            .iter()
            .find(is)
            .unwrap_or_else(|| panic!("{name}: {found:?}"))
            .what;
        assert!(what.contains(&format!("{}.{table}", shop.name)), "{what}");
    };
    told("source_foreign_key_cascade", "child");
    told("source_table_without_key", "keyless");
    told("source_charset_unknown", "ujis");
    told("source_table_versioned", "versioned");
    assert_eq!(found.len(), 4, "{found:?}");

    let none = Selection::tables([format!("{}.nothing_*", shop.name)]);
    assert_eq!(
        names(&findings(&shop.source(), &none).await),
        ["source_pattern_empty"]
    );

    // A column that is to be hidden and is not there may have been renamed.
    let rules = ColumnRules::new().mask("gone");
    let hidden = shop.all().columns(format!("{}.child", shop.name), rules);
    assert_eq!(
        names(&refused(&shop.source(), &hidden).await),
        ["source_selection"]
    );

    // A text that cannot be read stops the stream; it is not passed over.
    let mut stream = shop.stream().await;
    shop.run("INSERT INTO ujis VALUES (1, 'a')").await;
    let error = stream.error().await;
    assert!(
        matches!(&error, SourceError::Unreadable { what, .. } if what.contains("ujis")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_login_that_the_server_refuses_is_a_mistake_of_the_configuration_and_shows_no_password() {
    let shop = Shop::open().await;
    let url = shop.url.replace("root@", "nobody:hunter2@");
    assert_ne!(url, shop.url);
    let source = MySqlSource::new(&url).expect("a source");
    let error = source.check(&shop.all()).await.expect_err("no such user");
    assert!(matches!(error, SourceError::Config(_)), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("refused the login") && !text.contains("hunter2"),
        "{text}"
    );
}
