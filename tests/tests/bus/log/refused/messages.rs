//! Messages that the log refuses: scheduled ones, replayed letters, ones that are handed on or come from
//! another database.

use std::{sync::atomic::Ordering, time::Duration};

use final_core::broker::DeadLetterFilter;
use final_tests::eventually;
use sqlx::{Database as _, MySql};

use super::{Guard, Shop, fails_from_elsewhere};
use crate::{
    database::Database,
    house::{Notes, SOON},
    log::{Log, noting, numbers::Numbers, publish, sorted},
};

crate::log_suite!(
    a_scheduled_message_that_the_log_refuses_keeps_no_other_back,
    a_letter_that_the_log_refuses_stays_and_the_others_are_put_back,
    a_message_that_cannot_be_handed_on_comes_again,
    a_message_from_elsewhere_that_the_log_refuses_keeps_no_other_back,
    a_message_with_a_used_number_that_the_log_refuses_keeps_no_other_back,
    a_message_with_a_used_number_that_the_log_passes_over_is_not_lost,
);

async fn a_scheduled_message_that_the_log_refuses_keeps_no_other_back<D: Database>(log: Log<D>) {
    let shop = Shop::open(&log, "no").await;
    let guard = Guard::refusing::<D>("final_log", "NEW.topic = 'bad'");
    guard.set(&log).await;
    let delay = Duration::from_millis(300);
    for number in 0..20_i64 {
        let topic = if number == 3 { "bad" } else { "placed" };
        let scheduled = shop.bus.publish(topic, &number).delay(delay);
        scheduled.await.expect("publish");
    }

    shop.placed.reach(19).await;
    shop.is_told().await;
    log.comes_to("SELECT count(*) FROM final_log_scheduled", 1)
        .await;
    let told = shop.told.load(Ordering::SeqCst);
    assert!(told < 5, "a hot loop: {told}");
    guard.lift(&log).await;
    log.run("UPDATE final_log_scheduled SET due_at = 0").await;
    shop.bad.reach(1).await;
    shop.close().await;
}

async fn a_letter_that_the_log_refuses_stays_and_the_others_are_put_back<D: Database>(log: Log<D>) {
    let shop = Shop::open(&log, "no").await;
    for number in 0..150_i64 {
        let key = if number == 7 { "stuck" } else { "free" };
        let letter = shop.bus.publish("bad", &number).key(key);
        letter.await.expect("publish");
    }
    shop.letters_reach(150).await;
    shop.close().await;
    let guard = Guard::refusing::<D>("final_log", "NEW.message_key = 'stuck'");
    guard.set(&log).await;

    let broker = log.broker();
    let replayed = broker.replay("shop", DeadLetterFilter::all()).await;
    assert_eq!(replayed.expect("put back"), 149);
    let left = broker.dead_letters("shop", DeadLetterFilter::all()).await;
    let left = left.expect("letters");
    assert_eq!(left.len(), 1);
    assert_eq!(
        left[0].message.as_ref().expect("a message").key(),
        Some("stuck")
    );
    let error = broker.replay("shop", DeadLetterFilter::all()).await;
    let error = format!("{:?}", error.expect_err("nothing can be put back"));
    assert!(error.contains("not here"), "{error}");
    guard.lift(&log).await;
    let replayed = broker.replay("shop", DeadLetterFilter::all()).await;
    assert_eq!(replayed.expect("put back"), 1);
}

/// An instance without a handler hands the message on to another instance.
async fn a_message_that_cannot_be_handed_on_comes_again<D: Database>(log: Log<D>) {
    let full = Notes::default();
    let newer = log.bus("shop");
    newer
        .start(noting(&full, &["placed", "new"]))
        .await
        .expect("start");
    newer.shutdown().await.expect("shutdown");
    let shop = Shop::open(&log, "no").await;
    let guard = Guard::refusing::<D>("final_log", "NEW.recipient = 'shop'");
    guard.set(&log).await;
    publish(&shop.bus, "new", [1]).await;
    publish(&shop.bus, "placed", 0..20).await;
    shop.placed.reach(20).await;
    shop.is_told().await;
    publish(&shop.bus, "placed", 20..40).await;
    shop.placed.reach(40).await;
    eventually("the progress of the others", SOON, async || {
        let backlog = shop.broker.backlog("shop").await.expect("backlog");
        match backlog.waiting {
            0 => Ok(()),
            waiting => Err(waiting),
        }
    })
    .await;
    log.has_open("shop", 1).await;

    let newer = log.bus("shop");
    newer
        .start(noting(&full, &["placed", "new"]))
        .await
        .expect("start");
    guard.lift(&log).await;
    eventually("it is handed on", SOON, async || full.numbers() == [1]).await;
    newer.shutdown().await.expect("shutdown");
    shop.close().await;
}

async fn a_message_from_elsewhere_that_the_log_refuses_keeps_no_other_back<D: Database>(
    log: Log<D>,
) {
    let elsewhere = Log::<D>::new().await;
    let shop = Shop::open(&log, "no").await;
    let guard = Guard::refusing::<D>("final_log", "NEW.topic = 'bad'");
    guard.set(&log).await;
    let failed = fails_from_elsewhere(&shop, &log, &elsewhere).await;
    assert!(failed.contains("not here"), "{failed}");
    shop.close().await;
}

async fn needs_a_new_number<D: Numbers>(log: Log<D>, guard: Guard) {
    let topics = ["placed", "kept"];
    let (bus, notes) = log.noting("shop", &topics).await;
    publish(&bus, "placed", 0..100).await;
    notes.reach(100).await;
    log.is_done("shop").await;
    bus.shutdown().await.expect("shutdown");
    D::truncate(&log.pool).await;
    let till = log.bus("till");
    publish(&till, "placed", 0..10).await;
    publish(&till, "kept", [10]).await;
    publish(&till, "placed", 11..20).await;
    guard.set(&log).await;

    let (bus, notes) = log.noting("shop", &topics).await;
    notes.reach(19).await;
    publish(&bus, "placed", 20..30).await;
    notes.reach(29).await;
    assert!(!notes.numbers().contains(&10));

    guard.lift(&log).await;
    notes.reach(30).await;
    assert_eq!(sorted(notes.numbers()), Vec::from_iter(0..30));
    bus.shutdown().await.expect("shutdown");
}

async fn a_message_with_a_used_number_that_the_log_refuses_keeps_no_other_back<D: Numbers>(
    log: Log<D>,
) {
    needs_a_new_number(log, Guard::refusing::<D>("final_log", "NEW.topic = 'kept'")).await;
}

/// On MariaDB only what an `INSERT IGNORE` leaves out is passed over, so that it is refused there.
async fn a_message_with_a_used_number_that_the_log_passes_over_is_not_lost<D: Numbers>(
    log: Log<D>,
) {
    let guard = match D::NAME {
        name if name == MySql::NAME => Guard::refusing::<D>("final_log", "NEW.topic = 'kept'"),
        _ => Guard::passing_over::<D>("final_log", "NEW.topic = 'kept'"),
    };
    needs_a_new_number(log, guard).await;
}
