//! The orders to a consuming channel: settlements from the bus, and dead letters that are stored or lost.
//!
//! Input: calls of the bus and of the dead-letter tasks. State: the orders that the channel has not taken, and how many
//! acks may wait before it is woken. Output: [`ChannelOrder`]s for one incarnation of one channel. Once that has ended,
//! a settlement goes to the orphans.
//!
//! ```text
//! open ── an ack: the channel is woken if enough of them wait ──▶ taken
//!   │ └── any other order: it is woken at once ─────────────────▶ taken
//!   └ the channel ends ──▶ closed: orders are refused
//! ```
//!
//! Acks are gathered for some milliseconds, so the channel need not hear of each: a wakeup of another thread costs
//! more than all else that is done with an ack.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use final_core::{
    Message,
    broker::{Postponing, Settlement, Settler},
};
use tokio::sync::Notify;

use super::orphans::Orphans;
use crate::lock::lock;

/// An order to a consuming channel, about the delivery with that tag.
#[derive(Debug)]
pub(crate) enum ChannelOrder {
    Settle(u64, Settlement),
    /// Whether it waits for something other than a handler.
    Waits(u64, bool),
    /// Its dead letter is stored.
    DeadLettered(u64),
    /// Its dead letter is stored elsewhere, and goes to the dead letters from there.
    DeadLetterMoved(u64),
    /// Its dead letter was lost on its way.
    DeadLetterLost(u64),
}

/// The orders to one channel incarnation that it has not obeyed.
#[derive(Debug)]
pub(crate) struct ChannelOrders {
    waiting: Mutex<WaitingOrders>,
    /// Wakes the channel.
    bell: Notify,
    is_open: AtomicBool,
}

#[derive(Debug)]
struct WaitingOrders {
    /// The oldest first.
    orders: VecDeque<ChannelOrder>,
    /// With so many orders the channel is woken. `usize::MAX` once it was.
    enough: usize,
}

impl ChannelOrders {
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::new(WaitingOrders {
                orders: VecDeque::new(),
                enough: 1,
            }),
            bell: Notify::new(),
            is_open: AtomicBool::new(true),
        }
    }

    /// Gives the channel an order. Gives it back if the channel has ended.
    fn put(&self, order: ChannelOrder) -> Result<(), ChannelOrder> {
        let is_ack = matches!(order, ChannelOrder::Settle(_, Settlement::Ack));
        let mut waiting = lock(&self.waiting);
        if self.is_closed() {
            return Err(order);
        }
        waiting.orders.push_back(order);
        let wakes =
            waiting.enough < usize::MAX && (!is_ack || waiting.orders.len() >= waiting.enough);
        if wakes {
            waiting.enough = usize::MAX;
        }
        drop(waiting);
        if wakes {
            self.bell.notify_one();
        }
        Ok(())
    }

    /// Takes all orders, into an empty list.
    pub(super) fn take(&self, orders: &mut VecDeque<ChannelOrder>) {
        std::mem::swap(&mut lock(&self.waiting).orders, orders);
    }

    /// Waits for any order but an ack, or for so many orders.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub(super) async fn ready(&self, enough: usize) {
        {
            let mut waiting = lock(&self.waiting);
            let is_ack =
                |order: &ChannelOrder| matches!(order, ChannelOrder::Settle(_, Settlement::Ack));
            if waiting.orders.len() >= enough.max(1) || !waiting.orders.iter().all(is_ack) {
                return;
            }
            waiting.enough = enough.max(1);
        }
        self.bell.notified().await;
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.waiting).orders.is_empty()
    }

    pub(super) fn is_closed(&self) -> bool {
        !self.is_open.load(Ordering::Acquire)
    }

    /// Takes no more orders, and gives those that the channel did not take.
    pub(super) fn close(&self) -> VecDeque<ChannelOrder> {
        let mut waiting = lock(&self.waiting);
        self.is_open.store(false, Ordering::Release);
        std::mem::take(&mut waiting.orders)
    }
}

/// The settlements among orders.
pub(super) fn settlements(
    orders: impl IntoIterator<Item = ChannelOrder>,
) -> impl Iterator<Item = (u64, Settlement)> {
    orders.into_iter().filter_map(|order| match order {
        ChannelOrder::Settle(tag, settlement) => Some((tag, settlement)),
        _ => None,
    })
}

/// Settles the deliveries of one channel incarnation.
///
/// Once the channel is gone, a settlement has no effect on RabbitMQ. It is kept for the next delivery of the message.
#[derive(Debug)]
pub(crate) struct ChannelSettler {
    channel: Arc<ChannelOrders>,
    /// The number of the incarnation.
    number: u64,
    orphans: Arc<Orphans>,
}

impl ChannelSettler {
    pub(super) fn new(channel: Arc<ChannelOrders>, number: u64, orphans: Arc<Orphans>) -> Self {
        Self {
            channel,
            number,
            orphans,
        }
    }

    /// The number of the channel incarnation.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The receipt for the dead letter of a delivery.
    pub(crate) fn receipt(&self, tag: u64) -> DeadLetterReceipt {
        DeadLetterReceipt::new(tag, Arc::clone(&self.channel))
    }
}

