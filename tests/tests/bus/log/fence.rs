//! A commit of progress is fenced. The member must have the lane, in the epoch in which it took the
//! lane, and must know all topics of its group.
//!
//! The members in these tests do not look by themselves, so only the commit can find out.

use std::time::Duration;

use final_core::SqlBroker;
use final_tests::always;

use super::{Held, Log, options, publish, sorted};
use crate::database::Database;

crate::log_suite!(
    progress_of_an_older_epoch_is_not_written_though_the_lanes_are_the_members_own,
    progress_of_lanes_that_the_member_has_no_more_is_not_written,
    lanes_of_an_older_epoch_are_not_given_back,
    lanes_that_the_member_has_no_more_are_not_given_back,
    progress_made_without_a_topic_of_the_group_is_not_written,
);

crate::log_suite!(
    at once:
    progress_waits_for_a_subscription_that_is_under_way,
);

/// Far longer than any of these tests.
const NEVER: Duration = Duration::from_secs(600);

impl<D: Database> Log<D> {
    /// A broker that looks for nothing by itself, and removes nothing.
    fn blind(&self) -> SqlBroker<D> {
        SqlBroker::new(self.pool.clone())
            .poll_interval(NEVER)
            .lease(NEVER)
            .keep(NEVER)
    }

    /// Writes in the member's place that all messages are settled, as a purge or a successor does.
    async fn say_that_all_is_done(&self, and: &str) {
        let last = "(SELECT MAX(seq) FROM final_log)";
        let done = format!(
            "UPDATE final_log_lanes SET open_seqs = '', read_to = {last}, settled_to = {last}, {and}"
        );
        assert_eq!(self.run(&done).await, 16);
    }
}

/// A purge took place while the member was paused for longer than its lease.
const NEXT_EPOCH: &str = "epoch = epoch + 1";
/// The group was forgotten and subscribed again, so its epochs begin anew.
const ANOTHERS: &str = "member = NULL";

/// A member finishes half of its messages in flight, after another has written that all are settled.
async fn settles_nothing<D: Database>(log: Log<D>, by: &str) {
    let (bus, held) = (log.bus_on("shop", log.blind()), Held::new());
    bus.start(held.router("placed")).await.expect("start");
    publish(&bus, "placed", 0..50).await;
    held.begun.reach(50).await;
    log.has_open("shop", 50).await;

    log.say_that_all_is_done(by).await;
    held.let_go(25);
    held.done.reach(25).await;
    // Time for many commits of progress.
    always("nothing is open", Duration::from_millis(500), async || {
        log.open("shop").await == 0
    })
    .await;

    // The member has noticed, and goes on from the progress in the table.
    held.let_go(75);
    publish(&bus, "placed", 50..100).await;
    held.done.reach(100).await;
    log.is_done("shop").await;
    assert_eq!(sorted(held.begun.numbers()), Vec::from_iter(0..100));
    bus.shutdown().await.expect("shutdown");
}

async fn progress_of_an_older_epoch_is_not_written_though_the_lanes_are_the_members_own<
    D: Database,
>(
    log: Log<D>,
) {
    settles_nothing(log, NEXT_EPOCH).await;
}

async fn progress_of_lanes_that_the_member_has_no_more_is_not_written<D: Database>(log: Log<D>) {
    settles_nothing(log, ANOTHERS).await;
}

/// A member shuts down with messages in flight, after another has written that all are settled.
async fn gives_nothing_back<D: Database>(log: Log<D>, by: &str) {
    let options = options().shutdown_timeout(Duration::from_millis(200));
    // Nothing is written between the first page and the end.
    let broker = log.blind().commit_within(Duration::from_secs(60));
    let bus = log.bus_on("shop", broker).with_options(options);
    let held = Held::new();
    bus.start(held.router("placed")).await.expect("start");
    publish(&bus, "placed", 0..50).await;
    held.begun.reach(50).await;
    log.has_open("shop", 50).await;

    log.say_that_all_is_done(by).await;
    let _ = bus.shutdown().await;

    assert_eq!(log.open("shop").await, 0);
    let read =
        "SELECT count(*) FROM final_log_lanes WHERE read_to = (SELECT MAX(seq) FROM final_log)";
    assert_eq!(log.number(read).await, 16);
}

async fn lanes_of_an_older_epoch_are_not_given_back<D: Database>(log: Log<D>) {
    gives_nothing_back(log, NEXT_EPOCH).await;
}

async fn lanes_that_the_member_has_no_more_are_not_given_back<D: Database>(log: Log<D>) {
    gives_nothing_back(log, ANOTHERS).await;
}

/// The subscription of another instance, which runs a later release.
const SUBSCRIPTION: [&str; 2] = [
    "UPDATE final_log_groups SET version = version + 1 WHERE name = 'shop'",
    "INSERT INTO final_log_topics (group_name, stream, topic, after_seq) \
     VALUES ('shop', 0, 'shipped', 0)",
];

/// Starts an instance of the earlier release, which handles some messages.
async fn old_release<D: Database>(log: &Log<D>) -> (final_core::Bus<D>, crate::house::Notes) {
    let (old, notes) = log.noting_on("shop", log.blind(), &["placed"]).await;
    publish(&old, "placed", 0..20).await;
    notes.reach(20).await;
    log.is_done("shop").await;
    (old, notes)
}

/// The number of lanes that are not read up to the last message of the topic that both releases know.
const BEHIND: &str = "SELECT count(*) FROM final_log_lanes WHERE read_to < \
    (SELECT MAX(seq) FROM final_log WHERE topic = 'placed')";

/// Starts an instance of the later release, which must get the message that came before.
async fn later_release_gets_it<D: Database>(log: &Log<D>, old: &final_core::Bus<D>) {
    let (new, notes) = log
        .noting_on("shop", log.broker(), &["placed", "shipped"])
        .await;
    notes.reach(1).await;
    assert_eq!(notes.numbers(), [1_000]);
    old.shutdown().await.expect("shutdown");
    new.shutdown().await.expect("shutdown");
}

async fn progress_made_without_a_topic_of_the_group_is_not_written<D: Database>(log: Log<D>) {
    let (old, notes) = old_release(&log).await;
    let mut subscription = log.pool.begin().await.expect("begin");
    for statement in SUBSCRIPTION {
        D::run(&mut subscription, statement).await.expect(statement);
    }
    subscription.commit().await.expect("commit");

    publish(&old, "shipped", [1_000]).await;
    publish(&old, "placed", [20]).await;
    notes.reach(21).await;
    log.comes_to(BEHIND, 0).await;
    later_release_gets_it(&log, &old).await;
}

async fn progress_waits_for_a_subscription_that_is_under_way<D: Database>(log: Log<D>) {
    let (old, notes) = old_release(&log).await;
    let mut subscription = log.pool.begin().await.expect("begin");
    for statement in SUBSCRIPTION {
        D::run(&mut subscription, statement).await.expect(statement);
    }

    publish(&old, "shipped", [1_000]).await;
    publish(&old, "placed", [20]).await;
    notes.reach(21).await;
    // Time for many commits of progress.
    always("no progress", Duration::from_millis(500), async || {
        log.number(BEHIND).await == 16
    })
    .await;
    subscription.commit().await.expect("commit");
    log.comes_to(BEHIND, 0).await;
    later_release_gets_it(&log, &old).await;
}
