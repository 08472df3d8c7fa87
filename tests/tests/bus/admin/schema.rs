//! What an admin needs of the tables, and what it makes.

use final_core::{
    MemoryBroker,
    admin::{RecordFilter, Schema},
    broker::DeadLetterFilter,
};

use super::{admin, fill, outbox_bus, shop};
use crate::{database::Database, log::Log};

crate::log_suite!(
    nothing_that_only_reads_makes_a_table,
    services_are_found_by_what_is_written_down_and_by_the_groups_of_the_log,
    tables_of_an_older_release_are_told_and_can_be_looked_at,
    tables_of_a_newer_release_are_told_and_can_be_looked_at,
    a_table_that_was_dropped_is_told,
    migrating_makes_the_table_of_operations_and_the_script_does_too,
);

async fn tables<D: Database>(log: &Log<D>) -> i64 {
    log.number(match D::NAME {
        "PostgreSQL" => "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'",
        "MySQL" => "SELECT count(*) FROM information_schema.tables WHERE table_schema = DATABASE()",
        _ => "SELECT count(*) FROM sqlite_master WHERE type = 'table'",
    })
    .await
}

async fn nothing_that_only_reads_makes_a_table<D: Database>(log: Log<D>) {
    let look = async || {
        let admin = admin(&log);
        admin.services().await.expect("services");
        admin.groups().await.expect("groups");
        admin
            .operations(&Default::default())
            .await
            .expect("operations");
        let id = final_core::MessageId::new();
        let trail = admin.trail(id).await.expect("a trail");
        assert!(trail.stations.is_empty() && trail.is_complete);
        let shop = shop(&log);
        let _ = shop.overview().await;
        let _ = shop.records(&RecordFilter::all()).await;
        let _ = shop.letters(&DeadLetterFilter::all()).await;
        let _ = shop.lanes().await;
    };
    look().await;
    assert_eq!(tables(&log).await, 0);

    let bus = log.bus("shop");
    bus.start(final_core::Router::new()).await.expect("start");
    let started = tables(&log).await;
    look().await;
    assert_eq!(tables(&log).await, started);
    bus.shutdown().await.expect("shutdown");
}

async fn services_are_found_by_what_is_written_down_and_by_the_groups_of_the_log<D: Database>(
    log: Log<D>,
) {
    let (mail, _) = log.noting("my-mail", &["placed"]).await;
    outbox_bus(&log, &MemoryBroker::new())
        .migrate()
        .await
        .expect("migrate");

    let services = admin(&log).services().await.expect("services");

    let told: Vec<_> = services
        .iter()
        .map(|service| (&*service.name, service.outbox, service.reads_log))
        .collect();
    let current = Some(Schema::Current);
    assert_eq!(told, [("my-mail", current, true), ("shop", current, false)]);
    mail.shutdown().await.expect("shutdown");
}

async fn set_version<D: Database>(log: &Log<D>, version: i32) {
    log.run(&format!(
        "UPDATE final_migrations SET version = {version} WHERE table_name = 'final_shop_outbox'"
    ))
    .await;
}

async fn tables_of_an_older_release_are_told_and_can_be_looked_at<D: Database>(log: Log<D>) {
    let (mail, _) = log.noting("mail", &["placed"]).await;
    outbox_bus(&log, &MemoryBroker::new())
        .migrate()
        .await
        .expect("migrate");
    log.run(&fill::<D>(0, "placed", 0, 3)).await;
    for table in ["claims", "suspects", "dead"] {
        log.run(&format!("DROP TABLE final_shop_{table}")).await;
    }
    set_version(&log, 1).await;

    let services = admin(&log).services().await.expect("services");
    let shop_is = services
        .iter()
        .find(|service| service.name == "shop")
        .expect("shop");
    assert!(
        matches!(shop_is.outbox, Some(Schema::Older { found: 1, .. })),
        "{shop_is:?}"
    );
    let overview = shop(&log).overview().await.expect("an overview");
    assert_eq!(overview.outbox.expect("an outbox").pending.number, 3);
    let first = overview.not_moving.first().expect("stuck").to_string();
    assert!(
        first.contains("version 1") && first.contains("migrate"),
        "{first}"
    );
    let records = shop(&log)
        .records(&RecordFilter::all())
        .await
        .expect("records");
    assert_eq!(records.items.len(), 3);
    let letters = shop(&log)
        .letters(&DeadLetterFilter::all())
        .await
        .expect("letters");
    assert!(letters.items.is_empty());
    admin(&log)
        .service("mail")
        .overview()
        .await
        .expect("the others as ever");
    mail.shutdown().await.expect("shutdown");
}

async fn tables_of_a_newer_release_are_told_and_can_be_looked_at<D: Database>(log: Log<D>) {
    outbox_bus(&log, &MemoryBroker::new())
        .migrate()
        .await
        .expect("migrate");
    log.run(&fill::<D>(3, "placed", 0, 3)).await;
    set_version(&log, 999).await;
    log.run("ALTER TABLE final_shop_outbox ADD COLUMN novelty INTEGER")
        .await;

    let services = admin(&log).services().await.expect("services");

    assert!(
        matches!(services[0].outbox, Some(Schema::Newer { found: 999, .. })),
        "{services:?}"
    );
    let overview = shop(&log).overview().await.expect("an overview");
    assert_eq!(overview.outbox.expect("an outbox").failed.number, 3);
    let records = shop(&log)
        .records(&RecordFilter::all())
        .await
        .expect("records");
    assert_eq!(records.items.len(), 3);
}

async fn a_table_that_was_dropped_is_told<D: Database>(log: Log<D>) {
    outbox_bus(&log, &MemoryBroker::new())
        .migrate()
        .await
        .expect("migrate");
    log.run("DROP TABLE final_shop_outbox").await;

    let services = admin(&log).services().await.expect("services");

    assert_eq!(services[0].outbox, Some(Schema::Missing));
    let overview = shop(&log).overview().await.expect("an overview");
    let first = overview.not_moving.first().expect("stuck").to_string();
    assert!(first.contains("missing"), "{first}");
    assert!(
        shop(&log)
            .records(&RecordFilter::all())
            .await
            .expect("records")
            .items
            .is_empty()
    );
}

async fn migrating_makes_the_table_of_operations_and_the_script_does_too<D: Database>(log: Log<D>) {
    let bus = outbox_bus(&log, &MemoryBroker::new());
    let script = bus.migration_sql().expect("a script");
    let mut conn = log.pool.acquire().await.expect("a connection");
    D::raw(&mut conn, &script).await.expect("by hand");
    assert_eq!(log.number("SELECT count(*) FROM final_operations").await, 0);
    drop(conn);

    bus.migrate().await.expect("migrate");
    bus.migrate().await.expect("again");

    assert_eq!(log.number("SELECT count(*) FROM final_operations").await, 0);
}
