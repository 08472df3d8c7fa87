#![allow(clippy::expect_used, reason = "a test says what it expects")]

use std::{pin::pin, sync::Arc, task::Context, time::Duration};

use futures::FutureExt;
use tokio::time::{Instant, timeout};

use super::{
    Ahead, Turn, Writers,
    holder::{IN_HAND, LOOSE, OVERTAKE, UNSEEN},
    line::{CALLERS_PATIENCE, Line, OUR_PATIENCE},
};

fn writers() -> Writers {
    Writers(Some(Arc::new(Line::new())))
}

/// Work that is done as soon as it is begun. Whether it was.
struct Ready(bool);

impl Ahead for Ready {
    fn go_on(&mut self, _: &mut Context<'_>) -> bool {
        self.0 = true;
        true
    }
}

async fn caller(writers: &Writers) -> Turn {
    writers.callers_turn(&mut ()).await
}

async fn ours(writers: &Writers) -> Turn {
    writers.our_turn(&mut ()).await
}

#[test]
fn a_database_has_one_line_for_all_its_pools() {
    let (one, two) = (Writers::of("a".to_owned()), Writers::of("a".to_owned()));
    let other = Writers::of("b".to_owned());
    let line = |writers: &Writers| writers.0.as_ref().map(Arc::as_ptr);
    assert_eq!(line(&one), line(&two));
    assert_ne!(line(&one), line(&other));
}

#[tokio::test(start_paused = true)]
async fn the_next_writer_has_its_turn_when_the_one_before_has_ended() {
    let writers = writers();
    let writing = caller(&writers).await.begun();
    let mut next = pin!(caller(&writers));
    assert!(next.as_mut().now_or_never().is_none());
    let before = Instant::now();
    drop(writing);
    drop(next.await);
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn transactions_whose_end_is_not_seen_are_waited_for_only_a_moment() {
    let writers = writers();
    for limit in [LOOSE, UNSEEN, UNSEEN] {
        caller(&writers).await.begun_loose();
        let before = Instant::now();
        drop(caller(&writers).await);
        assert_eq!(before.elapsed(), limit);
    }
    caller(&writers).await.begun_loose();
    drop(writers.take_over());
    caller(&writers).await.begun_loose();
    let before = Instant::now();
    drop(caller(&writers).await);
    assert_eq!(before.elapsed(), LOOSE, "ends are seen again");
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_is_taken_over_is_waited_for() {
    let writers = writers();
    caller(&writers).await.begun_loose();
    let writing = writers.take_over();
    let mut next = pin!(caller(&writers));
    let early = timeout(IN_HAND / 2, next.as_mut()).await;
    assert!(early.is_err());
    drop(writing);
    assert!(next.now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_statement_of_ours_waits_for_one_caller_at_most() {
    let writers = writers();
    let writing = caller(&writers).await.begun();
    let mut first = pin!(caller(&writers));
    let mut second = pin!(caller(&writers));
    assert!(first.as_mut().now_or_never().is_none());
    assert!(second.as_mut().now_or_never().is_none());
    let mut ours_waits = pin!(ours(&writers));
    assert!(ours_waits.as_mut().now_or_never().is_none());

    drop(writing);
    let writing = first.await.begun();
    assert!(second.as_mut().now_or_never().is_none());
    drop(writing);
    assert!(ours_waits.now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn the_first_in_line_is_overtaken_only_a_few_times() {
    let writers = writers();
    let writing = caller(&writers).await.begun();
    let mut first = pin!(caller(&writers));
    assert!(first.as_mut().now_or_never().is_none());
    drop(writing);
    for _ in 0..OVERTAKE {
        drop(caller(&writers).now_or_never().expect("at once").begun());
    }
    let mut second = pin!(caller(&writers));
    assert!(second.as_mut().now_or_never().is_none());
    let turn = first.now_or_never().expect("its turn");
    assert!(second.as_mut().now_or_never().is_none());
    drop(turn);
    assert!(second.now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_first_in_line_that_is_ready_is_not_overtaken() {
    let writers = writers();
    let writing = caller(&writers).await.begun();
    let mut ready = Ready(false);
    let mut first = pin!(writers.callers_turn(&mut ready));
    assert!(first.as_mut().now_or_never().is_none());
    drop(writing);
    let mut second = pin!(caller(&writers));
    assert!(second.as_mut().now_or_never().is_none());
    drop(first.now_or_never().expect("its turn").begun());
    assert!(second.now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_first_in_line_that_is_dropped_is_not_ready_any_longer() {
    let writers = writers();
    let writing = caller(&writers).await.begun();
    let mut ready = Ready(false);
    let mut first = Box::pin(writers.callers_turn(&mut ready));
    assert!(first.as_mut().now_or_never().is_none());
    drop(first);
    let mut next = pin!(caller(&writers));
    assert!(next.as_mut().now_or_never().is_none());
    drop(writing);
    assert!(
        caller(&writers).now_or_never().is_some(),
        "next is not ready"
    );
}

#[tokio::test(start_paused = true)]
async fn only_a_first_in_line_that_waits_works_before_its_turn() {
    let writers = writers();
    let (mut alone, mut ahead, mut behind) = (Ready(false), Ready(false), Ready(false));
    let writing = writers.callers_turn(&mut alone).await.begun();
    let mut first = Box::pin(writers.callers_turn(&mut ahead));
    assert!(first.as_mut().now_or_never().is_none());
    let mut second = Box::pin(writers.callers_turn(&mut behind));
    assert!(second.as_mut().now_or_never().is_none());
    drop((second, first, writing));
    assert_eq!((alone.0, ahead.0, behind.0), (false, true, false));
}

#[tokio::test(start_paused = true)]
async fn a_line_that_does_not_move_is_left() {
    let writers = writers();
    // This one waits for a connection, for example.
    let _turn = caller(&writers).await;
    let before = Instant::now();
    drop(ours(&writers).await);
    assert_eq!(before.elapsed(), OUR_PATIENCE);
    drop(caller(&writers).await);
    assert_eq!(before.elapsed(), OUR_PATIENCE + CALLERS_PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_moves_is_not_left() {
    let writers = writers();
    let turn = caller(&writers).await;
    let mut ours_waits = pin!(ours(&writers));
    for _ in 0..10 {
        assert!(
            timeout(OUR_PATIENCE / 2, ours_waits.as_mut())
                .await
                .is_err()
        );
        writers.may_have_ended();
    }
    drop(turn);
    assert!(ours_waits.now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_is_dropped_gives_its_turn_back() {
    let writers = writers();
    let turn = caller(&writers).await;
    let mut waits = Box::pin(caller(&writers));
    assert!(waits.as_mut().now_or_never().is_none());
    drop(waits);
    drop(turn);
    assert!(caller(&writers).now_or_never().is_some());
}
