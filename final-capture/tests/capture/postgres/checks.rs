//! What is wrong with a server is told with the statement that mends it.

use std::time::Duration;

use final_capture::{
    select::{ColumnRules, Selection},
    source::{Source, SourceError},
};
use final_core::admin::doctor::{Finding, Level};
use final_tests::{
    eventually,
    servers::{Postgres, Setup},
    unique,
};

use super::shop::{LIMIT, Shop, Stream};

async fn findings(shop: &Shop) -> Vec<Finding> {
    shop.source().check(&shop.wanted).await.unwrap()
}

async fn found(shop: &Shop, name: &str) -> Finding {
    let findings = findings(shop).await;
    let found = findings.iter().find(|finding| finding.name == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {findings:?}"))
        .clone()
}

/// Runs the statement that a finding gives.
async fn mend(shop: &Shop, finding: &Finding) {
    let mut statements = finding.mend.split('`').skip(1).step_by(2);
    shop.run(statements.next().unwrap()).await;
}

async fn refusal(shop: &Shop) -> Vec<&'static str> {
    match shop.try_open(None).await {
        Err(SourceError::Refused(findings)) => findings.iter().map(|it| it.name).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_that_is_fine_has_no_error_and_no_warning() {
    let shop = Shop::new().await;
    shop.run("CREATE TABLE shop.holes (id int PRIMARY KEY)")
        .await;
    let findings = findings(&shop).await;
    assert!(
        findings.iter().all(|it| it.level == Level::Note),
        "{findings:?}"
    );
}

#[tokio::test]
async fn a_server_without_logical_decoding_is_refused() {
    let server = Postgres::start_with(Setup::default()).await.unwrap();
    let shop = Shop::at(&server.url()).await;
    shop.run("CREATE TABLE shop.holes (id int PRIMARY KEY)")
        .await;
    assert_eq!(refusal(&shop).await, ["source_wal_level"]);
    let finding = found(&shop, "source_wal_level").await;
    assert!(
        finding
            .mend
            .contains("`ALTER SYSTEM SET wal_level = logical`"),
        "{finding}"
    );
}

#[tokio::test]
async fn a_table_without_a_key_is_refused_by_name_and_left_out_by_pattern() {
    let mut shop = Shop::new().await;
    shop.run("CREATE TABLE shop.holes (id int PRIMARY KEY); CREATE TABLE shop.notes (text text)")
        .await;
    // The application goes on writing to it.
    let mut stream = shop.open(None).await;
    shop.run("INSERT INTO shop.notes VALUES ('a'); UPDATE shop.notes SET text = 'b'")
        .await;
    shop.run("INSERT INTO shop.holes VALUES (1)").await;
    assert_eq!(&*stream.transaction().await.row().table.name.table, "holes");
    stream.saved();
    stream.close().await;
    let finding = found(&shop, "source_table_key").await;
    assert_eq!(finding.level, Level::Warning, "{finding}");

    shop.wanted = Selection::tables(["shop.holes", "shop.notes"]);
    assert_eq!(refusal(&shop).await, ["source_table_key"]);
    let finding = found(&shop, "source_table_key").await;
    assert!(finding.mend.contains("ADD PRIMARY KEY"), "{finding}");
    shop.run("ALTER TABLE shop.notes REPLICA IDENTITY FULL")
        .await;
    let mut stream = shop.open(None).await;
    shop.run("UPDATE shop.notes SET text = 'c'").await;
    assert_eq!(&*stream.transaction().await.row().table.name.table, "notes");
    stream.close().await;
}

#[tokio::test]
async fn tables_that_are_not_there_or_not_logged_are_told() {
    let mut shop = Shop::new().await;
    shop.run("CREATE UNLOGGED TABLE shop.cache (id int PRIMARY KEY)")
        .await;
    shop.run("CREATE VIEW shop.seen AS SELECT 1").await;
    shop.wanted = Selection::tables([
        "shop.cache",
        "shop.seen",
        "shop.holes",
        "shop.tmp_*",
        "!shop.x",
    ]);
    let findings = findings(&shop).await;
    let of = |name| {
        let of = findings.iter().filter(|it| it.name == name);
        of.map(|it| (it.level, it.what.clone())).collect::<Vec<_>>()
    };
    let unknown = |name: &str| (Level::Error, format!("no table is named by `shop.{name}`"));
    assert_eq!(
        of("source_table_unknown"),
        [unknown("seen"), unknown("holes")]
    );
    assert_eq!(of("source_pattern_empty").len(), 1);
    assert_eq!(of("source_table_unlogged")[0].0, Level::Error);
    let finding = found(&shop, "source_table_unlogged").await;
    mend(&shop, &finding).await;
    assert_eq!(
        refusal(&shop).await,
        ["source_table_unknown", "source_table_unknown"]
    );
}

#[tokio::test]
async fn a_rule_for_a_column_that_is_not_there_is_refused() {
    let mut shop = Shop::new().await;
    shop.run("CREATE TABLE shop.users (id int PRIMARY KEY, mail text)")
        .await;
    let rules = ColumnRules::new().mask("email");
    shop.wanted = shop.wanted.clone().columns("shop.users", rules);
    assert_eq!(refusal(&shop).await, ["source_selection"]);
}

#[tokio::test]
async fn a_publication_that_leaves_something_out_is_refused_and_mended_by_its_statement() {
    let shop = Shop::new().await;
    shop.run(
        "CREATE TABLE shop.holes (id int PRIMARY KEY, content text);
         CREATE TABLE shop.visits (at int PRIMARY KEY) PARTITION BY RANGE (at)",
    )
    .await;
    let publication = &shop.slot;
    shop.run(&format!(
        "CREATE PUBLICATION {publication} FOR TABLE shop.holes WHERE (id > 5) WITH (publish = 'insert')"
    ))
    .await;
    let mut refused = refusal(&shop).await;
    refused.sort_unstable();
    assert_eq!(
        refused,
        [
            "source_publication_filter",
            "source_publication_operations",
            "source_publication_root"
        ]
    );
    for name in ["source_publication_operations", "source_publication_root"] {
        let finding = found(&shop, name).await;
        mend(&shop, &finding).await;
    }
    let finding = found(&shop, "source_publication_filter").await;
    assert!(finding.what.contains("id > 5"), "{finding}");
    shop.run(&format!(
        "ALTER PUBLICATION {publication} SET TABLE shop.holes (id)"
    ))
    .await;
    let finding = found(&shop, "source_publication_columns").await;
    assert_eq!(finding.level, Level::Warning);
    // The table that was missing is added, and the operator's publication keeps what it has.
    shop.open(None).await.close().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT tablename::text FROM pg_publication_tables WHERE pubname = $1 ORDER BY 1",
    )
    .bind(publication)
    .fetch_all(&shop.pool)
    .await
    .unwrap();
    assert_eq!(tables, ["holes", "visits"]);
}

#[tokio::test]
async fn a_role_without_rights_is_told_the_statements_for_who_has_them() {
    let shop = Shop::new().await;
    shop.run("CREATE TABLE shop.holes (id int PRIMARY KEY)")
        .await;
    let role = &shop.slot;
    shop.run(&format!("CREATE ROLE {role} LOGIN")).await;
    let url = shop.url.replace("postgres@", &format!("{role}@"));
    let findings = shop.source_at(&url).check(&shop.wanted).await.unwrap();
    let mut statements = Vec::new();
    for finding in findings.iter().filter(|it| it.level == Level::Error) {
        let texts = finding.mend.split('`').skip(1).step_by(2);
        let texts = texts.filter(|text| !text.contains("rds_replication"));
        statements.extend(texts.map(str::to_owned));
    }
    assert_eq!(statements.len(), 3, "{findings:?}");
    let refused = shop.source_at(&url).open(&shop.wanted, None).await;
    assert!(
        matches!(refused, Err(SourceError::Refused(_))),
        "{refused:?}"
    );
    for statement in statements {
        shop.run(&statement).await;
    }
    let opened = shop.source_at(&url).open(&shop.wanted, None).await;
    let mut stream = Stream::of(opened.unwrap());
    shop.run("INSERT INTO shop.holes VALUES (1)").await;
    assert_eq!(stream.transaction().await.rows().len(), 1);
    stream.close().await;
}

#[tokio::test]
async fn generated_columns_are_told() {
    let shop = Shop::new().await;
    shop.run("CREATE TABLE shop.holes (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED)").await;
    let finding = found(&shop, "source_generated_columns").await;
    assert!(finding.what.contains("twice"), "{finding}");
}

#[tokio::test]
async fn a_table_that_is_made_later_is_captured_and_one_that_is_no_longer_wanted_is_not_published()
{
    let mut shop = Shop::new().await;
    shop.run("CREATE TABLE shop.holes (id int PRIMARY KEY)")
        .await;
    let source = shop.source().look_each(Duration::from_millis(20));
    let mut stream = Stream::of(source.open(&shop.wanted, None).await.unwrap());
    shop.run("CREATE TABLE shop.replies (id int PRIMARY KEY); CREATE TABLE shop.bare (id int)")
        .await;
    let published = async || -> Vec<String> {
        sqlx::query_scalar(
            "SELECT tablename::text FROM pg_publication_tables WHERE pubname = $1 ORDER BY 1",
        )
        .bind(&shop.slot)
        .fetch_all(&shop.pool)
        .await
        .unwrap()
    };
    eventually("the new table is published", LIMIT, async || {
        let tables = published().await;
        (tables == ["holes", "replies"]).then_some(()).ok_or(tables)
    })
    .await;
    shop.run("INSERT INTO shop.replies VALUES (1); UPDATE shop.bare SET id = 2")
        .await;
    assert_eq!(
        &*stream.transaction().await.row().table.name.table,
        "replies"
    );
    stream.saved();
    stream.close().await;
    shop.wanted = Selection::tables(["shop.replies"]);
    shop.open(None).await.close().await;
    let published: Vec<String> =
        sqlx::query_scalar("SELECT tablename::text FROM pg_publication_tables WHERE pubname = $1")
            .bind(&shop.slot)
            .fetch_all(&shop.pool)
            .await
            .unwrap();
    assert_eq!(published, ["replies"]);
}

async fn published(shop: &Shop) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT tablename::text FROM pg_publication_tables WHERE pubname = $1 ORDER BY 1",
    )
    .bind(&shop.slot)
    .fetch_all(&shop.pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_publication_that_follows_the_tables_of_another_slot_is_refused_and_left_as_it_is() {
    let shop = Shop::new().await;
    shop.run("CREATE TABLE shop.holes (id int PRIMARY KEY); CREATE TABLE shop.replies (id int PRIMARY KEY)")
        .await;
    shop.open(None).await.close().await;
    let other = unique("slot");
    let second = shop.source().slot(&other).unwrap();
    let wanted = Selection::tables(["shop.replies"]);
    let Err(SourceError::Refused(findings)) = second.open(&wanted, None).await else {
        panic!("it was opened");
    };
    let finding = &findings[0];
    assert_eq!(finding.name, "source_publication_foreign");
    assert!(finding.what.contains(&shop.slot), "{finding}");
    assert_eq!(published(&shop).await, ["holes", "replies"]);
    // It is the second's by the statement of the finding.
    mend(&shop, finding).await;
    Stream::of(second.open(&wanted, None).await.unwrap())
        .close()
        .await;
    assert_eq!(published(&shop).await, ["replies"]);
    assert_eq!(refusal(&shop).await, ["source_publication_foreign"]);
}

#[tokio::test]
async fn a_publication_with_a_mark_that_names_no_slot_becomes_that_of_its_first_slot() {
    let shop = Shop::new().await;
    shop.run("CREATE TABLE shop.holes (id int PRIMARY KEY)")
        .await;
    shop.open(None).await.close().await;
    shop.run(&format!(
        "COMMENT ON PUBLICATION {} IS 'made by final capture, and follows its tables'",
        shop.slot
    ))
    .await;
    shop.open(None).await.close().await;
    let second = shop.source().slot(&unique("slot")).unwrap();
    let refused = second.open(&shop.wanted, None).await;
    assert!(
        matches!(&refused, Err(SourceError::Refused(findings)) if findings[0].name == "source_publication_foreign"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_captured_table_that_loses_its_key_ends_the_stream_and_can_still_be_updated() {
    let shop = Shop::new().await;
    shop.run("CREATE TABLE shop.holes (id int PRIMARY KEY); CREATE TABLE shop.replies (id int PRIMARY KEY)")
        .await;
    let lost = |error: SourceError| match error {
        SourceError::Refused(findings) => {
            assert_eq!(findings[0].name, "source_table_lost");
            assert!(
                findings[0].what.contains("shop.holes"),
                "{}",
                findings[0].what
            );
        }
        other => panic!("{other:?}"),
    };
    // While the stream is open.
    let source = shop.source().look_each(Duration::from_millis(20));
    let mut stream = Stream::of(source.open(&shop.wanted, None).await.unwrap());
    shop.run("ALTER TABLE shop.holes DROP CONSTRAINT holes_pkey")
        .await;
    lost(stream.failure().await);
    assert_eq!(published(&shop).await, ["replies"]);
    shop.run("UPDATE shop.holes SET id = 2").await;
    stream.close().await;

    // While no stream was open.
    shop.run("ALTER TABLE shop.holes ADD PRIMARY KEY (id)")
        .await;
    let position = shop.open(None).await.close().await;
    shop.run("ALTER TABLE shop.holes DROP CONSTRAINT holes_pkey")
        .await;
    lost(shop.try_open(Some(&position)).await.unwrap_err());
    assert_eq!(published(&shop).await, ["replies"]);
}
