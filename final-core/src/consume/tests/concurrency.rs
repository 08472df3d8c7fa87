//! How many handlers run at once, and what does not count as running.

use super::*;

#[tokio::test(start_paused = true)]
async fn no_more_handlers_run_than_concurrency_however_many_are_delivered() {
    let gate = Gate::default();
    let mut bench = Bench::new(gate.route(), &Options::default().concurrency(3));

    for tag in 0..50 {
        bench.deliver(tag, message()).await;
    }
    settle_down().await;
    assert_eq!(gate.running(), 3);

    gate.open();
    settle_down().await;
    assert_eq!(gate.running(), 3);
    assert_eq!(bench.settled().await.1, Settlement::Ack);
}

#[tokio::test(start_paused = true)]
async fn others_run_while_a_message_waits_for_its_retry() {
    let options = Options::default()
        .concurrency(1)
        .retry_interval(Duration::from_secs(20));
    let once = route(async |message: Message| match message.key() {
        Some("bad") if message.attempt() == 1 => Ok(Outcome::Retry),
        _ => Ok(Outcome::Done),
    });
    let mut bench = Bench::new(once, &options);

    bench.deliver(1, message().with_key("bad")).await;
    bench.deliver(2, message()).await;
    bench.deliver(3, message()).await;

    assert_eq!(bench.settled().await, (2, Settlement::Ack));
    assert_eq!(bench.settled().await, (3, Settlement::Ack));
    assert_eq!(bench.settled().await, (1, Settlement::Ack));
}

#[tokio::test(start_paused = true)]
async fn message_that_waits_for_its_retry_stays_in_hand() {
    let options = Options::default().retry_interval(Duration::from_secs(20));
    let mut bench = Bench::new(route(async |_| Ok(Outcome::Retry)), &options);

    bench.deliver(1, message()).await;

    bench.unsettled_for(Duration::from_secs(9)).await;
}

#[tokio::test(start_paused = true)]
async fn idle_subscriber_holds_no_slot_that_a_retry_needs() {
    let once = route(async |message: Message| match message.attempt() {
        1 => Ok(Outcome::Retry),
        _ => Ok(Outcome::Done),
    });
    let mut bench = Bench::new(once, &Options::default().concurrency(1));

    bench.deliver(1, message()).await;

    assert_eq!(bench.settled().await, (1, Settlement::Ack));
}
