//! Letters that take longer together than a statement may are put back all the same, in smaller parts.

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
