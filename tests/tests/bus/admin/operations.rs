//! Bulk actions do what was planned and nothing else, whatever arrives meanwhile and whatever dies.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use final_core::{
    MemoryBroker,
    admin::{
        Action, AdminError, Operation, OperationFilter, OperationState, Pace, Plan, RecordFilter,
        RecordState, Sample,
    },
    broker::DeadLetterFilter,
};
use final_tests::process::Launch;
use sqlx::ConnectOptions;

use super::{admin, comes_true, fill, kill, letters::collect, outbox_bus, refusing, shop};
use crate::{database::Database, log::Log};

crate::log_suite!(
    what_was_planned_is_what_is_replayed_and_not_one_letter_more,
    an_operation_whose_program_is_killed_is_carried_on_by_another_and_each_letter_is_replayed_once,
    two_programs_do_not_carry_out_the_same_operation,
    an_operation_that_is_stopped_ends_before_its_next_batch_and_can_be_carried_on,
    an_operation_is_written_down,
    a_plan_that_means_nothing_is_not_written_down,
    an_action_and_a_filter_that_do_not_go_together_are_refused,
    a_letter_that_the_database_refuses_stays_and_the_others_go,
    letters_are_discarded_by_a_plan,
    a_limit_is_the_number_of_letters_at_most,
    collected_letters_are_replayed_through_the_outbox_to_their_service_alone,
    failed_records_are_retried_and_those_that_fail_later_are_not,
    unroutable_records_are_discarded_and_pending_ones_never,
    what_comes_after_the_plan_does_not_take_the_place_of_what_is_gone,
);

crate::log_suite!(at once: letters_that_another_session_has_locked_are_told_and_done_later);

/// Plans to replay all letters of `shop`.
async fn plan_to_replay<D: Database>(log: &Log<D>) -> Plan {
    let all = DeadLetterFilter::all();
    let plan = shop(log).plan(Action::Replay, &all, "ann").await;
    plan.expect("a plan")
}

async fn carry_out<D: Database>(log: &Log<D>, id: i64) -> Operation {
    let done = admin(log).carry_out(id, Pace::unlimited(), |_| {}).await;
    done.expect("carried out")
}

async fn replayed<D: Database>(log: &Log<D>) -> (i64, i64) {
    (
        log.number("SELECT count(*) FROM final_log WHERE recipient = 'shop'")
            .await,
        log.number("SELECT count(DISTINCT message_id) FROM final_log WHERE recipient = 'shop'")
            .await,
    )
}

async fn dead<D: Database>(log: &Log<D>) -> i64 {
    log.number("SELECT count(*) FROM final_log_dead").await
}

async fn what_was_planned_is_what_is_replayed_and_not_one_letter_more<D: Database>(log: Log<D>) {
    let bus = refusing(&log, "placed").await;
    kill(&log, &bus, "placed", 0..1_000, 1_000).await;

    let plan = plan_to_replay(&log).await;
    assert_eq!(
        (plan.count.number, plan.count.more, plan.sample.len()),
        (1_000, false, 5)
    );
    kill(&log, &bus, "placed", 1_000..1_500, 1_500).await;
    bus.shutdown().await.expect("shutdown");
    let told = Arc::new(AtomicU64::new(0));
    let progress = Arc::clone(&told);
    let done = admin(&log)
        .carry_out(plan.id, Pace::unlimited(), move |now| {
            progress.store(now.done, Ordering::SeqCst);
        })
        .await
        .expect("carried out");

    assert_eq!(
        (done.state, done.done, done.refused),
        (OperationState::Done, 1_000, 0)
    );
    assert_eq!(told.load(Ordering::SeqCst), 1_000);
    assert_eq!(
        (replayed(&log).await, dead(&log).await),
        ((1_000, 1_000), 500)
    );
    let again = admin(&log)
        .carry_out(plan.id, Pace::unlimited(), |_| {})
        .await;
    assert!(
        matches!(again, Err(AdminError::OperationEnded(_))),
        "{again:?}"
    );
}

/// A child process that carries an operation out, slowly.
fn operator<D: Database>(log: &Log<D>, id: i64, logs: &Path) -> final_tests::process::Process {
    let url = log.pool.connect_options().to_url_lossy().to_string();
    let launch =
        Launch::new(env!("CARGO_BIN_EXE_operator")).args([url, id.to_string(), "150".to_owned()]);
    launch
        .spawn("operator", &logs.join("operator.log"))
        .expect("started")
}

