//! How consuming ends.

use super::*;

#[tokio::test(start_paused = true)]
async fn handlers_at_work_finish_after_the_stop() {
    let gate = Gate::default();
    let mut bench = Bench::new(gate.route(), &Options::default());
    bench.deliver(1, message()).await;
    settle_down().await;

    bench.stop.cancel();
    bench.end_stream();
    settle_down().await;
    assert!(!bench.run.is_finished());
    gate.open();

    assert_eq!(bench.settled().await, (1, Settlement::Ack));
    bench.run.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn retry_that_waits_is_requeued_at_once() {
    let options = Options::default().retry_interval(Duration::from_secs(20));
    let mut bench = Bench::new(route(async |_| Ok(Outcome::Retry)), &options);
    bench.deliver(1, message()).await;
    settle_down().await;
    let stopped = Instant::now();

    bench.stop.cancel();
    bench.end_stream();

    assert_eq!(bench.settled().await, (1, Settlement::Requeue));
    (&mut bench.run).await.unwrap();
    assert_eq!(stopped.elapsed(), Duration::ZERO);
    assert_eq!(bench.stats().requeued, 1);
}

#[tokio::test(start_paused = true)]
async fn what_has_not_begun_is_requeued_when_the_stream_ends_and_not_before() {
    let gate = Gate::default();
    let mut bench = Bench::new(gate.route(), &Options::default().concurrency(1));
    for tag in 1..=3 {
        bench.deliver(tag, message()).await;
    }
    settle_down().await;

    bench.stop.cancel();
    // As long as the broker knows this consumer, it would deliver requeued messages to it again.
    bench.unsettled_for(Duration::from_secs(1)).await;
    bench.end_stream();

    assert_eq!(bench.settled().await, (2, Settlement::Requeue));
    assert_eq!(bench.settled().await, (3, Settlement::Requeue));
    gate.open();
    assert_eq!(bench.settled().await, (1, Settlement::Ack));
}

#[tokio::test(start_paused = true)]
async fn handler_that_does_not_finish_is_aborted_and_its_message_requeued() {
    let gate = Gate::default();
    let mut bench = Bench::new(gate.route(), &Options::default());
    bench.deliver(1, message()).await;
    settle_down().await;
    let stopped = Instant::now();

    bench.stop.cancel();
    bench.end_stream();

    assert_eq!(bench.settled().await, (1, Settlement::Requeue));
    (&mut bench.run).await.unwrap();
    assert!(stopped.elapsed() >= LIMIT && stopped.elapsed() < LIMIT + Duration::from_secs(1));
    assert_eq!(bench.stats().requeued, 1);
}

#[tokio::test(start_paused = true)]
async fn stream_that_never_ends_does_not_hold_the_stop_beyond_its_limit() {
    let bench = Bench::new(Gate::default().route(), &Options::default());
    let stopped = Instant::now();

    bench.stop.cancel();
    bench.run.await.unwrap();

    assert!(stopped.elapsed() < LIMIT + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn ended_stream_ends_the_run_once_everything_is_settled() {
    let done_later = route(async |_| {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok(Outcome::Done)
    });
    let mut bench = Bench::new(done_later, &Options::default());
    bench.deliver(1, message()).await;

    bench.end_stream();
    (&mut bench.run).await.unwrap();

    assert_eq!(bench.settled().await, (1, Settlement::Ack));
}

#[tokio::test(start_paused = true)]
async fn dropped_run_requeues_everything() {
    let gate = Gate::default();
    let mut bench = Bench::new(gate.route(), &Options::default().concurrency(1));
    for tag in 1..=3 {
        bench.deliver(tag, message()).await;
    }
    settle_down().await;

    bench.run.abort();

    for _ in 1..=3 {
        assert_eq!(bench.settled().await.1, Settlement::Requeue);
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_start_again_after_a_redelivery() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let counting = route({
        let attempts = Arc::clone(&attempts);
        move |message: Message| {
            attempts.store(message.attempt() as usize, SeqCst);
            async { Ok(Outcome::Retry) }
        }
    });
    let options = Options::default()
        .retry_count(100)
        .retry_interval(Duration::from_secs(20));
    let mut bench = Bench::new(counting.clone(), &options);
    let message = message();
    bench.deliver(1, message.clone()).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(attempts.load(SeqCst) > 1);
    bench.stop.cancel();
    assert_eq!(bench.settled().await, (1, Settlement::Requeue));

    let next_life = Bench::new(counting, &options);
    next_life.deliver(1, message).await;
    settle_down().await;

    assert_eq!(attempts.load(SeqCst), 1);
}
