//! Findings about the outbox, the same on all databases.

use final_core::{Bus, Router, admin::doctor::Level};
use final_tests::eventually;

use super::{Patient, sick::Sick};
use crate::house::SOON;

crate::on_each_database!(
    a_healthy_database_shows_nothing,
    a_database_without_tables_is_told,
    a_service_without_tables_is_told,
    tables_of_an_earlier_release_are_told,
    a_table_of_another_service_is_told,
    a_trigger_is_told,
    records_that_no_process_takes_are_told,
    claims_whose_owner_is_gone_are_told,
    a_topic_without_a_queue_is_told,
);

async fn a_healthy_database_shows_nothing<D: Sick>(patient: Patient<D>) {
    patient.shows([]).await;
    patient
        .bus()
        .publish("placed", &1_i64)
        .await
        .expect("published");
    patient.handles(patient.bus(), "placed", 1).await;
    patient.log_bus().migrate().await.expect("migrate");
    let other = Bus::new("other-shop", patient.pool.clone(), patient.log());
    other
        .start(Router::new().route("paid", async || {}))
        .await
        .expect("start");
    other.publish("paid", &1_i64).await.expect("published");
    eventually("it is handled", SOON, async || {
        other.stats().await.expect("stats").handled == 1
    })
    .await;

    // While it runs, and afterwards.
    patient.shows([]).await;
    other.shutdown().await.expect("shutdown");
    patient.shows([]).await;
}

async fn a_database_without_tables_is_told<D: Sick>(_: Patient<D>) {
    let (pool, file) = D::fresh().await;
    let patient = Patient::bare(pool, file);

    let [finding] = patient.shows(["tables_missing"]).await;

    assert_eq!(finding.level, Level::Error);
    patient.bus().migrate().await.expect("migrate");
    patient.shows([]).await;
}

async fn a_service_without_tables_is_told<D: Sick>(patient: Patient<D>) {
    let examine = async || {
        let doctor = patient.doctor().service("stock");
        doctor.examine().await.expect("an examination")
    };

    let findings = examine().await;

    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].name, "tables_missing");
    assert!(
        findings[0].mend.contains("`final migrate --service stock`"),
        "{findings:?}"
    );
    let stock = Bus::new("stock", patient.pool.clone(), patient.broker.clone());
    stock.migrate().await.expect("migrate");
    assert_eq!(examine().await, []);
    let refused = patient.doctor().service("No Service").examine().await;
    refused.expect_err("no service has this name");
}

async fn tables_of_an_earlier_release_are_told<D: Sick>(patient: Patient<D>) {
    patient.log_bus().migrate().await.expect("migrate");
    for older in [
        "UPDATE final_migrations SET version = 1 WHERE service = 'shop'",
        "DROP TABLE final_shop_suspects",
        "UPDATE final_log_state SET version = 1",
    ] {
        D::run_on(&patient.pool, older).await;

        let [finding] = patient.shows(["tables_old"]).await;

        assert!(finding.mend.contains("`final migrate"), "{finding}");
        patient.log_bus().migrate().await.expect("migrate");
        patient.shows([]).await;
    }
}

async fn a_table_of_another_service_is_told<D: Sick>(patient: Patient<D>) {
    let theirs = Bus::new("my-shop", patient.pool.clone(), patient.broker.clone());
    theirs.migrate().await.expect("migrate");
    let examine = async || {
        let doctor = patient.doctor().service("my_shop");
        doctor.examine().await.expect("an examination")
    };

    let findings = examine().await;

    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].name, "tables_foreign");
    assert!(findings[0].mend.contains("my-shop"), "{findings:?}");
    // As the reason says: one of the two gets another name.
    patient.shows([]).await;
}

async fn a_trigger_is_told<D: Sick>(patient: Patient<D>) {
    for sql in D::SWALLOWS {
        D::run_on(&patient.pool, sql).await;
    }

    let finding = patient.is_mended_by_words("trigger_on_table").await;

    assert!(finding.what.contains("final_shop_outbox"), "{finding}");
}

async fn records_that_no_process_takes_are_told<D: Sick>(patient: Patient<D>) {
    let bus = patient.bus();
    bus.publish("placed", &1_i64).await.expect("published");

    let [finding] = patient.shows(["records_without_owner"]).await;

    assert!(
        finding
            .mend
            .contains("Start an instance of the service shop"),
        "{finding}"
    );
    patient.handles(patient.bus(), "placed", 1).await;
    patient.shows([]).await;
}

async fn claims_whose_owner_is_gone_are_told<D: Sick>(patient: Patient<D>) {
    patient
        .bus()
        .publish("placed", &1_i64)
        .await
        .expect("published");
    D::run_on(&patient.pool, D::DEAD_CLAIM).await;

    let [finding] = patient.shows(["claims_without_owner"]).await;

    assert!(finding.what.contains("1 claim(s)"), "{finding}");
    patient.handles(patient.bus(), "placed", 1).await;
    patient.shows([]).await;
}

async fn a_topic_without_a_queue_is_told<D: Sick>(patient: Patient<D>) {
    let bus = patient.bus();
    bus.start(Router::new()).await.expect("start");
    bus.publish("lonely", &1_i64).await.expect("published");
    eventually("it is parked", SOON, async || {
        bus.stats().await.expect("stats").unroutable == 1
    })
    .await;
    bus.shutdown().await.expect("shutdown");

    let [finding] = patient.shows(["topic_without_queue"]).await;

    assert!(
        finding.what.contains("1 record(s)") && finding.what.contains("lonely"),
        "{finding}"
    );
    patient.handles(patient.bus(), "lonely", 1).await;
    patient.shows([]).await;
}