/// Ends the lease of an operation, as time does.
async fn end_lease<D: Database>(log: &Log<D>) {
    log.run("UPDATE final_operation_leases SET live_until = 0")
        .await;
}

async fn an_operation_whose_program_is_killed_is_carried_on_by_another_and_each_letter_is_replayed_once<
    D: Database,
>(
    log: Log<D>,
) {
    let bus = refusing(&log, "placed").await;
    kill(&log, &bus, "placed", 0..1_000, 1_000).await;
    bus.shutdown().await.expect("shutdown");
    let plan = plan_to_replay(&log).await;
    let logs = final_tests::WorkDir::new("operator").expect("a folder");
    let child = operator(&log, plan.id, logs.path());
    comes_true("300 are done", async || {
        let now = admin(&log).operation(plan.id).await.expect("read");
        now.done >= 300
    })
    .await;

    child.kill9();
    let begun = admin(&log).operation(plan.id).await.expect("read");
    let early = admin(&log)
        .carry_out(plan.id, Pace::unlimited(), |_| {})
        .await;
    assert!(
        matches!(early, Err(AdminError::OperationInHand { .. })),
        "{early:?}"
    );
    end_lease(&log).await;
    let left = admin(&log).operation(plan.id).await.expect("read");
    assert_eq!(left.state, OperationState::Interrupted);
    assert!((300..1_000).contains(&left.done), "{}", left.done);
    assert_eq!(begun.done, left.done, "nothing was half done");

    let done = carry_out(&log, plan.id).await;

    assert_eq!((done.state, done.done), (OperationState::Done, 1_000));
    assert_eq!(
        (replayed(&log).await, dead(&log).await),
        ((1_000, 1_000), 0)
    );
}

