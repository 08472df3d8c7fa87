//! Removing rows and subscribing exclude each other.

use std::time::Duration;

use final_core::{Bus, Error, log::StartFrom};
use final_tests::always;
use tokio::task::JoinHandle;

use super::{Held, Log, noting, options, publish};
use crate::{database::Database, house::Notes};

crate::log_suite!(
    at once:
    nothing_is_removed_while_a_service_subscribes,
    a_subscription_waits_for_a_removal_under_way,
    a_purge_waits_for_a_removal_under_way,
    forgetting_a_service_waits_for_a_removal_under_way,
);

const ROWS: &str = "SELECT count(*) FROM final_log";

/// Both sides lock this row.
const LOCK: &str = "SELECT trimmed FROM final_log_state WHERE id = 1 FOR UPDATE";

/// Several rounds of removing.
const ROUNDS: Duration = Duration::from_secs(1);

/// The rows of a service that starts with the oldest message.
const SUBSCRIPTION: [&str; 3] = [
    "INSERT INTO final_log_groups (name, version) VALUES ('later', 1)",
    "INSERT INTO final_log_topics (group_name, stream, topic, after_seq) \
     VALUES ('later', 0, 'placed', 0)",
    "INSERT INTO final_log_lanes \
         (group_name, stream, lane, epoch, read_to, open_seqs, settled_to) \
     VALUES ('later', 0, 0, 0, 0, '', 0)",
];

async fn nothing_is_removed_while_a_service_subscribes<D: Database>(log: Log<D>) {
    let (shop, held) = (log.bus("shop"), Held::new());
    shop.start(held.router("placed")).await.expect("start");
    publish(&shop, "placed", 0..20).await;
    held.begun.reach(20).await;
    let all_are_there = async || {
        always("all are there", ROUNDS, async || {
            log.number(ROWS).await == 20
        })
        .await;
    };

    let mut subscription = log.locked(LOCK).await;
    held.let_go(20);
    log.is_done("shop").await;
    all_are_there().await;
    for statement in SUBSCRIPTION {
        D::run(&mut subscription, statement).await.expect(statement);
    }
    subscription.commit().await.expect("commit");
    all_are_there().await;
    shop.shutdown().await.expect("shutdown");
}

/// Begins a task while a removal is under way, and asserts that the task waits for the end of the removal.
async fn waits<D: Database, T: Send + 'static>(
    log: &Log<D>,
    begin: impl AsyncFnOnce() -> JoinHandle<Result<T, Error>>,
) -> T {
    let (shop, _) = log.noting("shop", &["placed"]).await;
    shop.shutdown().await.expect("shutdown");
    let removal = log.locked(LOCK).await;
    let done = begin().await;
    always("it waits", Duration::from_millis(500), async || {
        !done.is_finished()
    })
    .await;
    removal.commit().await.expect("commit");
    done.await.expect("joined").expect("done")
}

/// Starts a bus beside the test.
fn starting<D: Database>(bus: &Bus<D>) -> JoinHandle<Result<(), Error>> {
    let bus = bus.clone();
    tokio::spawn(async move { bus.start(noting(&Notes::default(), &["placed"])).await })
}

async fn a_subscription_waits_for_a_removal_under_way<D: Database>(log: Log<D>) {
    let broker = log.broker().start_from(StartFrom::Beginning);
    let later = log.bus_on("later", broker);
    waits(&log, async || starting(&later)).await;
    later.shutdown().await.expect("shutdown");
}

async fn a_purge_waits_for_a_removal_under_way<D: Database>(log: Log<D>) {
    let purging = options().purge_on_startup(true);
    let shop = log.bus("shop").with_options(purging);
    waits(&log, async || starting(&shop)).await;
    shop.shutdown().await.expect("shutdown");
}

async fn forgetting_a_service_waits_for_a_removal_under_way<D: Database>(log: Log<D>) {
    let broker = log.broker();
    let forgetting = async || tokio::spawn(async move { broker.forget("shop").await });
    assert!(waits(&log, forgetting).await);
}
