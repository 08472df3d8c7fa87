//! Retries: where a message goes after each attempt.

use std::sync::Mutex;

use tower::{ServiceBuilder, timeout::TimeoutLayer};

use super::*;
use crate::{broker::Cause, handler::Permanent};

fn dead(reason: &str, attempts: u32) -> Settlement {
    Settlement::DeadLetter(Cause::new(reason, attempts))
}

/// A route that always fails, and records the time and the number of each attempt.
fn failing(calls: &Arc<Mutex<Vec<(u32, Instant)>>>) -> Route {
    let calls = Arc::clone(calls);
    route(move |message| {
        let mut calls = calls.lock().unwrap();
        calls.push((message.attempt(), Instant::now()));
        let reason = format!("failure {}", calls.len());
        async move { Err(reason.into()) }
    })
}

#[tokio::test(start_paused = true)]
async fn handled_message_is_acked() {
    let mut bench = Bench::new(route(async |_| Ok(Outcome::Done)), &Options::default());

    bench.deliver(7, message()).await;

    assert_eq!(bench.settled().await, (7, Settlement::Ack));
    assert_eq!(bench.stats().handled, 1);
}

#[tokio::test(start_paused = true)]
async fn failing_message_is_retried_and_then_dead_lettered_with_its_last_reason() {
    let calls = Arc::default();
    let mut bench = Bench::new(failing(&calls), &Options::default());

    bench.deliver(1, message()).await;

    assert_eq!(bench.settled().await, (1, dead("failure 4", 4)));
    let attempts: Vec<_> = calls.lock().unwrap().iter().map(|(n, _)| *n).collect();
    assert_eq!(attempts, [1, 2, 3, 4]);
    assert_eq!(bench.stats().retried, 3);
    assert_eq!(bench.stats().dead_lettered, 1);
}

#[tokio::test(start_paused = true)]
async fn pauses_between_attempts_double() {
    let calls = Arc::default();
    let options = Options::default().retry_interval(Duration::from_secs(1));
    let mut bench = Bench::new(failing(&calls), &options);

    bench.deliver(1, message()).await;
    bench.settled().await;

    let calls = calls.lock().unwrap();
    let pauses: Vec<_> = calls.windows(2).map(|two| two[1].1 - two[0].1).collect();
    for (pause, expected) in pauses.into_iter().zip([1_000, 2_000, 4_000]) {
        let millis = u64::try_from(pause.as_millis()).unwrap();
        assert!(
            (expected / 2..=expected * 3 / 2 + 1).contains(&millis),
            "{pause:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn message_that_succeeds_at_last_is_acked() {
    let flaky = route(async |message: Message| match message.attempt() {
        3 => Ok(Outcome::Done),
        _ => Ok(Outcome::Retry),
    });
    let mut bench = Bench::new(flaky, &Options::default());

    bench.deliver(1, message()).await;

    assert_eq!(bench.settled().await, (1, Settlement::Ack));
}

#[tokio::test(start_paused = true)]
async fn without_retries_the_first_failure_is_the_last() {
    let calls = Arc::default();
    let mut bench = Bench::new(failing(&calls), &Options::default().retry_count(0));

    bench.deliver(1, message()).await;

    assert_eq!(bench.settled().await, (1, dead("failure 1", 1)));
}

#[tokio::test(start_paused = true)]
async fn permanent_failure_is_dead_lettered_at_once() {
    let permanent = route(async |_| Err(Permanent("no such order".into()).into()));
    let mut bench = Bench::new(permanent, &Options::default());

    bench.deliver(1, message()).await;

    assert_eq!(bench.settled().await, (1, dead("no such order", 1)));
}

#[tokio::test(start_paused = true)]
async fn panicking_handler_is_retried_like_any_other() {
    let panicking = route(async |message: Message| match message.attempt() {
        1 => panic!("out of cheese"),
        _ => Ok(Outcome::Done),
    });
    let mut bench = Bench::new(panicking, &Options::default());

    bench.deliver(1, message()).await;

    assert_eq!(bench.settled().await, (1, Settlement::Ack));
}

#[tokio::test(start_paused = true)]
async fn each_attempt_runs_the_whole_chain_of_layers() {
    let slow_at_first = service_fn(async |message: Message| {
        if message.attempt() < 3 {
            std::future::pending::<()>().await;
        }
        Ok::<_, BoxError>(Outcome::Done)
    });
    let layered = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(5)))
        .service(slow_at_first);
    let mut bench = Bench::new(Route::new(layered), &Options::default());

    bench.deliver(1, message()).await;

    assert_eq!(bench.settled().await, (1, Settlement::Ack));
}

#[tokio::test(start_paused = true)]
async fn malformed_message_is_dead_lettered_at_once() {
    let mut bench = Bench::new(Gate::default().route(), &Options::default());

    bench
        .deliver_any(1, Err("no topic header".to_owned()))
        .await;

    assert_eq!(bench.settled().await, (1, dead("no topic header", 0)));
}
