//! The lease is kept while a step takes longer than the lease, and the stream is opened once.

use std::time::Duration;

use final_capture::{
    Capture, RunningCapture,
    position::{ParkedMark, PositionStore, SqlPositions},
    target::Target,
};
use final_tests::eventually;

use super::kit::{self, in_log, log_has, on_servers, reaches, target};
use crate::{
    place::{Database, Place},
    script::Script,
};

/// On a busy machine a renewal may come a second late.
const LEASE: Duration = Duration::from_secs(3);

/// How long a step takes.
const LONG: Duration = Duration::from_secs(7);

/// Rows that are slow one by one take that long together.
const ROWS: usize = 70;

on_servers!(
    a_lease_is_kept_while_the_log_takes_a_lot_slowly,
    a_lease_is_kept_while_many_changes_are_parked,
    a_lease_is_kept_while_many_parked_changes_are_marked,
);

fn capture(script: &Script, target: Target) -> Capture {
    kit::capture(script, target).lease(LEASE)
}

/// The term was not lost meanwhile.
fn is_first_term(script: &Script) {
    let opened = script.opened();
    assert_eq!(opened.len(), 1, "{opened:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_kept_while_a_stream_is_opened() {
    let place = Place::<sqlx::Sqlite>::fresh().await;
    let script = Script::new();
    script.commit_many(1, 3, 4);
    script.opens_in(LONG);
    let first = capture(&script, target(&place)).start().await.unwrap();
    reaches(&first, "connecting").await;
    let second = capture(&script, target(&place)).start().await.unwrap();
    log_has(&place, 3).await;
    assert_eq!(second.state().borrow().to_string(), "standby");
    is_first_term(&script);
    second.shutdown().await;
    first.shutdown().await;
}

/// Ten reads of what is done already. Each read keeps the thread for a tenth of a long time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_kept_while_large_events_are_read() {
    what_is_done_is_read::<sqlx::Postgres>(10).await;
}

/// There is one thread, which nobody else gets before the reader gives it up.
#[tokio::test]
async fn a_lease_is_kept_on_one_thread_while_much_is_read() {
    what_is_done_is_read::<sqlx::Sqlite>(100).await;
}

/// Reads what is done of a large transaction.
async fn what_is_done_is_read<DB: Database>(reads: u32) {
    const EACH: u32 = 10;
    let done = reads * EACH;
    let place = Place::<DB>::fresh().await;
    kit::is_done_in_part(&place, done.into()).await;
    let script = Script::new();
    script.commit_many(1, done as usize + 3, 7);
    script.busy(EACH as usize, LONG / reads);

    let running = capture(&script, target(&place)).start().await.unwrap();
    let texts: Vec<String> = log_has(&place, 3)
        .await
        .into_iter()
        .map(|row| row.text)
        .collect();
    assert_eq!(texts, [done, done + 1, done + 2].map(|row| row.to_string()));
    is_first_term(&script);
    running.shutdown().await;
}

/// Makes each statement of that kind slow that changes a row of the table.
async fn slow<DB: Database>(place: &Place<DB>, kind: &str, table: &str) {
    let seconds = LONG.as_secs_f64() / ROWS as f64;
    let slow = match std::any::type_name::<DB>().contains("mysql") {
        true => format!(
            "CREATE TRIGGER slow_{kind} BEFORE {kind} ON {table} FOR EACH ROW DO SLEEP({seconds})"
        ),
        false => format!(
            "CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END $$; \
             CREATE TRIGGER slow_{kind} BEFORE {kind} ON {table} FOR EACH ROW EXECUTE FUNCTION slow()"
        ),
    };
    place.sql(&slow).await;
}

async fn a_lease_is_kept_while_the_log_takes_a_lot_slowly<DB: Database>() {
    let place = Place::<DB>::fresh().await;
    let script = Script::new();
    capture(&script, target(&place)).migrate().await.unwrap();
    slow(&place, "INSERT", "final_log").await;
    script.commit_many(1, ROWS, 7);
    let running = capture(&script, target(&place)).start().await.unwrap();
    kit::each_once(&log_has(&place, ROWS).await, ROWS);
    is_first_term(&script);
    running.shutdown().await;
}

/// A capture that has parked a change of key 1.
async fn parks<DB: Database>(place: &Place<DB>, script: &Script) -> RunningCapture {
    script.commit([(1, "x".repeat(super::poison::SMALL * 2))]);
    let capture = capture(script, target(place)).max_message_bytes(super::poison::SMALL);
    let running = capture.start().await.unwrap();
    has_parked(&running, 1).await;
    running
}

async fn has_parked(running: &RunningCapture, count: u64) {
    eventually("so many are parked", kit::SOON, async || {
        let parked = running.stats().parked;
        (parked == count).then_some(()).ok_or(parked)
    })
    .await;
}

async fn a_lease_is_kept_while_many_changes_are_parked<DB: Database>() {
    let place = Place::<DB>::fresh().await;
    let script = Script::new();
    let running = parks(&place, &script).await;
    slow(&place, "INSERT", "final_capture_parked").await;
    script.commit((0..ROWS).map(|row| (1, row.to_string())));
    has_parked(&running, 1 + ROWS as u64).await;
    is_first_term(&script);
    running.shutdown().await;
}

/// They wait behind one that is refused again, so all of them get a mark and lose it.
async fn a_lease_is_kept_while_many_parked_changes_are_marked<DB: Database>() {
    let place = Place::<DB>::fresh().await;
    let script = Script::new();
    let running = parks(&place, &script).await;
    script.commit((0..ROWS).map(|row| (1, row.to_string())));
    has_parked(&running, 1 + ROWS as u64).await;
    let positions = SqlPositions::new(place.pool.clone());
    let heads = async |marked| positions.parked("shop", marked, -1, 1_000).await.unwrap();
    slow(&place, "UPDATE", "final_capture_parked").await;
    let first = [heads(false).await[0].id];
    let mark = positions.mark("shop", Some(&first), ParkedMark::Retry);
    mark.await.unwrap();
    eventually("all have lost their marks", kit::SOON, async || {
        let marked = heads(true).await.len();
        (marked == 0).then_some(()).ok_or(marked)
    })
    .await;
    assert_eq!(heads(false).await.len(), 1 + ROWS);
    assert!(in_log(&place).await.is_empty());
    is_first_term(&script);
    running.shutdown().await;
}
