//! One consuming channel.
//!
//! Input: messages from RabbitMQ, and [`ChannelOrder`]s. State: the deliveries in flight. Output: a
//! [`Delivery`] for each message; acks, requeues and dead-letter jobs for what is settled.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use final_core::{
    MessageId,
    broker::{Delivery, Settlement},
};
use futures::{FutureExt, StreamExt, future::join_all};
use lapin::{
    Channel, Connection, Consumer,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
    },
    types::FieldTable,
};
use tokio::{
    select,
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    Intake,
    acks::{Ack, Acks},
    dead_letters::{DeadLetterJob, DeadLetterJobs},
    nameless::IdsInFlight,
    order::{ChannelOrder, ChannelSettler},
};
use crate::{
    connection::{close_channel, open_channel},
    deadline::{CALL_LIMIT, within},
    names,
    properties::{Original, decode, fingerprint},
};

/// How long a finished delivery may wait, to be acked together with others.
const GATHER: Duration = Duration::from_millis(3);
/// How many finished deliveries are acked without waiting.
const ENOUGH: usize = 64;
/// After the last delivery RabbitMQ gets no more acks than [`FEW`] in such a time. A quorum queue keeps acks
/// back while 32 wait to be written, and forgets those when the channel closes: it would deliver their
/// messages again.
const GATHER_AT_END: Duration = Duration::from_millis(50);
/// See [`GATHER_AT_END`].
const FEW: usize = 16;
/// How many deliveries or settlements are handled before the channel turns to the other kind.
const MANY: usize = 64;

/// A channel and its deliveries in flight.
pub(crate) struct ConsumingChannel {
    channel: Channel,
    consumer: Consumer,
    orders: mpsc::UnboundedReceiver<ChannelOrder>,
    settler: Arc<ChannelSettler>,
    acks: Acks,
    /// What each delivery in flight was, for its dead letter. Its message shares it.
    in_flight: HashMap<u64, OriginalInFlight>,
    /// The ids that this process made for deliveries in flight.
    nameless: IdsInFlight,
    /// How many deliveries wait for their dead letter to be stored.
    leaving: usize,
    jobs: DeadLetterJobs,
}

/// A delivery, and its message's id with whether the producer gave it; no id if it is no message.
type OriginalInFlight = (Arc<Original>, Option<(MessageId, bool)>);

