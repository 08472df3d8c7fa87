//! Messages that come again while this process still has an earlier delivery of them.

use tokio::sync::oneshot;

use super::*;
use crate::broker::Cause;

impl Bench {
    /// Delivers a message once more, and returns what settles its earlier delivery.
    async fn deliver_again(&self, tag: u64) -> oneshot::Sender<Settlement> {
        let (earlier, settlement) = oneshot::channel();
        let settler = Arc::clone(&self.ledger) as Arc<dyn Settler>;
        let delivery = Delivery::new(Ok(message()), tag, settler).after(settlement);
        let stream = self.deliveries.as_ref().unwrap();
        stream.send(delivery).await.unwrap();
        earlier
    }
}

/// A channel that has ended.
struct Gone;

impl Settler for Gone {
    fn settle(&self, _: u64, _: Settlement) {}

    fn is_void(&self, _: u64) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_again_is_settled_as_its_running_handler_ends() {
    let gate = Gate::default();
    let mut bench = Bench::new(gate.route(), &Options::default());
    let letter = Settlement::DeadLetter(Cause::new("refused", 1));
    let acked = bench.deliver_again(1).await;
    let refused = bench.deliver_again(2).await;
    bench.unsettled_for(DAY).await;

    acked.send(Settlement::Ack).unwrap();
    assert_eq!(bench.settled().await, (1, Settlement::Ack));
    refused.send(letter.clone()).unwrap();
    assert_eq!(bench.settled().await, (2, letter));
    assert_eq!(gate.running(), 0, "no handler began");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_again_takes_no_slot_while_it_waits() {
    let gate = Gate::default();
    let mut bench = Bench::new(gate.route(), &Options::default().concurrency(1));
    let _earlier = bench.deliver_again(1).await;
    bench.deliver(2, message()).await;
    settle_down().await;

    assert_eq!(gate.running(), 1);
    gate.open();
    assert_eq!(bench.settled().await, (2, Settlement::Ack));
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_earlier_delivery_was_given_up_is_handled() {
    let gate = Gate::default();
    let mut bench = Bench::new(gate.route(), &Options::default());
    let requeued = bench.deliver_again(1).await;
    let lost = bench.deliver_again(2).await;

    requeued.send(Settlement::Requeue).unwrap();
    drop(lost);
    settle_down().await;

    assert_eq!(gate.running(), 2);
    gate.open();
    let settled = [bench.settled().await, bench.settled().await];
    assert!(settled.iter().all(|(_, how)| *how == Settlement::Ack));
}

#[tokio::test(start_paused = true)]
async fn a_handler_does_not_begin_for_a_delivery_that_is_void() {
    let gate = Gate::default();
    let mut bench = Bench::new(gate.route(), &Options::default());
    let stream = bench.deliveries.as_ref().unwrap();
    let void = Delivery::new(Ok(message()), 1, Arc::new(Gone));
    assert!(void.is_void());
    stream.send(void).await.unwrap();
    bench.deliver(2, message()).await;
    settle_down().await;

    assert_eq!(gate.running(), 1);
    gate.open();
    assert_eq!(bench.settled().await, (2, Settlement::Ack));
    assert_eq!(bench.stats().handled, 1);
}
