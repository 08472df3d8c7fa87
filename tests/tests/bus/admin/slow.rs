//! Letters that take longer together than a statement may are put back all the same, in smaller parts.

use std::error::Error;

use final_core::{
    MemoryBroker,
    admin::{Action, OperationState, Pace},
    broker::DeadLetterFilter,
};

use super::{admin, letters::collect, outbox_bus, shop};
use crate::{database::Database, log::Log};

crate::log_suite!(
    at once:
    letters_of_the_log_that_are_put_back_slowly_are_put_back_in_smaller_parts,
    an_operation_whose_batches_take_too_long_does_smaller_ones,
);

crate::log_suite!(@on postgres, sqlx::Postgres,
    an_operation_whose_commit_is_not_answered_does_no_more_than_its_limit);

const ALL: u8 = 100;

/// Makes each row that is written to a table take a fifth of a second. A hundred in one statement take longer than the
/// 15 s that a statement has.
async fn slow_down<D: Database>(log: &Log<D>, table: &str) {
    let each = match D::NAME {
        "PostgreSQL" => {
            log.run(
                "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS \
                     'BEGIN PERFORM pg_sleep(0.2); RETURN NEW; END'",
            )
            .await;
            "EXECUTE FUNCTION slowly()"
        }
        _ => "DO SLEEP(0.2)",
    };
    log.run(&format!(
        "CREATE TRIGGER slowly BEFORE INSERT ON {table} FOR EACH ROW {each}"
    ))
    .await;
}

async fn letters_of_the_log_that_are_put_back_slowly_are_put_back_in_smaller_parts<D: Database>(
    log: Log<D>,
) {
    let bus = super::refusing(&log, "placed").await;
    super::kill(&log, &bus, "placed", 0..ALL.into(), ALL.into()).await;
    bus.shutdown().await.expect("shutdown");
    slow_down(&log, "final_log").await;

    // MySQL goes on with what was given up, and keeps its letters locked until that has ended.
    let mut replayed = 0;
    for _ in 0..10 {
        let some = log.broker().replay("shop", DeadLetterFilter::all()).await;
        replayed += some.unwrap_or_default();
        if replayed >= u64::from(ALL) {
            break;
        }
    }

    assert_eq!(replayed, u64::from(ALL));
    assert_eq!(log.number("SELECT count(*) FROM final_log_dead").await, 0);
}

async fn an_operation_whose_batches_take_too_long_does_smaller_ones<D: Database>(log: Log<D>) {
    let bus = outbox_bus(&log, &MemoryBroker::new());
    bus.migrate().await.expect("migrate");
    for number in 1..=ALL {
        collect(&log, number).await;
    }
    slow_down(&log, "final_shop_outbox").await;
    let all = DeadLetterFilter::all();
    let plan = shop(&log).plan(Action::Replay, &all, "ann").await;
    let plan = plan.expect("a plan");

    // The same on MySQL: an operation that has passed rows over is carried on.
    let mut done = None;
    for _ in 0..10 {
        let admin = admin(&log);
        let carried_out = admin.carry_out(plan.id, Pace::unlimited(), |_| {});
        done = carried_out.await.ok();
        if done.is_some() {
            break;
        }
    }

    let done = done.expect("carried out");
    assert_eq!(
        (done.state, done.done),
        (OperationState::Done, u64::from(ALL))
    );
    assert_eq!(log.number("SELECT count(*) FROM final_shop_dead").await, 0);
    assert_eq!(
        log.number("SELECT count(*) FROM final_shop_outbox").await,
        i64::from(ALL)
    );
}

async fn an_operation_whose_commit_is_not_answered_does_no_more_than_its_limit<D: Database>(
    log: Log<D>,
) {
    let bus = outbox_bus(&log, &MemoryBroker::new());
    bus.migrate().await.expect("migrate");
    for number in 1..=2 * ALL {
        collect(&log, number).await;
    }
    // The server ends a statement of a batch after 12 s, so the COMMIT has to get around that.
    for sql in [
        "CREATE SEQUENCE committed",
        "CREATE FUNCTION unlimited() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN PERFORM set_config(''statement_timeout'', ''0'', true); RETURN OLD; END'",
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN IF nextval(''committed'') = 1 THEN PERFORM pg_sleep(20); END IF; RETURN OLD; END'",
        "CREATE TRIGGER unlimited BEFORE DELETE ON final_shop_dead FOR EACH ROW EXECUTE FUNCTION unlimited()",
        "CREATE CONSTRAINT TRIGGER slowly AFTER DELETE ON final_shop_dead DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION slowly()",
    ] {
        log.run(sql).await;
    }
    let some = DeadLetterFilter::all().limit(ALL.into());
    let plan = shop(&log).plan(Action::Discard, &some, "ann").await;
    let plan = plan.expect("a plan");

    let carried_out = admin(&log)
        .carry_out(plan.id, Pace::unlimited(), |_| {})
        .await;
    let error = carried_out.expect_err("no answer");
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    assert!(cause.contains("did not answer COMMIT"), "{error}: {cause}");

    let left = "SELECT count(*) FROM final_shop_dead";
    log.comes_to(left, ALL.into()).await;
    let done = admin(&log)
        .carry_out(plan.id, Pace::unlimited(), |_| {})
        .await;
    let done = done.expect("carried out");
    assert_eq!(
        (done.state, done.done),
        (OperationState::Done, u64::from(ALL))
    );
    assert_eq!(log.number(left).await, i64::from(ALL));
}
