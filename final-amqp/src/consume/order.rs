//! What a consuming channel is told: settlements from the bus, and how dead letters ended.

use final_core::broker::{Settlement, Settler};
use tokio::sync::mpsc;

/// What a channel is told from outside.
#[derive(Debug)]
pub(crate) enum ChannelOrder {
    Settle(u64, Settlement),
    /// The dead letter for this tag is stored.
    DeadLettered(u64),
    /// The dead letter for this tag got lost on its way.
    DeadLetterLost(u64),
}

/// Where the deliveries of one channel incarnation are settled. Once the channel is gone nobody
/// receives, and settling is void.
#[derive(Debug)]
pub(crate) struct ChannelSettler(mpsc::UnboundedSender<ChannelOrder>);

impl ChannelSettler {
    pub(crate) fn new(channel: mpsc::UnboundedSender<ChannelOrder>) -> Self {
        Self(channel)
    }

    /// What tells the channel how the dead letter of a delivery ended.
    pub(crate) fn receipt(&self, tag: u64) -> DeadLetterReceipt {
        DeadLetterReceipt::new(tag, self.0.clone())
    }
}

impl Settler for ChannelSettler {
    fn settle(&self, tag: u64, settlement: Settlement) {
        let _ = self.0.send(ChannelOrder::Settle(tag, settlement));
    }
}

/// Tells the channel a dead letter came from that it is stored; dropped before, that it got lost.
#[derive(Debug)]
pub(crate) struct DeadLetterReceipt {
    tag: u64,
    /// Until it has been told.
    channel: Option<mpsc::UnboundedSender<ChannelOrder>>,
}

impl DeadLetterReceipt {
    fn new(tag: u64, channel: mpsc::UnboundedSender<ChannelOrder>) -> Self {
        let channel = Some(channel);
        Self { tag, channel }
    }

    /// Whether nobody waits any more: the channel is gone and the broker delivers again.
    pub(crate) fn is_void(&self) -> bool {
        self.channel
            .as_ref()
            .is_none_or(mpsc::UnboundedSender::is_closed)
    }

    pub(crate) fn stored(mut self) {
        self.tell(ChannelOrder::DeadLettered(self.tag));
    }

    /// Only the first time.
    fn tell(&mut self, order: ChannelOrder) {
        if let Some(channel) = self.channel.take() {
            let _ = channel.send(order);
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
    use super::*;

    #[test]
    fn a_dead_letter_is_told_once_to_be_stored_or_lost() {
        let (sender, mut orders) = mpsc::unbounded_channel();
        DeadLetterReceipt::new(1, sender.clone()).stored();
        drop(DeadLetterReceipt::new(2, sender.clone()));

        assert!(matches!(
            orders.try_recv(),
            Ok(ChannelOrder::DeadLettered(1))
        ));
        assert!(matches!(
            orders.try_recv(),
            Ok(ChannelOrder::DeadLetterLost(2))
        ));
        assert!(orders.try_recv().is_err());
    }
}
