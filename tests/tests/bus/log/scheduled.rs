//! Scheduled messages that are not due yet, beside other transactions.

use std::time::Duration;

use super::Log;
use crate::database::Database;

crate::log_suite!(
    at once:
    a_scheduled_message_waits_for_no_transaction_that_schedules_another,
    a_scheduled_message_that_somebody_has_locked_holds_up_nothing_else,
);

/// Longer than it takes to lock what is scheduled.
const DELAY: Duration = Duration::from_secs(3);

async fn a_scheduled_message_waits_for_no_transaction_that_schedules_another<D: Database>(
    log: Log<D>,
) {
    let (shop, notes) = log.noting("shop", &["placed"]).await;
    let mut open = shop.with_tx(shop.begin().await.expect("begin"));
    let later = open.publish("placed", &2_i64).delay(DELAY);
    later.await.expect("staged");
    open.flush().await.expect("written");
    let sooner = shop.publish("placed", &1_i64).delay(DELAY);
    sooner.await.expect("publish");

    notes.reach(1).await;
    open.commit().await.expect("commit");
    notes.reach(2).await;
    assert_eq!(notes.numbers(), [1, 2]);
    shop.shutdown().await.expect("shutdown");
}

async fn a_scheduled_message_that_somebody_has_locked_holds_up_nothing_else<D: Database>(
    log: Log<D>,
) {
    let (shop, notes) = log.noting("shop", &["placed"]).await;
    let locked = shop.publish("placed", &1_i64).delay(DELAY);
    locked.await.expect("publish");
    let lock = log
        .locked("SELECT seq FROM final_log_scheduled WHERE seq = 1 FOR UPDATE")
        .await;
    let scheduled = shop.publish("placed", &2_i64).delay(DELAY);
    scheduled.await.expect("publish");
    shop.publish("placed", &3_i64).await.expect("publish");

    notes.reach(2).await;
    lock.rollback().await.expect("rollback");
    notes.reach(3).await;
    assert_eq!(notes.numbers(), [3, 2, 1]);
    shop.shutdown().await.expect("shutdown");
}
