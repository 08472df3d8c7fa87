//! Messages for which this instance has no handler.

use super::*;
use crate::broker::Cause;

const GRACE: Duration = Duration::from_secs(300);

fn elsewhere() -> Message {
    Message::new("order.renamed", "payload")
}

#[tokio::test(start_paused = true)]
async fn message_without_a_route_is_requeued_until_its_grace_is_over() {
    let mut bench = Bench::new(Gate::default().route(), &Options::default());
    let message = elsewhere();
    let began = Instant::now();

    let mut requeued = 0;
    let last = loop {
        bench.deliver(requeued, message.clone()).await;
        match bench.settled().await.1 {
            Settlement::Requeue => requeued += 1,
            last => break last,
        }
    };

    let reason = r#"service "shop" has no handler for topic "order.renamed""#;
    assert_eq!(last, Settlement::DeadLetter(Cause::new(reason, 0)));
    assert!((2..20).contains(&requeued), "{requeued}");
    assert!(began.elapsed() >= GRACE);
    assert_eq!(bench.stats().requeued, requeued);
}

#[tokio::test(start_paused = true)]
async fn without_grace_a_message_without_a_route_is_dead_lettered_at_once() {
    let options = Options::default().unrouted_grace(Duration::ZERO);
    let mut bench = Bench::new(Gate::default().route(), &options);

    bench.deliver(1, elsewhere()).await;

    assert!(matches!(
        bench.settled().await,
        (1, Settlement::DeadLetter(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn others_run_while_messages_without_a_route_wait() {
    let done = route(async |_| Ok(Outcome::Done));
    let mut bench = Bench::new(done, &Options::default().concurrency(1));

    for tag in 0..10 {
        bench.deliver(tag, elsewhere()).await;
    }
    bench.deliver(10, message()).await;

    assert_eq!(bench.settled().await, (10, Settlement::Ack));
}

#[tokio::test(start_paused = true)]
async fn message_without_a_route_is_requeued_at_once_when_the_bus_stops() {
    let mut bench = Bench::new(Gate::default().route(), &Options::default());
    bench.deliver(1, elsewhere()).await;
    settle_down().await;
    let stopped = Instant::now();

    bench.stop.cancel();

    assert_eq!(bench.settled().await, (1, Settlement::Requeue));
    assert_eq!(stopped.elapsed(), Duration::ZERO);
}