impl ConsumingChannel {
    /// Opens a channel and consumes on it.
    pub(crate) async fn open(
        connection: &Connection,
        intake: &Intake,
        jobs: DeadLetterJobs,
    ) -> lapin::Result<Self> {
        let channel = open_channel(connection).await?;
        let qos = channel.basic_qos(intake.prefetch, BasicQosOptions::default());
        within(CALL_LIMIT, qos).await?;
        let short = |text: &str| {
            names::short(text).map_err(|error| lapin::Error::from(std::io::Error::other(error)))
        };
        // A tag made by the server would be another one after every reconnect.
        let tag = format!("{}-{:016x}", intake.topology.service, fastrand::u64(..));
        let consume = channel.basic_consume(
            short(&intake.topology.queue)?,
            short(&tag)?,
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = within(CALL_LIMIT, consume).await?;
        let (sender, orders) = mpsc::unbounded_channel();
        Ok(Self {
            channel,
            consumer,
            orders,
            settler: Arc::new(ChannelSettler::new(sender)),
            acks: Acks::new(),
            in_flight: HashMap::new(),
            nameless: IdsInFlight::default(),
            leaving: 0,
            jobs,
        })
    }

    /// Delivers and settles until the channel ends or the intake is finished. The broker then requeues what
    /// is still in flight.
    pub(crate) async fn run(mut self, intake: &Intake) -> Result<(), String> {
        let outcome = self.serve(intake).await;
        self.nameless.end(&intake.nameless, outcome.is_err());
        close_channel(&self.channel).await;
        outcome
    }

    async fn serve(&mut self, intake: &Intake) -> Result<(), String> {
        let mut taking = intake.deliveries();
        let mut flush_at: Option<Instant> = None;
        let mut bus_is_gone = false;
        let mut orders = Vec::new();
        loop {
            if taking.is_some() && (bus_is_gone || intake.stop.is_cancelled()) {
                taking = None;
                self.cancel().await;
            }
            let is_ending = taking.is_none();
            if self.acks.finished() == 0 {
                flush_at = None;
            } else if self.acks.finished() >= ENOUGH && !is_ending {
                self.flush_some().await?;
                flush_at = None;
                continue;
            } else if flush_at.is_none() {
                let gather = if is_ending { GATHER_AT_END } else { GATHER };
                flush_at = Some(Instant::now() + gather);
            }
            if intake.finish.is_cancelled() && self.orders.is_empty() && self.leaving == 0 {
                return self.flush().await;
            }
            select! {
                biased;
                () = intake.abort.cancelled() => return self.flush().await,
                // It never ends: the settler holds a sender.
                1.. = self.orders.recv_many(&mut orders, MANY) => {
                    for order in orders.drain(..) {
                        self.obey(intake, order).await?;
                    }
                }
                () = until(flush_at), if flush_at.is_some() => {
                    flush_at = None;
                    if is_ending {
                        let few = self.acks.flush_few(FEW);
                        self.ack(few).await?;
                    } else {
                        self.flush().await?;
                    }
                }
                () = intake.stop.cancelled(), if taking.is_some() => {}
                () = intake.finish.cancelled(), if !intake.finish.is_cancelled() => {}
                next = next(&mut self.consumer, taking.as_ref()), if taking.is_some() => match next {
                    Ok((delivery, permit)) => {
                        permit.send(self.take(intake, delivery));
                        self.take_more(intake, taking.as_ref())?;
                    }
                    Err(Ended::Consumer(why)) => return Err(why),
                    Err(Ended::Bus) => bus_is_gone = true,
                },
                () = tokio::time::sleep(Duration::from_millis(250)) => {
                    if !self.channel.status().connected() {
                        return Err("the channel was closed".into());
                    }
                }
            }
        }
    }

    /// Takes a delivery and notes it as in flight.
    fn take(&mut self, intake: &Intake, delivery: lapin::message::Delivery) -> Delivery {
        let tag = delivery.delivery_tag;
        let original = Arc::new(Original::new(
            delivery.properties,
            delivery.exchange,
            delivery.routing_key,
            delivery.redelivered,
            Bytes::from(delivery.data),
            &intake.topology.topics,
        ));
        let content = decode(&original).map(|message| {
            if message.is_identified() {
                return message;
            }
            let looks = fingerprint(&original);
            let id = intake.nameless.id(looks, original.redelivered);
            self.nameless.take(tag, looks, id);
            message.with_id_of_ours(id)
        });
        let id = content.as_ref().ok();
        let id = id.map(|message| (message.id(), message.is_identified()));
        self.acks.delivered(tag);
        self.in_flight.insert(tag, (original, id));
        Delivery::new(content, tag, Arc::<ChannelSettler>::clone(&self.settler))
    }

    /// Takes the other deliveries that have arrived. Under load they arrive together, and each wait costs.
    fn take_more(
        &mut self,
        intake: &Intake,
        taking: Option<&mpsc::Sender<Delivery>>,
    ) -> Result<(), String> {
        let Some(taking) = taking else { return Ok(()) };
        for _ in 0..MANY {
            let Ok(permit) = taking.try_reserve() else {
                return Ok(());
            };
            match self.consumer.next().now_or_never() {
                Some(Some(Ok(delivery))) => permit.send(self.take(intake, delivery)),
                Some(Some(Err(error))) => return Err(error.to_string()),
                // The stream ends once. Polled again, it would wait for ever.
                Some(None) => return Err(ENDED.into()),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    async fn obey(&mut self, intake: &Intake, order: ChannelOrder) -> Result<(), String> {
        match order {
            ChannelOrder::Settle(tag, Settlement::Ack) => {
                self.in_flight.remove(&tag);
                self.nameless.finish(tag);
                self.acks.finish(tag);
            }
            ChannelOrder::Settle(tag, Settlement::DeadLetter(letter)) => {
                if let Some((original, id)) = self.in_flight.remove(&tag) {
                    self.leaving += 1;
                    let receipt = self.settler.receipt(tag);
                    self.jobs
                        .put(DeadLetterJob::new(original, id, letter, receipt));
                }
            }
            // Also for a settlement that this crate does not know: a requeued message is not lost.
            ChannelOrder::Settle(tag, Settlement::Requeue | _) => {
                self.in_flight.remove(&tag);
                self.requeue(intake, tag).await?;
            }
            ChannelOrder::DeadLettered(tag) => {
                self.leaving -= 1;
                self.nameless.finish(tag);
                self.acks.finish(tag);
            }
            ChannelOrder::DeadLetterLost(tag) => {
                self.leaving -= 1;
                self.requeue(intake, tag).await?;
            }
        }
        Ok(())
    }

    /// Requeues a delivery.
    async fn requeue(&mut self, intake: &Intake, tag: u64) -> Result<(), String> {
        // Before the broker can deliver it again.
        self.nameless.requeue(&intake.nameless, tag);
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

    /// Acks the finished prefix, and the rest as well if too many are left.
    async fn flush_some(&mut self) -> Result<(), String> {
        let prefix = self.acks.flush_prefix();
        if self.acks.finished() >= ENOUGH {
            let rest = self.acks.flush();
            return self.ack(prefix.into_iter().chain(rest)).await;
        }
        self.ack(prefix).await
    }

    /// Acks what is finished.
    async fn flush(&mut self) -> Result<(), String> {
        let acks = self.acks.flush();
        self.ack(acks).await
    }

    async fn ack(&self, acks: impl IntoIterator<Item = Ack>) -> Result<(), String> {
        let channel = &self.channel;
        let acks = acks.into_iter().map(|ack| {
            let options = BasicAckOptions {
                multiple: ack.multiple,
            };
            channel.basic_ack(ack.tag, options)
        });
        // They are polled in order, so they are written in order.
        let written = async { join_all(acks).await.into_iter().collect() };
        within(CALL_LIMIT, written)
            .await
            .map_err(|error| error.to_string())
    }

    /// Tells the broker to deliver no more. What it has sent is requeued when the channel closes.
    async fn cancel(&self) {
        let cancel = self
            .channel
            .basic_cancel(self.consumer.tag(), BasicCancelOptions::default());
        // If this fails, the channel has ended, and the loop notices that.
        let _ = within(Duration::from_secs(2), cancel).await;
    }
}

/// The reason if the broker cancels the consumer.
const ENDED: &str = "the broker ended the consumer; was the queue deleted?";

/// Why no more deliveries come.
enum Ended {
    Consumer(String),
    /// The bus has dropped its end of the stream.
    Bus,
}

/// Waits for room first, so that a delivery is never lost between the consumer and the bus.
async fn next<'a>(
    consumer: &mut Consumer,
    taking: Option<&'a mpsc::Sender<Delivery>>,
) -> Result<(lapin::message::Delivery, mpsc::Permit<'a, Delivery>), Ended> {
    let taking = taking.ok_or(Ended::Bus)?;
    let permit = taking.reserve().await.map_err(|_| Ended::Bus)?;
    match consumer.next().await {
        Some(Ok(delivery)) => Ok((delivery, permit)),
        Some(Err(error)) => Err(Ended::Consumer(error.to_string())),
        None => Err(Ended::Consumer(ENDED.into())),
    }
}

async fn until(at: Option<Instant>) {
    if let Some(at) = at {
        sleep_until(at).await;
    }
}
