//! Tables of any size are looked at by a bounded number of rows.

use final_core::{
    MemoryBroker,
    admin::{Action, Count, RecordFilter, RecordState},
};

use super::{fill, outbox_bus, shop};
use crate::{database::Database, log::Log};

crate::log_suite!(
    a_backlog_is_counted_up_to_a_limit_and_a_filter_without_an_index_says_where_it_stopped
);

/// More than one question looks at.
const RECORDS: u32 = 120_000;

async fn a_backlog_is_counted_up_to_a_limit_and_a_filter_without_an_index_says_where_it_stopped<
    D: Database,
>(
    log: Log<D>,
) {
    outbox_bus(&log, &MemoryBroker::new())
        .migrate()
        .await
        .expect("migrate");
    log.run(&fill::<D>(0, "placed", 0, RECORDS)).await;
    log.run(&fill::<D>(0, "rare", 1_000_000, 3)).await;
    log.run(&fill::<D>(3, "placed", 2_000_000, 20_000)).await;

    let overview = shop(&log).overview().await.expect("an overview");
    let outbox = overview.outbox.expect("an outbox");
    for count in [outbox.pending, outbox.failed] {
        assert_eq!((count.number, count.more), (Count::MOST, true));
    }
    let pending = || RecordFilter::all().state(RecordState::Pending);
    let first = shop(&log)
        .records(&pending().limit(10))
        .await
        .expect("records");
    assert_eq!((first.items.len(), first.stopped), (10, false));

    let rare = pending().topic("rare");
    let stopped = shop(&log).records(&rare).await.expect("records");
    assert!(stopped.stopped && stopped.items.is_empty(), "{stopped:?}");
    let rest = rare.after(stopped.next.expect("where it stopped"));
    let found = shop(&log).records(&rest).await.expect("records");
    assert_eq!((found.items.len(), found.stopped), (3, false));

    let plan = shop(&log)
        .plan(Action::Retry, RecordFilter::all(), "ann")
        .await
        .expect("a plan");
    assert_eq!((plan.count.number, plan.count.more), (Count::MOST, true));
    assert_eq!(plan.count.to_string(), "more than 10000");
}
