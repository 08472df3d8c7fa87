//! The orders to a consuming channel: settlements from the bus, and dead letters that are stored or lost.
//!
//! Input: calls of the bus and of the dead-letter tasks. Output: [`ChannelOrder`]s for one incarnation of one
//! channel. Once that has ended, a settlement goes to the orphans.

use std::{collections::HashMap, sync::Arc};

use final_core::{
    Message,
    broker::{Postponing, Settlement, Settler},
};
use tokio::sync::mpsc;

use super::orphans::Orphans;

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

/// Settles the deliveries of one channel incarnation.
///
/// Once the channel is gone, a settlement has no effect on RabbitMQ. It is kept for the next delivery of the message.
#[derive(Debug)]
pub(crate) struct ChannelSettler {
    channel: mpsc::UnboundedSender<ChannelOrder>,
    /// The number of the incarnation.
    number: u64,
    orphans: Arc<Orphans>,
}

impl ChannelSettler {
    pub(super) fn new(
        channel: mpsc::UnboundedSender<ChannelOrder>,
        number: u64,
        orphans: Arc<Orphans>,
    ) -> Self {
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
        DeadLetterReceipt::new(tag, self.channel.clone())
    }
}

/// Takes no more orders of a channel, and gives the settlements among those that it did not obey.
pub(super) fn close(
    orders: &mut mpsc::UnboundedReceiver<ChannelOrder>,
) -> HashMap<u64, Settlement> {
    orders.close();
    let mut settlements = HashMap::new();
    while let Ok(order) = orders.try_recv() {
        if let ChannelOrder::Settle(tag, settlement) = order {
            settlements.insert(tag, settlement);
        }
    }
    settlements
}

impl Settler for ChannelSettler {
    fn settle(&self, tag: u64, settlement: Settlement) {
        let order = ChannelOrder::Settle(tag, settlement);
        if let Err(mpsc::error::SendError(ChannelOrder::Settle(tag, settlement))) =
            self.channel.send(order)
        {
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
        let _ = self.channel.send(ChannelOrder::Waits(tag, waits));
    }
}

/// Tells the channel of a delivery that its dead letter is stored. If dropped before, tells it that the dead
/// letter was lost.
#[derive(Debug)]
pub(crate) struct DeadLetterReceipt {
    tag: u64,
    /// `None` once the channel has been told.
    channel: Option<mpsc::UnboundedSender<ChannelOrder>>,
}

impl DeadLetterReceipt {
    fn new(tag: u64, channel: mpsc::UnboundedSender<ChannelOrder>) -> Self {
        let channel = Some(channel);
        Self { tag, channel }
    }

    /// Whether the channel is gone. The broker then delivers the message again.
    pub(crate) fn is_void(&self) -> bool {
        self.channel
            .as_ref()
            .is_none_or(mpsc::UnboundedSender::is_closed)
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
