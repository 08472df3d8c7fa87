//! Which rows are removed, and which stay.

use std::time::{Duration, Instant};

use final_tests::always;

use super::{Held, Log, order::written, publish, sorted};
use crate::database::Database;

crate::log_suite!(
    what_every_service_has_is_removed,
    what_one_service_has_not_settled_stays,
    what_everybody_has_is_kept_for_as_long_as_is_said,
    what_a_service_does_not_read_is_removed_when_it_is_too_old,
    a_service_that_is_forgotten_is_waited_for_no_more,
    a_service_that_is_forgotten_at_work_begins_anew,
    a_topic_nobody_has_subscribed_is_kept,
);

crate::log_suite!(
    at once:
    what_every_service_has_is_removed_though_a_transaction_behind_it_is_open,
);

const ROWS: &str = "SELECT count(*) FROM final_log";

/// Several rounds of removing.
const ROUNDS: Duration = Duration::from_secs(2);

async fn what_every_service_has_is_removed<D: Database>(log: Log<D>) {
    let (shop, sold) = log.noting("shop", &["placed"]).await;
    let (mail, mailed) = log.noting("mail", &["placed"]).await;
    // More rows than one round removes.
    publish(&shop, "placed", 0..2_500).await;
    sold.reach(2_500).await;
    mailed.reach(2_500).await;

    log.comes_to(ROWS, 0).await;
    publish(&shop, "placed", 2_500..2_510).await;
    sold.reach(2_510).await;
    log.comes_to(ROWS, 0).await;
    assert_eq!(sorted(sold.numbers()), Vec::from_iter(0..2_510));
    shop.shutdown().await.expect("shutdown");
    mail.shutdown().await.expect("shutdown");
}

async fn what_every_service_has_is_removed_though_a_transaction_behind_it_is_open<D: Database>(
    log: Log<D>,
) {
    let (shop, held) = (log.bus("shop"), Held::new());
    shop.start(held.router("placed")).await.expect("start");
    publish(&shop, "placed", 0..20).await;
    held.begun.reach(20).await;

    let open = written(&shop, 20).await;
    held.let_go(21);
    log.comes_to(ROWS, 0).await;
    open.commit().await.expect("commit");
    held.done.reach(21).await;
    shop.shutdown().await.expect("shutdown");
}

async fn what_one_service_has_not_settled_stays<D: Database>(log: Log<D>) {
    let (slow, held) = (log.bus("slow"), Held::new());
    slow.start(held.router("placed")).await.expect("start");
    let (quick, notes) = log.noting("quick", &["placed"]).await;
    publish(&quick, "placed", 0..20).await;
    notes.reach(20).await;
    log.is_done("quick").await;

    always("all are there", ROUNDS, async || {
        log.number(ROWS).await == 20
    })
    .await;
    held.let_go(20);
    log.comes_to(ROWS, 0).await;
    slow.shutdown().await.expect("shutdown");
    quick.shutdown().await.expect("shutdown");
}

async fn what_everybody_has_is_kept_for_as_long_as_is_said<D: Database>(log: Log<D>) {
    let keep = Duration::from_secs(4);
    let broker = log.broker().keep(keep);
    let (bus, notes) = log.noting_on("shop", broker, &["placed"]).await;
    let published = Instant::now();
    publish(&bus, "placed", 0..20).await;
    notes.reach(20).await;
    log.is_done("shop").await;

    always("all are there until they are old", ROUNDS, async || {
        log.number(ROWS).await == 20 || published.elapsed() >= keep
    })
    .await;
    log.comes_to(ROWS, 0).await;
    bus.shutdown().await.expect("shutdown");
}

async fn what_a_service_does_not_read_is_removed_when_it_is_too_old<D: Database>(log: Log<D>) {
    let age = Duration::from_secs(3);
    let (away, before) = log
        .noting_on("away", log.broker().max_age(age), &["placed"])
        .await;
    away.shutdown().await.expect("shutdown");
    let (bus, notes) = log
        .noting_on("shop", log.broker().max_age(age), &["placed"])
        .await;
    let published = Instant::now();
    publish(&bus, "placed", 0..20).await;
    notes.reach(20).await;
    let rows = log.number(ROWS).await;
    assert!(rows == 20 || published.elapsed() >= age, "{rows} rows");
    log.comes_to(ROWS, 0).await;

    let (back, after) = log.noting("away", &["placed"]).await;
    publish(&bus, "placed", 20..25).await;
    after.reach(5).await;
    log.is_done("away").await;
    assert_eq!(before.len(), 0);
    assert_eq!(sorted(after.numbers()), Vec::from_iter(20..25));
    back.shutdown().await.expect("shutdown");
    bus.shutdown().await.expect("shutdown");
}

async fn a_service_that_is_forgotten_is_waited_for_no_more<D: Database>(log: Log<D>) {
    let (gone, _) = log.noting("gone", &["placed"]).await;
    gone.shutdown().await.expect("shutdown");
    let (bus, notes) = log.noting("shop", &["placed"]).await;
    publish(&bus, "placed", 0..20).await;
    notes.reach(20).await;
    log.is_done("shop").await;
    assert_eq!(log.number(ROWS).await, 20);

    let broker = log.broker();
    assert!(broker.forget("gone").await.expect("forgotten"));
    assert!(!broker.forget("gone").await.expect("nothing to forget"));
    publish(&bus, "placed", 20..21).await;
    log.comes_to(ROWS, 0).await;
    bus.shutdown().await.expect("shutdown");
}

async fn a_service_that_is_forgotten_at_work_begins_anew<D: Database>(log: Log<D>) {
    let (bus, notes) = log.noting("shop", &["placed"]).await;
    publish(&bus, "placed", 0..20).await;
    notes.reach(20).await;
    // A service without progress would handle all rows that are still there.
    log.comes_to(ROWS, 0).await;
    assert!(log.broker().forget("shop").await.expect("forgotten"));

    log.shared_by("shop", 1).await;
    publish(&bus, "placed", 20..40).await;
    notes.reach(40).await;
    log.is_done("shop").await;
    assert_eq!(sorted(notes.numbers()), Vec::from_iter(0..40));
    bus.shutdown().await.expect("shutdown");
}

async fn a_topic_nobody_has_subscribed_is_kept<D: Database>(log: Log<D>) {
    let (bus, notes) = log.noting("shop", &["placed"]).await;
    for round in 0..5 {
        publish(&bus, "shipped", [round]).await;
        publish(&bus, "placed", [round]).await;
    }
    notes.reach(5).await;
    log.comes_to(ROWS, 5).await;
    let waiting = "SELECT count(*) FROM final_log WHERE topic = 'shipped'";
    always("they wait", ROUNDS, async || log.number(waiting).await == 5).await;
    bus.shutdown().await.expect("shutdown");
}
