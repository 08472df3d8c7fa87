//! Messages that were written before a service subscribed, and committed after.

use std::time::{Duration, SystemTime};

use final_core::{Bus, log::StartFrom};

use super::{Log, noting, options, order::written, publish};
use crate::{database::Database, house::Notes};

crate::log_suite!(
    at once:
    a_service_that_comes_while_a_transaction_is_open_gets_its_message,
    a_topic_that_comes_while_a_transaction_is_open_gets_its_message,
    what_is_rolled_back_after_a_service_has_come_holds_nothing_back,
    a_service_that_begins_at_a_time_gets_what_was_written_since_and_commits_later,
    a_purge_spares_what_is_not_committed_yet,
    a_purge_spares_what_was_open_when_the_service_came,
);

impl<D: Database> Log<D> {
    /// Starts a bus of a service that purges its unread messages.
    async fn purging(&self, service: &str) -> (Bus<D>, Notes) {
        let options = options().purge_on_startup(true);
        let (bus, notes) = (self.bus(service).with_options(options), Notes::default());
        bus.start(noting(&notes, &["placed"])).await.expect("start");
        (bus, notes)
    }

    /// Waits until a service has only its permanent lanes.
    async fn has_only_its_own_lanes(&self, service: &str) {
        let lanes = format!("SELECT count(*) FROM final_log_lanes WHERE group_name = '{service}'");
        self.comes_to(&lanes, 16).await;
    }
}

async fn a_service_that_comes_while_a_transaction_is_open_gets_its_message<D: Database>(
    log: Log<D>,
) {
    let (first, notes) = log.noting("first", &["placed"]).await;
    let one = written(&first, 1).await;
    publish(&first, "placed", [2]).await;
    notes.reach(1).await;

    let (later, seen) = log.noting("later", &["placed"]).await;
    publish(&first, "placed", [3]).await;
    seen.reach(1).await;
    one.commit().await.expect("commit");
    seen.reach(2).await;

    log.has_only_its_own_lanes("later").await;
    log.is_done("later").await;
    assert_eq!(seen.numbers(), [3, 1], "and what showed before it came");
    first.shutdown().await.expect("shutdown");
    later.shutdown().await.expect("shutdown");
}

async fn a_topic_that_comes_while_a_transaction_is_open_gets_its_message<D: Database>(log: Log<D>) {
    let (other, notes) = log.noting("other", &["placed", "shipped"]).await;
    let (shop, _) = log.noting("shop", &["shipped"]).await;
    let one = written(&other, 1).await;
    publish(&other, "placed", [2]).await;
    publish(&other, "shipped", [3]).await;
    notes.reach(2).await;
    log.has_open("shop", 16).await;
    shop.shutdown().await.expect("shutdown");

    let (shop, seen) = log.noting("shop", &["placed", "shipped"]).await;
    one.commit().await.expect("commit");
    seen.reach(1).await;
    publish(&other, "placed", [4]).await;
    seen.reach(2).await;

    log.has_only_its_own_lanes("shop").await;
    log.is_done("shop").await;
    assert_eq!(seen.numbers(), [1, 4]);
    other.shutdown().await.expect("shutdown");
    shop.shutdown().await.expect("shutdown");
}

async fn a_service_that_begins_at_a_time_gets_what_was_written_since_and_commits_later<
    D: Database,
>(
    log: Log<D>,
) {
    let keeping = || log.broker().keep(Duration::from_secs(3_600));
    let (first, notes) = log.noting_on("first", keeping(), &["placed"]).await;
    publish(&first, "placed", [1]).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let then = SystemTime::now();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let two = written(&first, 2).await;
    publish(&first, "placed", [3]).await;
    notes.reach(2).await;

    let later = keeping().start_from(StartFrom::At(then));
    let (later, seen) = log.noting_on("later", later, &["placed"]).await;
    seen.reach(1).await;
    two.commit().await.expect("commit");
    seen.reach(2).await;

    log.is_done("later").await;
    assert_eq!(seen.numbers(), [3, 2]);
    first.shutdown().await.expect("shutdown");
    later.shutdown().await.expect("shutdown");
}

async fn what_is_rolled_back_after_a_service_has_come_holds_nothing_back<D: Database>(log: Log<D>) {
    let (first, notes) = log.noting("first", &["placed"]).await;
    let one = written(&first, 1).await;
    publish(&first, "placed", [2]).await;
    notes.reach(1).await;
    let (later, seen) = log.noting("later", &["placed"]).await;

    one.rollback().await.expect("rollback");

    log.has_only_its_own_lanes("later").await;
    publish(&first, "placed", [3]).await;
    seen.reach(1).await;
    log.is_done("later").await;
    assert_eq!(seen.numbers(), [3]);
    first.shutdown().await.expect("shutdown");
    later.shutdown().await.expect("shutdown");
}

async fn a_purge_spares_what_is_not_committed_yet<D: Database>(log: Log<D>) {
    let (producer, _) = log.noting("producer", &[]).await;
    let (bus, _) = log.noting("shop", &["placed"]).await;
    bus.shutdown().await.expect("shutdown");
    let one = written(&producer, 1).await;
    publish(&producer, "placed", [2]).await;

    let (bus, notes) = log.purging("shop").await;
    publish(&producer, "placed", [3]).await;
    notes.reach(1).await;
    one.commit().await.expect("commit");
    notes.reach(2).await;

    log.is_done("shop").await;
    assert_eq!(notes.numbers(), [3, 1]);
    bus.shutdown().await.expect("shutdown");
    producer.shutdown().await.expect("shutdown");
}

async fn a_purge_spares_what_was_open_when_the_service_came<D: Database>(log: Log<D>) {
    let (first, noted) = log.noting("first", &["placed", "shipped"]).await;
    let (shop, _) = log.noting("shop", &["shipped"]).await;
    shop.shutdown().await.expect("shutdown");
    let one = written(&first, 1).await;
    publish(&first, "placed", [2]).await;
    noted.reach(1).await;
    let (shop, _) = log.noting("shop", &["placed", "shipped"]).await;
    shop.shutdown().await.expect("shutdown");

    let (shop, notes) = log.purging("shop").await;
    one.commit().await.expect("commit");
    notes.reach(1).await;
    publish(&first, "placed", [3]).await;
    notes.reach(2).await;

    assert_eq!(notes.numbers(), [1, 3]);
    first.shutdown().await.expect("shutdown");
    shop.shutdown().await.expect("shutdown");
}
