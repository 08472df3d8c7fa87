//! What RabbitMQ is told about deliveries.
//!
//! Input: finished and requeued deliveries. Output: acks, as few as possible, and nacks; and the counts of what was
//! acked.

use futures::future::join_all;
use lapin::options::{BasicAckOptions, BasicNackOptions};

use super::ConsumingChannel;
use crate::{
    consume::acks::Ack,
    deadline::{CALL_LIMIT, within},
};

impl ConsumingChannel {
    /// Acks the finished prefix, and the rest as well if too many are left.
    pub(super) async fn flush_some(&mut self) -> Result<(), String> {
        let prefix = self.acks.flush_prefix();
        if self.acks.finished() >= self.enough() {
            let rest = self.acks.flush();
            return self.ack(prefix.into_iter().chain(rest)).await;
        }
        self.ack(prefix).await
    }

    /// Acks what is finished.
    pub(super) async fn flush(&mut self) -> Result<(), String> {
        let acks = self.acks.flush();
        self.ack(acks).await
    }

    pub(super) async fn ack(&mut self, acks: impl IntoIterator<Item = Ack>) -> Result<(), String> {
        let channel = &self.channel;
        let acks = acks.into_iter().map(|ack| {
            let options = BasicAckOptions {
                multiple: ack.multiple,
            };
            channel.basic_ack(ack.tag, options)
        });
        // They are polled in order, so they are written in order.
        let written = async {
            join_all(acks)
                .await
                .into_iter()
                .collect::<lapin::Result<()>>()
        };
        within(CALL_LIMIT, written)
            .await
            .map_err(|error| error.to_string())?;
        let acked = self.flight.written(&self.acks, &self.intake.siblings);
        self.intake.way.counts.acked(acked);
        Ok(())
    }

    /// Requeues a delivery.
    pub(super) async fn requeue(&mut self, tag: u64) -> Result<(), String> {
        // Before the broker can deliver it again.
        self.nameless.requeue(&self.intake.nameless, tag);
        self.requeue_unread(tag).await
    }

    /// Requeues a delivery. The bus may not have it yet.
    pub(super) async fn requeue_unread(&mut self, tag: u64) -> Result<(), String> {
        if !self.acks.requeue(tag) {
            return Ok(());
        }
        let options = BasicNackOptions {
            requeue: true,
            multiple: false,
        };
        within(CALL_LIMIT, self.channel.basic_nack(tag, options))
            .await
            .map_err(|error| error.to_string())
    }
}
