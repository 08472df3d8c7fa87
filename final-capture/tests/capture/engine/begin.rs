//! The first start of a capture, over real sources.

use final_capture::{
    Capture, CaptureState, RunningCapture, StopReason, position::SourcePoint, select::Selection,
};

use super::kit::*;
use crate::{
    mysql::shop::Shop as MySqlShop,
    place::{Database, Place},
    postgres::shop::Shop as PgShop,
};

crate::everywhere!(
    a_capture_does_not_take_the_slot_of_another_one,
    a_beginning_that_is_not_at_the_source_can_be_corrected,
);

/// Why it has stopped.
async fn stopped(running: RunningCapture) -> StopReason {
    let mut states = running.state();
    let wait = states.wait_for(|now| matches!(now, CaptureState::Stopped(_)));
    let state = tokio::time::timeout(SOON, wait).await;
    let state = state.expect("it stops").expect("it runs").clone();
    running.shutdown().await;
    match state {
        CaptureState::Stopped(reason) => reason,
        other => panic!("{other}"),
    }
}

async fn a_capture_does_not_take_the_slot_of_another_one<DB: Database>(place: Place<DB>) {
    let shop = PgShop::new().await;
    shop.run("CREATE TABLE shop.holes (id int PRIMARY KEY, text text)")
        .await;
    let capture = |name: &str| {
        Capture::new(name, shop.source(), Selection::tables(["shop.*"])).to(target(&place))
    };
    let running = capture("one").start().await.unwrap();
    reaches(&running, "streaming").await;
    running.shutdown().await;

    shop.run("INSERT INTO shop.holes VALUES (1, 'a')").await;
    match stopped(capture("two").start().await.unwrap()).await {
        StopReason::Config(why) => assert!(
            why.contains(&shop.slot) && why.contains("`one`") && why.contains("source.slot"),
            "{why}"
        ),
        other => panic!("{other:?}"),
    }

    let running = capture("one").start().await.unwrap();
    log_count(&place, 1).await;
    running.shutdown().await;
}

async fn a_beginning_that_is_not_at_the_source_can_be_corrected<DB: Database>(place: Place<DB>) {
    let mut shop = MySqlShop::open().await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY, text TEXT)")
        .await;
    let capture = |from: SourcePoint| {
        let capture = Capture::new("shop", shop.source(), shop.all());
        capture.to(target(&place)).begin_at(from)
    };
    // The server finds out with the first event that no event begins there.
    let wrong = "file:mysql-bin.000001:5".parse().unwrap();
    match stopped(capture(wrong).start().await.unwrap()).await {
        StopReason::Gap(_) => {}
        other => panic!("{other:?}"),
    }

    let right = shop.stream().await.position().point;
    let running = capture(right).start().await.unwrap();
    reaches(&running, "streaming").await;
    shop.run("INSERT INTO t VALUES (1, 'a')").await;
    log_count(&place, 1).await;
    running.shutdown().await;
}

/// Waits until the log has so many messages.
async fn log_count<DB: Database>(place: &Place<DB>, wanted: usize) {
    final_tests::eventually("the messages", SOON, async || {
        let there = count(place).await;
        (there == wanted).then_some(()).ok_or(there)
    })
    .await;
}
