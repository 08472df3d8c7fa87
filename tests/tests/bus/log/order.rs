//! A message gets its sequence number at the INSERT, and becomes visible at the COMMIT.

use std::time::Duration;

use final_core::{Bus, TxBus, bus::ByHand};
use final_tests::always;

use super::{Log, sorted};
use crate::database::Database;

crate::log_suite!(
    at once:
    transactions_that_commit_in_another_order_than_they_wrote_are_all_handled_once,
    one_that_is_rolled_back_between_others_holds_none_of_them_up,
    a_transaction_may_stay_open_longer_than_the_grace_and_its_message_comes_when_it_commits,
    a_number_of_an_open_transaction_cannot_be_filled_and_those_beside_it_can,
    a_message_written_with_publish_in_comes_after_a_late_commit,
    a_thousand_numbers_that_were_rolled_back_are_all_filled,
    a_long_gap_of_an_open_transaction_hides_no_later_one,
    a_gap_outlives_the_member_that_saw_it_first,
    every_service_and_member_waits_for_the_same_gap,
);

crate::log_suite!(a_rolled_back_number_is_nobodys_message_and_what_follows_is_removed);

/// Longer than the time for which a member only waits for a gap. After that it tries to fill it.
const PAST_THE_GRACE: Duration = Duration::from_millis(4_500);

const FILLED: &str = "SELECT count(*) FROM final_log WHERE topic = ''";

/// A transaction that has written a message and is still open.
pub(super) async fn written<D: Database>(bus: &Bus<D>, number: i64) -> TxBus<D, ByHand> {
    let mut txbus = bus.with_tx(bus.begin().await.expect("begin"));
    txbus.publish("placed", &number).await.expect("staged");
    txbus.flush().await.expect("written");
    txbus
}

/// The gap has more numbers than one statement looks for, or tries to fill.
async fn a_long_gap_of_an_open_transaction_hides_no_later_one<D: Database>(log: Log<D>) {
    let (bus, notes) = log.noting("shop", &["placed"]).await;
    let mut long = written(&bus, 1).await;
    for number in 2..=600_i64 {
        long.publish("placed", &number).await.expect("staged");
    }
    long.flush().await.expect("written");
    bus.publish("placed", &601_i64).await.expect("publish");
    notes.reach(1).await;
    tokio::time::sleep(PAST_THE_GRACE).await;

    let one = written(&bus, 602).await;
    let two = written(&bus, 603).await;
    two.commit().await.expect("commit");
    notes.reach(2).await;
    one.commit().await.expect("commit");
    notes.reach(3).await;
    assert_eq!(notes.numbers(), [601, 603, 602]);

    long.commit().await.expect("commit");
    notes.reach(603).await;
    bus.shutdown().await.expect("shutdown");
}

async fn transactions_that_commit_in_another_order_than_they_wrote_are_all_handled_once<
    D: Database,
>(
    log: Log<D>,
) {
    let (bus, notes) = log.noting("shop", &["placed"]).await;
    let one = written(&bus, 1).await;
    let two = written(&bus, 2).await;
    let three = written(&bus, 3).await;

    three.commit().await.expect("commit");
    notes.reach(1).await;
    one.commit().await.expect("commit");
    notes.reach(2).await;
    two.commit().await.expect("commit");
    notes.reach(3).await;
    bus.publish("placed", &4_i64).await.expect("publish");
    notes.reach(4).await;

    log.is_done("shop").await;
    assert_eq!(notes.numbers(), [3, 1, 2, 4]);
    bus.shutdown().await.expect("shutdown");
}

async fn one_that_is_rolled_back_between_others_holds_none_of_them_up<D: Database>(log: Log<D>) {
    let (bus, notes) = log.noting("shop", &["placed"]).await;
    let one = written(&bus, 1).await;
    let two = written(&bus, 2).await;
    let three = written(&bus, 3).await;

    three.commit().await.expect("commit");
    notes.reach(1).await;
    two.rollback().await.expect("rollback");
    one.commit().await.expect("commit");
    notes.reach(2).await;

    log.is_done("shop").await;
    assert_eq!(notes.numbers(), [3, 1]);
    bus.shutdown().await.expect("shutdown");
}

async fn a_transaction_may_stay_open_longer_than_the_grace_and_its_message_comes_when_it_commits<
    D: Database,
>(
    log: Log<D>,
) {
    let (bus, notes) = log.noting("shop", &["placed"]).await;
    let mut slow = written(&bus, 1).await;
    bus.publish("placed", &2_i64).await.expect("publish");
    notes.reach(1).await;

    always("only the second one is there", PAST_THE_GRACE, async || {
        notes.numbers() == [2] && log.number(FILLED).await == 0
    })
    .await;
    // The producer is not disturbed: it can write more, and commit.
    slow.publish("placed", &3_i64).await.expect("staged");
    slow.commit().await.expect("commit");

    notes.reach(3).await;
    log.is_done("shop").await;
    assert_eq!(sorted(notes.numbers()), [1, 2, 3]);
    bus.shutdown().await.expect("shutdown");
}

