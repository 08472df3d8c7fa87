//! The instances of a service share its messages.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use final_core::Bus;
use final_tests::{always, eventually};

use super::{Held, Log, publish, sorted};
use crate::{
    database::Database,
    house::{Notes, SOON},
};

crate::log_suite!(
    two_members_share_the_messages_and_none_is_handled_twice,
    a_fifth_member_works_as_well_where_four_have_four_lanes_each,
    members_may_come_and_go_under_traffic_and_nothing_is_lost_or_handled_twice,
    what_a_dead_member_had_in_hand_is_handled_by_another_when_its_lease_is_over,
    what_a_dead_member_had_settled_and_written_down_is_not_handled_again,
    a_member_whose_lease_was_over_cannot_settle_what_others_took_over,
    a_member_that_was_taken_over_goes_on_with_its_next_messages,
    a_member_that_is_shut_down_gives_its_lanes_back_at_once,
);

fn all(notes: &[&Notes]) -> Vec<i64> {
    sorted(notes.iter().flat_map(|notes| notes.numbers()))
}

/// For example, the owner of the lane was frozen in the middle of a transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_cannot_be_taken_holds_up_no_other_on_mariadb() {
    a_lane_that_cannot_be_taken_holds_up_no_other(Log::<sqlx::MySql>::new().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_cannot_be_taken_holds_up_no_other_on_postgresql() {
    a_lane_that_cannot_be_taken_holds_up_no_other(Log::<sqlx::Postgres>::new().await).await;
}

async fn a_lane_that_cannot_be_taken_holds_up_no_other<D: Database>(log: Log<D>) {
    let (gone, _) = log.noting("shop", &["placed"]).await;
    gone.shutdown().await.expect("shutdown");
    let mut tx = log.pool.begin().await.expect("begin");
    let lock = "UPDATE final_log_lanes SET epoch = epoch + 1 WHERE group_name = 'shop' AND stream = 0 AND lane = 3";
    D::run(&mut tx, lock).await.expect("a lock");

    let (bus, notes) = log.noting("shop", &["placed"]).await;
    publish(&bus, "placed", 0..200).await;
    // About 188 of the 200 messages are in the other fifteen lanes.
    notes.reach(150).await;
    tx.rollback().await.expect("rollback");
    notes.reach(200).await;
    bus.shutdown().await.expect("shutdown");
}

/// Waits until the members together have handled so many messages.
async fn reach(notes: &[&Notes], count: usize) {
    eventually(
        &format!("{count} handled by all together"),
        SOON,
        async || match notes.iter().map(|notes| notes.len()).sum::<usize>() {
            seen if seen >= count => Ok(()),
            seen => Err(seen),
        },
    )
    .await;
}

async fn two_members_share_the_messages_and_none_is_handled_twice<D: Database>(log: Log<D>) {
    let (one, first) = log.noting("shop", &["placed"]).await;
    let (two, second) = log.noting("shop", &["placed"]).await;
    log.shared_by("shop", 2).await;

    publish(&one, "placed", 0..400).await;
    reach(&[&first, &second], 400).await;
    log.is_done("shop").await;

    assert_eq!(all(&[&first, &second]), Vec::from_iter(0..400));
    assert!(first.len() > 50 && second.len() > 50, "both have a share");
    one.shutdown().await.expect("shutdown");
    two.shutdown().await.expect("shutdown");
}

/// Sixteen lanes cannot be shared evenly by five. A member without a lane would be idle for ever.
async fn a_fifth_member_works_as_well_where_four_have_four_lanes_each<D: Database>(log: Log<D>) {
    let mut buses = Vec::new();
    for members in 1..=5 {
        let (bus, notes) = log.noting("shop", &["placed"]).await;
        buses.push((bus, notes));
        log.shared_by("shop", members).await;
    }

    let (fifth, notes) = &buses[4];
    publish(fifth, "placed", 0..200).await;
    // About 37 of them are in its three lanes.
    notes.reach(10).await;
    for (bus, _) in buses {
        bus.shutdown().await.expect("shutdown");
    }
}

async fn members_may_come_and_go_under_traffic_and_nothing_is_lost_or_handled_twice<D: Database>(
    log: Log<D>,
) {
    let (producer, _) = log.noting("producer", &[]).await;
    let (one, first) = log.noting("shop", &["placed"]).await;
    let (two, second) = log.noting("shop", &["placed"]).await;
    log.shared_by("shop", 2).await;

    // At least a hundred rounds, and traffic as long as members come and go.
    let is_over = Arc::new(AtomicBool::new(false));
    let publishing = {
        let (producer, is_over) = (producer.clone(), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut rounds = 0;
            while rounds < 100 || !is_over.load(Ordering::Relaxed) {
                publish(&producer, "placed", rounds * 30..(rounds + 1) * 30).await;
                rounds += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            rounds * 30
        })
    };
    reach(&[&first, &second], 300).await;
    let (three, third) = log.noting("shop", &["placed"]).await;
    eventually("something for the third", SOON, async || third.len() > 50).await;
    one.shutdown().await.expect("shutdown");
    let before = second.len();
    eventually("something for those who stay", SOON, async || {
        second.len() > before
    })
    .await;
    is_over.store(true, Ordering::Relaxed);
    let published: i64 = publishing.await.expect("joined");

    reach(&[&first, &second, &third], published as usize).await;
    log.is_done("shop").await;
    assert_eq!(
        all(&[&first, &second, &third]),
        Vec::from_iter(0..published)
    );
    for bus in [two, three, producer] {
        bus.shutdown().await.expect("shutdown");
    }
}

/// A bus with a short lease whose handler is stuck.
async fn stuck<D: Database>(log: &Log<D>, lease: Duration) -> (Bus<D>, Held) {
    let broker = log.broker().lease(lease);
    let (bus, held) = (log.bus_on("shop", broker), Held::new());
    bus.start(held.router("placed")).await.expect("start");
    (bus, held)
}

async fn what_a_dead_member_had_in_hand_is_handled_by_another_when_its_lease_is_over<
    D: Database,
>(
    log: Log<D>,
) {
    let (doomed, held) = stuck(&log, Duration::from_secs(5)).await;
    publish(&doomed, "placed", 0..50).await;
    held.begun.reach(50).await;
    log.has_open("shop", 50).await;
    drop(doomed);

    let (heir, notes) = log.noting("shop", &["placed"]).await;
    notes.reach(50).await;
    log.is_done("shop").await;

    assert_eq!(sorted(notes.numbers()), Vec::from_iter(0..50));
    assert_eq!(held.done.len(), 0, "the dead one did nothing more");
    heir.shutdown().await.expect("shutdown");
}

async fn what_a_dead_member_had_settled_and_written_down_is_not_handled_again<D: Database>(
    log: Log<D>,
) {
    let (doomed, held) = stuck(&log, Duration::from_secs(5)).await;
    publish(&doomed, "placed", 0..50).await;
    held.begun.reach(50).await;
    held.let_go(30);
    held.done.reach(30).await;
    log.has_open("shop", 20).await;
    drop(doomed);

    let (heir, notes) = log.noting("shop", &["placed"]).await;
    notes.reach(20).await;
    log.is_done("shop").await;
    let once = held.done.numbers().into_iter().chain(notes.numbers());
    assert_eq!(sorted(once), Vec::from_iter(0..50));
    heir.shutdown().await.expect("shutdown");
}

/// Ends the lease of a service's only member, as if the member had been paused for long. The member does not
/// know.
async fn end_lease<D: Database>(log: &Log<D>) {
    let end = "UPDATE final_log_members SET alive_until = 0 WHERE group_name = 'shop'";
    assert_eq!(log.run(end).await, 1);
}

/// The number of lanes that have open messages and a living owner.
const OWNED: &str = "SELECT count(*) FROM final_log_lanes l WHERE open_seqs <> '' AND EXISTS \
    (SELECT 1 FROM final_log_members m WHERE m.member = l.member AND m.alive_until > 0)";

async fn a_member_whose_lease_was_over_cannot_settle_what_others_took_over<D: Database>(
    log: Log<D>,
) {
    // The lease is renewed after a third of it, which is long after the end of this test.
    let (paused, old) = stuck(&log, SOON * 30).await;
    paused.publish("placed", &1_i64).await.expect("publish");
    old.begun.reach(1).await;
    log.has_open("shop", 1).await;
    end_lease(&log).await;
    let (heir, new) = stuck(&log, Duration::from_secs(2)).await;
    new.begun.reach(1).await;
    log.comes_to(OWNED, 1).await;

    old.let_go(1);
    old.done.reach(1).await;
    // Time for many commits of progress. None of them may settle the message.
    always("it is still open", Duration::from_secs(1), async || {
        log.number(OWNED).await == 1
    })
    .await;
    drop(heir);

    let (third, notes) = log.noting("shop", &["placed"]).await;
    old.let_go(1);
    reach(&[&old.done, &notes], 2).await;
    log.is_done("shop").await;
    assert_eq!(all(&[&old.done, &notes]), [1, 1]);
    paused.shutdown().await.expect("shutdown");
    third.shutdown().await.expect("shutdown");
}

async fn a_member_that_was_taken_over_goes_on_with_its_next_messages<D: Database>(log: Log<D>) {
    // The lease is renewed after a third of it. Another member takes over before that.
    let (paused, old) = stuck(&log, Duration::from_secs(45)).await;
    publish(&paused, "placed", 0..40).await;
    old.begun.reach(40).await;
    log.has_open("shop", 40).await;
    end_lease(&log).await;
    let (heir, notes) = log.noting("shop", &["placed"]).await;
    notes.reach(40).await;

    // The member notices, renews its lease, and gets a share of the lanes again.
    old.let_go(10_000);
    old.done.reach(40).await;
    log.shared_by("shop", 2).await;
    publish(&heir, "placed", 40..440).await;
    reach(&[&old.done, &notes], 480).await;
    log.is_done("shop").await;

    let all = sorted(old.done.numbers().into_iter().chain(notes.numbers()));
    let expected = sorted((0..40).chain(0..440));
    assert_eq!(all, expected, "only what was taken over came twice");
    assert!(old.done.len() > 90, "{} are its own again", old.done.len());
    paused.shutdown().await.expect("shutdown");
    heir.shutdown().await.expect("shutdown");
}

async fn a_member_that_is_shut_down_gives_its_lanes_back_at_once<D: Database>(log: Log<D>) {
    let hour = Duration::from_secs(3_600);
    let (one, _) = log
        .noting_on("shop", log.broker().lease(hour), &["placed"])
        .await;
    log.shared_by("shop", 1).await;
    one.shutdown().await.expect("shutdown");

    let (two, notes) = log.noting("shop", &["placed"]).await;
    two.publish("placed", &1_i64).await.expect("publish");
    notes.reach(1).await;
    log.shared_by("shop", 1).await;
    two.shutdown().await.expect("shutdown");
}
