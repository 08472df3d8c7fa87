//! From the bus to the channel: what is to be done with each delivery.
//!
//! Input: orders. Output: what is finished is noted, to be acked soon; dead-letter jobs; requeues.

use final_core::broker::Settlement;

use super::{ConsumingChannel, flight::InFlight};
use crate::{
    consume::{dead_letters::DeadLetterJob, order::ChannelOrder},
    counts::Why,
};

impl ConsumingChannel {
    /// Obeys all orders that were given. Those that it did not come to stay with the channel, for its end.
    pub(super) async fn obey_all(&mut self) -> Result<(), String> {
        if self.taken.is_empty() {
            self.orders.take(&mut self.taken);
        }
        while let Some(order) = self.taken.pop_front() {
            self.obey(order).await?;
        }
        Ok(())
    }

    async fn obey(&mut self, order: ChannelOrder) -> Result<(), String> {
        if let ChannelOrder::Settle(tag, _) = &order
            && let Some(awaits) = self.flight.follows_no_longer(*tag)
        {
            // If the earlier delivery is still open, this one did not wait for it to the end.
            self.intake.orphans.release(awaits);
        }
        match order {
            ChannelOrder::Settle(tag, Settlement::Ack) => {
                let held = self.settle(tag);
                self.finish(tag, held, Why::Handled);
            }
            ChannelOrder::Settle(tag, Settlement::Moved) => {
                let held = self.settle(tag);
                self.finish(tag, held, Why::Moved);
            }
            ChannelOrder::Settle(tag, Settlement::DeadLetter(letter)) => {
                if let Some(InFlight { original, id, .. }) = self.let_go(tag) {
                    self.leaving += 1;
                    let receipt = self.settler.receipt(tag);
                    self.jobs
                        .put(DeadLetterJob::new(original, id, letter, receipt));
                }
            }
            // Also for a settlement that this crate does not know: a requeued message is not lost.
            ChannelOrder::Settle(tag, Settlement::Requeue | _) => {
                if let Some(name) = self.let_go(tag).and_then(|held| held.name) {
                    self.intake.given_back.note(name);
                }
                self.requeue(tag).await?;
            }
            ChannelOrder::Waits(tag, waits) => self.flight.set_waits(tag, waits),
            ChannelOrder::DeadLettered(tag) => {
                self.leaving -= 1;
                self.finish(tag, None, Why::DeadLettered);
            }
            ChannelOrder::DeadLetterMoved(tag) => {
                self.leaving -= 1;
                self.finish(tag, None, Why::Moved);
            }
            ChannelOrder::DeadLetterLost(tag) => {
                self.leaving -= 1;
                self.requeue(tag).await?;
            }
        }
        Ok(())
    }

    /// Takes a delivery out of flight.
    fn settle(&mut self, tag: u64) -> Option<InFlight> {
        let held = self.flight.settle(tag)?;
        self.window.settled();
        Some(held)
    }

    /// The same for one that is not acked now: its siblings need not know it any more.
    fn let_go(&mut self, tag: u64) -> Option<InFlight> {
        let held = self.settle(tag)?;
        self.intake.siblings.settled(held.name);
        Some(held)
    }

    /// Notes that a delivery is finished, so that it is acked soon. Until its ack is written, its siblings know it as in
    /// flight.
    fn finish(&mut self, tag: u64, held: Option<InFlight>, why: Why) {
        self.nameless.finish(tag);
        if self.acks.finish(tag) {
            self.flight.finish(tag, held, why);
        } else if let Some(held) = held {
            self.intake.siblings.settled(held.name);
        }
    }
}
