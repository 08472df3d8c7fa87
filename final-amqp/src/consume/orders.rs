//! What a consuming channel is told: settlements from the bus, and how dead letters ended.

use final_core::broker::{Settlement, Settler};
use tokio::sync::mpsc;

/// What a channel is told from outside.
#[derive(Debug)]
pub(crate) enum Order {
    Settle(u64, Settlement),
    /// The dead letter for this tag is stored.
    PutAway(u64),
    /// The dead letter for this tag got lost on its way.
    Lost(u64),
}

/// Where the deliveries of one channel incarnation are settled. Once the channel is gone nobody
/// receives, and settling is void.
#[derive(Debug)]
pub(crate) struct ChannelSettler(mpsc::UnboundedSender<Order>);

impl ChannelSettler {
    pub(crate) fn new(channel: mpsc::UnboundedSender<Order>) -> Self {
        Self(channel)
    }

    /// What tells the channel how the dead letter of a delivery ended.
    pub(crate) fn done(&self, tag: u64) -> Done {
        Done::new(tag, self.0.clone())
    }
}

impl Settler for ChannelSettler {
    fn settle(&self, tag: u64, settlement: Settlement) {
        let _ = self.0.send(Order::Settle(tag, settlement));
    }
}

/// Tells the channel a dead letter came from that it is stored; dropped before, that it got lost.
#[derive(Debug)]
pub(crate) struct Done {
    tag: u64,
    /// Until it has been told.
    channel: Option<mpsc::UnboundedSender<Order>>,
}

impl Done {
    fn new(tag: u64, channel: mpsc::UnboundedSender<Order>) -> Self {
        let channel = Some(channel);
        Self { tag, channel }
    }

    /// Whether nobody waits any more: the channel is gone and the broker delivers again.
    pub(crate) fn is_void(&self) -> bool {
        self.channel
            .as_ref()
            .is_none_or(mpsc::UnboundedSender::is_closed)
    }

    pub(crate) fn done(mut self) {
        self.tell(Order::PutAway(self.tag));
    }

    /// Only the first time.
    fn tell(&mut self, order: Order) {
        if let Some(channel) = self.channel.take() {
            let _ = channel.send(order);
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        self.tell(Order::Lost(self.tag));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_is_told_once_to_be_stored_or_lost() {
        let (sender, mut orders) = mpsc::unbounded_channel();
        Done::new(1, sender.clone()).done();
        drop(Done::new(2, sender.clone()));

        assert!(matches!(orders.try_recv(), Ok(Order::PutAway(1))));
        assert!(matches!(orders.try_recv(), Ok(Order::Lost(2))));
        assert!(orders.try_recv().is_err());
    }
}