impl Settler for ChannelSettler {
    fn settle(&self, tag: u64, settlement: Settlement) {
        let order = ChannelOrder::Settle(tag, settlement);
        if let Err(ChannelOrder::Settle(tag, settlement)) = self.channel.put(order) {
            self.orphans.settle((self.number, tag), settlement);
        }
    }

    fn is_void(&self, _tag: u64) -> bool {
        self.channel.is_closed()
    }

    fn postponing(&self, _: &Message) -> Postponing {
        Postponing::Outbox
    }

    fn waits(&self, tag: u64, waits: bool) {
        let _ = self.channel.put(ChannelOrder::Waits(tag, waits));
    }
}

/// Tells the channel of a delivery that its dead letter is stored. If dropped before, tells it that the dead
/// letter was lost.
#[derive(Debug)]
pub(crate) struct DeadLetterReceipt {
    tag: u64,
    /// `None` once the channel has been told.
    channel: Option<Arc<ChannelOrders>>,
}

impl DeadLetterReceipt {
    fn new(tag: u64, channel: Arc<ChannelOrders>) -> Self {
        let channel = Some(channel);
        Self { tag, channel }
    }

    /// Whether the channel is gone. The broker then delivers the message again.
    pub(crate) fn is_void(&self) -> bool {
        self.channel
            .as_ref()
            .is_none_or(|channel| channel.is_closed())
    }

    pub(crate) fn stored(mut self) {
        self.tell(ChannelOrder::DeadLettered(self.tag));
    }

    /// Tells the channel that the dead letter is stored elsewhere.
    pub(crate) fn moved(mut self) {
        self.tell(ChannelOrder::DeadLetterMoved(self.tag));
    }

    /// Tells the channel, the first time only.
    fn tell(&mut self, order: ChannelOrder) {
        if let Some(channel) = self.channel.take() {
            let _ = channel.put(order);
        }
    }
}

impl Drop for DeadLetterReceipt {
    fn drop(&mut self) {
        self.tell(ChannelOrder::DeadLetterLost(self.tag));
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;

    fn taken(orders: &ChannelOrders) -> Vec<ChannelOrder> {
        let mut taken = VecDeque::new();
        orders.take(&mut taken);
        taken.into()
    }

    fn ack(tag: u64) -> ChannelOrder {
        ChannelOrder::Settle(tag, Settlement::Ack)
    }

    #[test]
    fn a_dead_letter_is_told_once_to_be_stored_or_lost() {
        let orders = Arc::new(ChannelOrders::new());
        DeadLetterReceipt::new(1, Arc::clone(&orders)).stored();
        drop(DeadLetterReceipt::new(2, Arc::clone(&orders)));

        let told = taken(&orders);
        assert!(matches!(
            told[..],
            [
                ChannelOrder::DeadLettered(1),
                ChannelOrder::DeadLetterLost(2)
            ]
        ));
    }

    #[tokio::test]
    async fn the_channel_is_woken_for_enough_acks_and_for_any_other_order() {
        let orders = ChannelOrders::new();
        {
            let mut ready = pin!(orders.ready(3));
            for tag in 1..=2 {
                assert!(poll!(&mut ready).is_pending());
                orders.put(ack(tag)).unwrap();
            }
            assert!(poll!(&mut ready).is_pending());
            orders.put(ack(3)).unwrap();
            assert!(poll!(&mut ready).is_ready());
        }
        assert_eq!(taken(&orders).len(), 3);

        for order in [ChannelOrder::Waits(4, true), ChannelOrder::DeadLettered(4)] {
            let mut ready = pin!(orders.ready(64));
            assert!(poll!(&mut ready).is_pending());
            orders.put(order).unwrap();
            assert!(poll!(&mut ready).is_ready());
            // It came while the channel was at something else.
            assert!(poll!(pin!(orders.ready(64))).is_ready());
            assert_eq!(taken(&orders).len(), 1);
        }
    }

    #[tokio::test]
    async fn a_channel_that_waits_for_fewer_acks_hears_of_those_that_came_before() {
        let orders = ChannelOrders::new();
        assert!(poll!(pin!(orders.ready(64))).is_pending());
        for tag in 1..=5 {
            orders.put(ack(tag)).unwrap();
        }
        assert!(poll!(pin!(orders.ready(6))).is_pending());
        assert!(poll!(pin!(orders.ready(5))).is_ready());
    }

    #[test]
    fn a_closed_channel_gives_what_it_did_not_obey_and_takes_nothing() {
        let orders = ChannelOrders::new();
        orders.put(ack(1)).unwrap();
        orders.put(ChannelOrder::Waits(2, true)).unwrap();

        let left: Vec<_> = settlements(orders.close()).collect();

        assert_eq!(left, [(1, Settlement::Ack)]);
        assert!(matches!(
            orders.put(ack(3)),
            Err(ChannelOrder::Settle(3, _))
        ));
        assert!(orders.is_closed() && orders.is_empty());
    }
}
