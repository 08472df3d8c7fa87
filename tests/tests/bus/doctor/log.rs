//! Findings about the log, the same on all databases.

use final_core::Router;

use super::{Patient, sick::Sick};

crate::on_each_database!(
    a_group_that_nobody_runs_is_told,
    a_group_that_never_read_is_told,
    lanes_that_no_member_has_are_told,
    a_sequence_behind_the_log_is_told,
    numbers_that_were_used_before_are_told,
);

/// The group has read one message.
async fn subscribed<D: Sick>(patient: &Patient<D>) {
    let bus = patient.log_bus();
    bus.migrate().await.expect("migrate");
    bus.start(Router::new().route("placed", async || {}))
        .await
        .expect("start");
    publish(patient).await;
    final_tests::eventually("it is handled", crate::house::SOON, async || {
        bus.stats().await.expect("stats").handled == 1
    })
    .await;
    bus.shutdown().await.expect("shutdown");
    patient.shows([]).await;
}

async fn publish<D: Sick>(patient: &Patient<D>) {
    patient
        .log_bus()
        .publish("placed", &1_i64)
        .await
        .expect("published");
}

async fn a_group_that_nobody_runs_is_told<D: Sick>(patient: Patient<D>) {
    subscribed(&patient).await;
    publish(&patient).await;
    publish(&patient).await;

    let [finding] = patient.shows(["group_without_member"]).await;

    assert!(finding.what.contains("2 message(s)"), "{finding}");
    patient.handles(patient.log_bus(), "placed", 2).await;
    patient.shows([]).await;
    // Or it does not come back.
    publish(&patient).await;
    let [finding] = patient.shows(["group_without_member"]).await;
    assert!(
        finding.mend.contains("`final log forget shop`"),
        "{finding}"
    );
    assert!(patient.log().forget("shop").await.expect("forgotten"));
    patient.shows([]).await;
}

async fn a_group_that_never_read_is_told<D: Sick>(patient: Patient<D>) {
    let bus = patient.log_bus();
    bus.migrate().await.expect("migrate");
    bus.start(Router::new().route("placed", async || {}))
        .await
        .expect("start");
    bus.shutdown().await.expect("shutdown");
    publish(&patient).await;

    patient.shows(["group_never_read"]).await;

    patient.handles(patient.log_bus(), "placed", 1).await;
    patient.shows([]).await;
}

/// A process stands still, with a lease that goes on and without a lane.
async fn lanes_that_no_member_has_are_told<D: Sick>(patient: Patient<D>) {
    subscribed(&patient).await;
    D::run_on(&patient.pool, D::IDLE_MEMBER).await;
    publish(&patient).await;

    let [finding] = patient.shows(["lanes_without_member"]).await;

    assert!(
        finding.what.contains("16 of 16 lanes of the group shop"),
        "{finding}"
    );
    // The instance is restarted.
    D::run_on(&patient.pool, "DELETE FROM final_log_members").await;
    patient.handles(patient.log_bus(), "placed", 1).await;
    patient.shows([]).await;
}

async fn a_sequence_behind_the_log_is_told<D: Sick>(patient: Patient<D>) {
    subscribed(&patient).await;
    D::truncate(&patient.pool).await;

    patient.is_mended_by_words("sequence_behind").await;

    publish(&patient).await;
    patient.handles(patient.log_bus(), "placed", 1).await;
}

async fn numbers_that_were_used_before_are_told<D: Sick>(patient: Patient<D>) {
    subscribed(&patient).await;
    D::truncate(&patient.pool).await;
    publish(&patient).await;
    let doctor = || patient.doctor().waiting_for(crate::house::SOON);
    let findings = doctor().examine().await.expect("an examination");
    let [twice] = &findings[..] else {
        panic!("{findings:#?}");
    };

    assert_eq!(twice.name, "numbers_used_twice");

    patient.handles(patient.log_bus(), "placed", 1).await;
    patient.shows([]).await;
}