async fn a_rolled_back_number_is_nobodys_message_and_what_follows_is_removed<D: Database>(
    log: Log<D>,
) {
    let (bus, notes) = log.noting("shop", &["placed"]).await;
    written(&bus, 1).await.rollback().await.expect("rollback");
    bus.publish("placed", &2_i64).await.expect("publish");
    notes.reach(1).await;

    log.is_done("shop").await;
    log.comes_to("SELECT count(*) FROM final_log WHERE topic <> ''", 0)
        .await;
    assert_eq!(notes.numbers(), [2]);
    bus.shutdown().await.expect("shutdown");
}

async fn a_number_of_an_open_transaction_cannot_be_filled_and_those_beside_it_can<D: Database>(
    log: Log<D>,
) {
    let (bus, notes) = log.noting("shop", &["placed"]).await;
    written(&bus, 1).await.rollback().await.expect("rollback");
    let open = written(&bus, 2).await;
    written(&bus, 3).await.rollback().await.expect("rollback");
    bus.publish("placed", &4_i64).await.expect("publish");

    log.comes_to(FILLED, 2).await;
    assert_eq!(notes.numbers(), [4]);
    open.commit().await.expect("commit");
    notes.reach(2).await;

    log.is_done("shop").await;
    assert_eq!(notes.numbers(), [4, 2]);
    bus.shutdown().await.expect("shutdown");
}

async fn a_message_written_with_publish_in_comes_after_a_late_commit<D: Database>(log: Log<D>) {
    let (bus, notes) = log.noting("shop", &["placed"]).await;
    let mut tx = bus.begin().await.expect("begin");
    bus.publish_in(&mut tx, "placed", &1_i64)
        .await
        .expect("written");
    bus.publish("placed", &2_i64).await.expect("publish");
    notes.reach(1).await;

    // The bus does not make this commit, so nothing wakes the members.
    tx.commit().await.expect("commit");
    notes.reach(2).await;

    log.is_done("shop").await;
    assert_eq!(notes.numbers(), [2, 1]);
    bus.shutdown().await.expect("shutdown");
}

async fn a_thousand_numbers_that_were_rolled_back_are_all_filled<D: Database>(log: Log<D>) {
    let (bus, notes) = log.noting("shop", &["placed"]).await;
    let mut many = bus.with_tx(bus.begin().await.expect("begin"));
    for number in 0..1_000_i64 {
        many.publish("placed", &number).await.expect("staged");
    }
    many.flush().await.expect("written");
    bus.publish("placed", &1_000_i64).await.expect("publish");
    notes.reach(1).await;
    many.rollback().await.expect("rollback");

    log.comes_to(FILLED, 1_000).await;
    log.is_done("shop").await;
    assert_eq!(notes.numbers(), [1_000]);
    bus.shutdown().await.expect("shutdown");
}

async fn a_gap_outlives_the_member_that_saw_it_first<D: Database>(log: Log<D>) {
    let (bus, notes) = log.noting("shop", &["placed"]).await;
    let open = written(&bus, 1).await;
    bus.publish("placed", &2_i64).await.expect("publish");
    notes.reach(1).await;
    bus.shutdown().await.expect("shutdown");

    let (bus, later) = log.noting("shop", &["placed"]).await;
    log.shared_by("shop", 1).await;
    open.commit().await.expect("commit");
    later.reach(1).await;

    log.is_done("shop").await;
    assert_eq!(later.numbers(), [1]);
    bus.shutdown().await.expect("shutdown");
}

async fn every_service_and_member_waits_for_the_same_gap<D: Database>(log: Log<D>) {
    let (one, first) = log.noting("shop", &["placed"]).await;
    let (two, second) = log.noting("shop", &["placed"]).await;
    let (mail, mailed) = log.noting("mail", &["placed"]).await;
    log.shared_by("shop", 2).await;
    let open = written(&one, 1).await;
    let gone = written(&one, 2).await;
    one.publish("placed", &3_i64).await.expect("publish");
    mailed.reach(1).await;
    gone.rollback().await.expect("rollback");

    log.comes_to(FILLED, 1).await;
    open.commit().await.expect("commit");
    mailed.reach(2).await;
    log.is_done("shop").await;
    log.is_done("mail").await;

    assert_eq!(mailed.numbers(), [3, 1]);
    let shop = first.numbers().into_iter().chain(second.numbers());
    assert_eq!(sorted(shop), [1, 3]);
    for bus in [one, two, mail] {
        bus.shutdown().await.expect("shutdown");
    }
}