async fn two_programs_do_not_carry_out_the_same_operation<D: Database>(log: Log<D>) {
    let bus = refusing(&log, "placed").await;
    kill(&log, &bus, "placed", 0..300, 300).await;
    bus.shutdown().await.expect("shutdown");
    let plan = plan_to_replay(&log).await;

    let all = (0..4).map(|_| {
        let admin = admin(&log);
        tokio::spawn(async move {
            admin
                .carry_out(plan.id, Pace::per_second(400), |_| {})
                .await
        })
    });
    let mut done = 0;
    for one in all.collect::<Vec<_>>() {
        match one.await.expect("joined") {
            Ok(operation) => done += operation.done,
            Err(AdminError::OperationInHand { .. } | AdminError::OperationEnded(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }

    assert_eq!(done, 300);
    assert_eq!((replayed(&log).await, dead(&log).await), ((300, 300), 0));
}

async fn an_operation_that_is_stopped_ends_before_its_next_batch_and_can_be_carried_on<
    D: Database,
>(
    log: Log<D>,
) {
    let bus = refusing(&log, "placed").await;
    kill(&log, &bus, "placed", 0..400, 400).await;
    bus.shutdown().await.expect("shutdown");
    let plan = plan_to_replay(&log).await;
    let running = admin(&log);
    let running = tokio::spawn(async move {
        running
            .carry_out(plan.id, Pace::per_second(100), |_| {})
            .await
    });
    comes_true("100 are done", async || {
        admin(&log).operation(plan.id).await.expect("read").done >= 100
    })
    .await;

    let stopped = admin(&log).stop(plan.id).await.expect("stopped");
    assert_eq!(stopped.state, OperationState::Stopped);
    let ended = running.await.expect("joined").expect("ended");
    assert_eq!(ended.state, OperationState::Stopped);
    assert!(ended.done < 400, "{}", ended.done);
    assert_eq!(
        dead(&log).await,
        400 - i64::try_from(ended.done).expect("few")
    );

    let done = carry_out(&log, plan.id).await;
    assert_eq!((done.state, done.done), (OperationState::Done, 400));
    assert_eq!((replayed(&log).await, dead(&log).await), ((400, 400), 0));
    let late = admin(&log).stop(plan.id).await;
    assert!(
        matches!(late, Err(AdminError::OperationEnded(_))),
        "{late:?}"
    );
}

async fn an_operation_is_written_down<D: Database>(log: Log<D>) {
    let bus = refusing(&log, "placed").await;
    kill(&log, &bus, "placed", 0..3, 3).await;
    let filter = DeadLetterFilter::all()
        .topic("placed")
        .reason("refused")
        .limit(2);

    let plan = shop(&log)
        .plan(Action::Discard, &filter, "ann")
        .await
        .expect("a plan");
    let planned = admin(&log)
        .operations(&OperationFilter::all())
        .await
        .expect("read");

    assert_eq!(planned.len(), 1);
    let planned = &planned[0];
    assert_eq!(
        (planned.id, &*planned.service, &*planned.who),
        (plan.id, "shop", "ann")
    );
    assert_eq!(
        (planned.action, planned.state),
        (Action::Discard, OperationState::Planned)
    );
    assert_eq!(
        planned.filter,
        "dead letters: topic \"placed\", reason contains \"refused\", at most 2"
    );
    assert_eq!(
        (planned.total.number, planned.done, planned.started_at),
        (2, 0, None)
    );
    assert_eq!(carry_out(&log, plan.id).await.done, 2);
    let unfinished = OperationFilter::all().unfinished();
    assert!(
        admin(&log)
            .operations(&unfinished)
            .await
            .expect("read")
            .is_empty()
    );
    let others = OperationFilter::all().service("mail");
    assert!(
        admin(&log)
            .operations(&others)
            .await
            .expect("read")
            .is_empty()
    );
    let unknown = admin(&log).operation(plan.id + 1).await;
    assert!(
        matches!(unknown, Err(AdminError::UnknownOperation(_))),
        "{unknown:?}"
    );
    bus.shutdown().await.expect("shutdown");
}

async fn a_plan_that_means_nothing_is_not_written_down<D: Database>(log: Log<D>) {
    let bus = refusing(&log, "placed").await;

    let plan = plan_to_replay(&log).await;

    assert_eq!((plan.id, plan.count.number), (0, 0));
    assert!(
        admin(&log)
            .operations(&OperationFilter::all())
            .await
            .expect("read")
            .is_empty()
    );
    bus.shutdown().await.expect("shutdown");
}

async fn an_action_and_a_filter_that_do_not_go_together_are_refused<D: Database>(log: Log<D>) {
    let bus = refusing(&log, "placed").await;
    let shop = shop(&log);

    let plans = [
        shop.plan(Action::Replay, RecordFilter::all(), "ann").await,
        shop.plan(Action::Retry, DeadLetterFilter::all(), "ann")
            .await,
        shop.plan(
            Action::Discard,
            RecordFilter::all().state(RecordState::Pending),
            "ann",
        )
        .await,
    ];

    for plan in plans {
        assert!(
            matches!(plan, Err(AdminError::InvalidFilter(_))),
            "{plan:?}"
        );
    }
    bus.shutdown().await.expect("shutdown");
}

async fn a_letter_that_the_database_refuses_stays_and_the_others_go<D: Database>(log: Log<D>) {
    let bus = refusing(&log, "placed").await;
    kill(&log, &bus, "placed", 0..30, 30).await;
    bus.publish("placed", &99_i64)
        .key("bad")
        .await
        .expect("publish");
    log.comes_to("SELECT count(*) FROM final_log_dead", 31)
        .await;
    bus.shutdown().await.expect("shutdown");
    let plan = plan_to_replay(&log).await;
    log.run("DELETE FROM final_log").await;
    log.run(match D::NAME {
        "SQLite" => {
            "CREATE TRIGGER guard BEFORE INSERT ON final_log WHEN NEW.message_key = 'bad' \
             BEGIN SELECT RAISE(ROLLBACK, 'not here'); END"
        }
        _ => "ALTER TABLE final_log ADD CONSTRAINT guard CHECK (message_key <> 'bad')",
    })
    .await;

    let done = carry_out(&log, plan.id).await;

    assert_eq!(
        (done.state, done.done, done.refused),
        (OperationState::Done, 30, 1)
    );
    assert!(done.refusal.is_some());
    assert_eq!((replayed(&log).await, dead(&log).await), ((30, 30), 1));
}

async fn letters_are_discarded_by_a_plan<D: Database>(log: Log<D>) {
    let bus = refusing(&log, "placed").await;
    kill(&log, &bus, "placed", 0..150, 150).await;
    bus.shutdown().await.expect("shutdown");
    let some = DeadLetterFilter::all().reason("100%_1");

    let plan = shop(&log)
        .plan(Action::Discard, &some, "ann")
        .await
        .expect("a plan");

    // 1, 10 to 19, 100 to 149.
    assert_eq!(plan.count.number, 61);
    assert_eq!(carry_out(&log, plan.id).await.done, 61);
    assert_eq!((replayed(&log).await.0, dead(&log).await), (0, 150 - 61));
}

async fn a_limit_is_the_number_of_letters_at_most<D: Database>(log: Log<D>) {
    let bus = refusing(&log, "placed").await;
    kill(&log, &bus, "placed", 0..20, 20).await;
    bus.shutdown().await.expect("shutdown");
    let some = DeadLetterFilter::all().limit(7);

    let plan = shop(&log)
        .plan(Action::Replay, &some, "ann")
        .await
        .expect("a plan");

    assert_eq!(plan.count.number, 7);
    assert_eq!(carry_out(&log, plan.id).await.done, 7);
    assert_eq!((replayed(&log).await.0, dead(&log).await), (7, 13));
}

async fn collected_letters_are_replayed_through_the_outbox_to_their_service_alone<D: Database>(
    log: Log<D>,
) {
    outbox_bus(&log, &MemoryBroker::new())
        .migrate()
        .await
        .expect("migrate");
    for number in 1..=3 {
        collect(&log, number).await;
    }
    let plan = plan_to_replay(&log).await;
    collect(&log, 4).await;

    assert_eq!(carry_out(&log, plan.id).await.done, 3);

    let records =
        "SELECT count(*) FROM final_shop_outbox WHERE topic = 'x-final-detour' AND status = 0";
    assert_eq!(log.number(records).await, 3);
    assert_eq!(log.number("SELECT count(*) FROM final_shop_dead").await, 1);
    let rest = DeadLetterFilter::all();
    let plan = shop(&log)
        .plan(Action::Discard, &rest, "ann")
        .await
        .expect("a plan");
    assert_eq!(carry_out(&log, plan.id).await.done, 1);
    assert_eq!(log.number(records).await, 3);
    assert_eq!(log.number("SELECT count(*) FROM final_shop_dead").await, 0);
}

async fn failed_records_are_retried_and_those_that_fail_later_are_not<D: Database>(log: Log<D>) {
    outbox_bus(&log, &MemoryBroker::new())
        .migrate()
        .await
        .expect("migrate");
    log.run(&fill::<D>(3, "placed", 1_000, 250)).await;
    log.run(&fill::<D>(3, "shipped", 2_000, 5)).await;

    let some = RecordFilter::all().topic("placed");
    let plan = shop(&log)
        .plan(Action::Retry, &some, "ann")
        .await
        .expect("a plan");
    assert_eq!(plan.count.number, 250);
    assert!(
        matches!(&plan.sample[0], Sample::Record(record) if record.state == RecordState::Failed)
    );
    log.run(&fill::<D>(3, "placed", 0, 40)).await;
    assert_eq!(carry_out(&log, plan.id).await.done, 250);

    let with = async |status: u8, topic: &str| {
        let count = format!(
            "SELECT count(*) FROM final_shop_outbox WHERE status = {status} AND topic = '{topic}'"
        );
        log.number(&count).await
    };
    assert_eq!(
        (with(0, "placed").await, with(3, "placed").await),
        (250, 40)
    );
    assert_eq!((with(0, "shipped").await, with(3, "shipped").await), (0, 5));
}

async fn unroutable_records_are_discarded_and_pending_ones_never<D: Database>(log: Log<D>) {
    outbox_bus(&log, &MemoryBroker::new())
        .migrate()
        .await
        .expect("migrate");
    log.run(&fill::<D>(1, "placed", 1_000, 120)).await;
    log.run(&fill::<D>(0, "placed", 2_000, 5)).await;

    let some = RecordFilter::all()
        .state(RecordState::Unroutable)
        .topic("placed");
    let retry = shop(&log)
        .plan(Action::Retry, some.clone().limit(20), "ann")
        .await
        .expect("a plan");
    let discard = shop(&log)
        .plan(Action::Discard, &some, "ann")
        .await
        .expect("a plan");
    assert_eq!((retry.count.number, discard.count.number), (20, 120));
    assert_eq!(carry_out(&log, retry.id).await.done, 20);
    assert_eq!(carry_out(&log, discard.id).await.done, 100);

    let with = async |status: u8| {
        log.number(&format!(
            "SELECT count(*) FROM final_shop_outbox WHERE status = {status}"
        ))
        .await
    };
    assert_eq!((with(0).await, with(1).await), (25, 0));
}

/// The number of a plan alone would not tell: two are left of three, and a third has come.
async fn what_comes_after_the_plan_does_not_take_the_place_of_what_is_gone<D: Database>(
    log: Log<D>,
) {
    let bus = refusing(&log, "placed").await;
    kill(&log, &bus, "placed", 0..3, 3).await;
    let of_log = plan_to_replay(&log).await;
    log.run("DELETE FROM final_log_dead WHERE reason LIKE '%1'")
        .await;
    kill(&log, &bus, "placed", 3..4, 3).await;
    bus.shutdown().await.expect("shutdown");
    assert_eq!(carry_out(&log, of_log.id).await.done, 2);
    assert_eq!(dead(&log).await, 1);
    log.run("DELETE FROM final_log_dead").await;

    for number in 1..=3 {
        collect(&log, number).await;
    }
    let collected = plan_to_replay(&log).await;
    log.run("DELETE FROM final_shop_dead WHERE died_at = 2")
        .await;
    collect(&log, 4).await;
    assert_eq!(carry_out(&log, collected.id).await.done, 2);
    assert_eq!(log.number("SELECT count(*) FROM final_shop_dead").await, 1);

    log.run("DELETE FROM final_shop_outbox").await;
    log.run(&fill::<D>(3, "placed", 1_000, 2)).await;
    log.run(&fill::<D>(3, "shipped", 2_000, 1)).await;
    let failed = shop(&log)
        .plan(Action::Retry, RecordFilter::all(), "ann")
        .await;
    let failed = failed.expect("a plan");
    log.run("DELETE FROM final_shop_outbox WHERE topic = 'shipped'")
        .await;
    log.run(&fill::<D>(3, "placed", 3_000, 1)).await;
    assert_eq!(carry_out(&log, failed.id).await.done, 2);
}

async fn letters_that_another_session_has_locked_are_told_and_done_later<D: Database>(log: Log<D>) {
    let bus = refusing(&log, "placed").await;
    kill(&log, &bus, "placed", 0..5, 5).await;
    bus.shutdown().await.expect("shutdown");
    let plan = plan_to_replay(&log).await;
    let seq = log
        .number("SELECT seq FROM final_log_dead WHERE reason LIKE '%3'")
        .await;
    // By its key: MariaDB would lock all rows that it looks at.
    let in_hand =
        format!("UPDATE final_log_dead SET attempts = 7 WHERE group_name = 'shop' AND seq = {seq}");
    let in_hand = log.locked(&in_hand).await;

    let carried_out = admin(&log)
        .carry_out(plan.id, Pace::unlimited(), |_| {})
        .await;
    assert!(
        matches!(carried_out, Err(AdminError::RowsLocked { rows: 1, .. })),
        "{carried_out:?}"
    );
    assert_eq!(dead(&log).await, 1);

    in_hand.rollback().await.expect("let go");
    let done = carry_out(&log, plan.id).await;
    assert_eq!((done.state, done.done), (OperationState::Done, 5));
    assert_eq!(dead(&log).await, 0);
}

#[tokio::test]
async fn a_slow_pace_is_kept() {
    let log = Log::<sqlx::Sqlite>::new().await;
    let bus = refusing(&log, "placed").await;
    kill(&log, &bus, "placed", 0..30, 30).await;
    bus.shutdown().await.expect("shutdown");
    let plan = plan_to_replay(&log).await;
    let began = std::time::Instant::now();

    let done = admin(&log)
        .carry_out(plan.id, Pace::per_second(20), |_| {})
        .await;

    assert_eq!(done.expect("carried out").done, 30);
    assert!(
        began.elapsed() >= Duration::from_millis(1_400),
        "{:?}",
        began.elapsed()
    );
}
