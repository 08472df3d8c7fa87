//! One consuming channel.
//!
//! Input: messages from RabbitMQ, and [`ChannelOrder`]s. State: the deliveries in flight, and the window of the
//! consumer. Output: a [`Delivery`] for each message; acks, requeues and dead-letter jobs for what is settled;
//! another consumer where another window is wanted.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use final_core::{
    MessageId,
    broker::{Delivery, Settlement},
};
use futures::future::join_all;
use lapin::{
    Channel, Connection,
    options::{BasicAckOptions, BasicNackOptions},
};
use tokio::{
    select,
    sync::mpsc,
    time::{Instant, sleep_until},
};
use uuid::Uuid;

use super::{
    Intake,
    acks::{Ack, Acks},
    dead_letters::{DeadLetterJob, DeadLetterJobs},
    feed::Feed,
    nameless::IdsInFlight,
    order::{ChannelOrder, ChannelSettler, close},
    orphans::{DeliveryNumber, LeftBehind, Likeness},
    overdue,
    window::{Change, Window},
};
use crate::{
    connection::{close_channel, open_channel},
    counts::{Finished, Why},
    deadline::{CALL_LIMIT, within},
    declare::Declare,
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
/// How long acks are kept back, so that nothing is on its way to a consumer when another one replaces it.
const KEEP_BACK: Duration = Duration::from_millis(50);
/// How many deliveries or settlements are handled before the channel turns to the other kind.
const MANY: usize = 64;

/// A channel and its deliveries in flight.
pub(crate) struct ConsumingChannel {
    channel: Channel,
    feed: Feed,
    window: Window,
    /// The tag from which on deliveries are those of the present consumer.
    first: u64,
    /// The change of the window that acks are kept back for, and until when.
    change: Option<(Change, Instant)>,
    orders: mpsc::UnboundedReceiver<ChannelOrder>,
    settler: Arc<ChannelSettler>,
    acks: Acks,
    in_flight: HashMap<u64, InFlight>,
    /// Those that are settled, and whose ack is not written.
    unwritten: Vec<(u64, InFlight)>,
    /// For each delivery in flight that waits for an earlier one of its message: the earlier one.
    later: HashMap<u64, DeliveryNumber>,
    intake: Arc<Intake>,
    /// How many deliveries in flight wait for something other than a handler.
    waiting: usize,
    /// The ids that this process made for deliveries in flight.
    nameless: IdsInFlight,
    /// How many deliveries wait for their dead letter to be stored.
    leaving: usize,
    /// What is finished and not acked.
    finished: Finished,
    jobs: DeadLetterJobs,
}

/// A delivery in flight.
struct InFlight {
    /// What it was, for its dead letter. Its message shares it.
    original: Arc<Original>,
    /// Its message's id, and whether the producer gave it. `None` if it is no message.
    id: Option<(MessageId, bool)>,
    /// What names its message in this process and the next time it comes.
    name: Option<Uuid>,
    /// When it came.
    since: Instant,
    /// Whether it waits for something other than a handler.
    waits: bool,
}

impl ConsumingChannel {
    /// Opens a channel and consumes on it.
    pub(crate) async fn open(
        connection: &Connection,
        intake: &Arc<Intake>,
        jobs: DeadLetterJobs,
    ) -> lapin::Result<Self> {
        let channel = open_channel(connection).await?;
        let topology = &intake.topology;
        let window = match topology.declare {
            Declare::All => Window::new,
            Declare::Missing | Declare::Nothing => Window::fixed,
        };
        let window = window(intake.prefetch, intake.handlers, Instant::now());
        let feed = Feed::open(&channel, &topology.service, &topology.queue, window.size()).await?;
        let (sender, orders) = mpsc::unbounded_channel();
        let orphans = Arc::clone(&intake.orphans);
        let settler = ChannelSettler::new(sender, intake.next_channel(), orphans);
        Ok(Self {
            channel,
            feed,
            window,
            first: 1,
            change: None,
            orders,
            settler: Arc::new(settler),
            acks: Acks::new(),
            in_flight: HashMap::new(),
            unwritten: Vec::new(),
            later: HashMap::new(),
            intake: Arc::clone(intake),
            waiting: 0,
            nameless: IdsInFlight::default(),
            leaving: 0,
            finished: Finished::default(),
            jobs,
        })
    }

    /// Delivers and settles until the channel ends or the intake is finished. The broker then requeues what
    /// is still in flight.
    pub(crate) async fn run(mut self, intake: &Intake) -> Result<(), String> {
        let outcome = self.serve(intake).await;
        // What was not read comes again as well.
        while let Some(Ok(delivery)) = self.feed.ready() {
            drop(self.take(intake, delivery));
        }
        if let Err(why) = &outcome {
            self.warn_if_overdue(why);
        }
        self.end(outcome.is_err());
        close_channel(&self.channel).await;
        outcome
    }

    /// Leaves what is in flight to the orphans, and the ids that were made here to the next channel.
    fn end(&mut self, was_lost: bool) {
        self.nameless.end(&self.intake.nameless, was_lost);
        let (siblings, given_back) = (&self.intake.siblings, &self.intake.given_back);
        let in_flight = self.in_flight.drain().map(|(tag, held)| (tag, held, None));
        let unwritten = self.unwritten.drain(..);
        let unwritten = unwritten.map(|(tag, held)| (tag, held, Some(Settlement::Ack)));
        let left = in_flight
            .chain(unwritten)
            .filter_map(|(tag, held, settled)| {
                if settled.is_none() {
                    siblings.settled(held.name);
                }
                if let Some(name) = held.name {
                    given_back.note(name);
                }
                Some(LeftBehind {
                    tag,
                    likeness: likeness(&held.original, held.id?),
                    earlier: self.later.remove(&tag),
                    settled,
                })
            });
        let left = left.collect();
        let orphans = &self.intake.orphans;
        orphans.adopt(self.settler.number(), || close(&mut self.orders), left);
    }

    /// Says which message was in flight for too long, if the channel ended for that.
    fn warn_if_overdue(&self, why: &str) {
        if !overdue::is_reason(why) {
            return;
        }
        // RabbitMQ looks at the oldest delivery only.
        let oldest = self.in_flight.iter().min_by_key(|(tag, _)| **tag);
        if let Some((_, held)) = oldest {
            let service = &self.intake.topology.service;
            overdue::warn(service, &held.original, held.id, held.since, why);
        }
    }

    async fn serve(&mut self, intake: &Intake) -> Result<(), String> {
        let mut taking = intake.deliveries();
        let mut flush_at: Option<Instant> = None;
        let mut bus_is_gone = false;
        let mut orders = Vec::new();
        loop {
            if taking.is_some() && (bus_is_gone || intake.stop.is_cancelled()) {
                (taking, self.change) = (None, None);
                self.take_no_more().await?;
            }
            if taking.is_some() {
                let kept_back = self.change.is_some();
                self.adjust()?;
                if kept_back && self.change.is_none() {
                    flush_at = Some(Instant::now());
                }
            }
            let is_ending = taking.is_none();
            if let Some((_, until)) = self.change {
                flush_at = Some(until);
            } else if self.acks.finished() == 0 {
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
                next = next(&mut self.feed, taking.as_ref()), if taking.is_some() => match next {
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
        let mut name = None;
        let content = decode(&original).map(|message| {
            if message.is_identified() {
                name = Some(message.id().0);
                return message;
            }
            let looks = fingerprint(&original);
            name = Some(looks);
            let id = intake.nameless.id(looks, original.redelivered);
            self.nameless.take(tag, looks, id);
            message.with_id_of_ours(id)
        });
        let id = content.as_ref().ok();
        let id = id.map(|message| (message.id(), message.is_identified()));
        let is_suspect =
            original.redelivered && name.is_some_and(|name| !intake.given_back.take(name));
        self.acks.delivered(tag);
        let delivery = Delivery::new(content, tag, Arc::<ChannelSettler>::clone(&self.settler));
        let delivery = match id {
            Some(id) if original.redelivered => {
                self.find_earlier(delivery, tag, &original, id, name)
            }
            _ => delivery,
        };
        intake.siblings.delivered(name);
        let now = Instant::now();
        let held = InFlight {
            original,
            id,
            name,
            since: now,
            waits: false,
        };
        self.in_flight.insert(tag, held);
        self.window.delivered(is_suspect, now);
        delivery.suspected(is_suspect)
    }

    /// Looks for an earlier delivery of a message that comes again.
    fn find_earlier(
        &mut self,
        delivery: Delivery,
        tag: u64,
        original: &Original,
        id: (MessageId, bool),
        name: Option<Uuid>,
    ) -> Delivery {
        let orphans = &self.intake.orphans;
        if !orphans.is_empty()
            && let Some((earlier, settlement)) = orphans.find(likeness(original, id))
        {
            self.later.insert(tag, earlier);
            return delivery.after(settlement);
        }
        // The channel of the earlier one may have ended, and this process does not know it yet.
        if self.intake.siblings.have(name) {
            return delivery.after(orphans.expect(likeness(original, id)));
        }
        delivery
    }

    /// Replaces the consumer if another window is wanted.
    ///
    /// A quorum queue counts a return for each message that was on its way to a cancelled consumer. So a consumer is
    /// replaced when its window is used up, and no ack tells RabbitMQ otherwise; or when nothing is in flight.
    fn adjust(&mut self) -> Result<(), String> {
        if !self.feed.is_settled() {
            return Ok(());
        }
        let now = Instant::now();
        let unanswered = self.acks.unanswered(self.first);
        let in_flight = self.in_flight.len() + self.leaving;
        let waiting = self.waiting + self.leaving;
        let wanted = match self.change.take() {
            Some(wanted) => Some(wanted),
            None => {
                let change = self.window.change(unanswered, in_flight, waiting, now);
                change.map(|change| (change, now + KEEP_BACK))
            }
        };
        let Some((change, until)) = wanted else {
            return Ok(());
        };
        if unanswered == 0 || unanswered >= usize::from(self.window.size()) {
            self.first = self.acks.next();
            let size = self.window.changed(change, now);
            return self.feed.replace(size).map_err(|error| error.to_string());
        }
        if !change.can_wait {
            match now < until {
                true => self.change = Some((change, until)),
                false => self.window.stays(now),
            }
        }
        Ok(())
    }

    /// Takes a delivery out of flight.
    fn settle(&mut self, tag: u64) -> Option<InFlight> {
        let held = self.in_flight.remove(&tag)?;
        self.intake.siblings.settled(held.name);
        self.waiting -= usize::from(held.waits);
        self.window.settled();
        Some(held)
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
            match self.feed.ready() {
                Some(delivery) => permit.send(self.take(intake, delivery?)),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    async fn obey(&mut self, intake: &Intake, order: ChannelOrder) -> Result<(), String> {
        if !self.later.is_empty()
            && let ChannelOrder::Settle(tag, _) = &order
            && let Some(earlier) = self.later.remove(tag)
        {
            // If the earlier delivery is still open, this one did not wait for it to the end.
            intake.orphans.release(earlier);
        }
        match order {
            ChannelOrder::Settle(tag, Settlement::Ack) => {
                let held = self.settle(tag);
                self.unwritten.extend(held.map(|held| (tag, held)));
                self.finish(tag, Why::Handled);
            }
            ChannelOrder::Settle(tag, Settlement::Moved) => {
                let held = self.settle(tag);
                self.unwritten.extend(held.map(|held| (tag, held)));
                self.finish(tag, Why::Moved);
            }
            ChannelOrder::Settle(tag, Settlement::DeadLetter(letter)) => {
                if let Some(InFlight { original, id, .. }) = self.settle(tag) {
                    self.leaving += 1;
                    let receipt = self.settler.receipt(tag);
                    self.jobs
                        .put(DeadLetterJob::new(original, id, letter, receipt));
                }
            }
            // Also for a settlement that this crate does not know: a requeued message is not lost.
            ChannelOrder::Settle(tag, Settlement::Requeue | _) => {
                if let Some(name) = self.settle(tag).and_then(|held| held.name) {
                    intake.given_back.note(name);
                }
                self.requeue(intake, tag).await?;
            }
            ChannelOrder::Waits(tag, waits) => {
                if let Some(held) = self.in_flight.get_mut(&tag) {
                    self.waiting -= usize::from(held.waits);
                    self.waiting += usize::from(waits);
                    held.waits = waits;
                }
            }
            ChannelOrder::DeadLettered(tag) => {
                self.leaving -= 1;
                self.finish(tag, Why::DeadLettered);
            }
            ChannelOrder::DeadLetterMoved(tag) => {
                self.leaving -= 1;
                self.finish(tag, Why::Moved);
            }
            ChannelOrder::DeadLetterLost(tag) => {
                self.leaving -= 1;
                self.requeue(intake, tag).await?;
            }
        }
        Ok(())
    }

    /// Notes that a delivery is finished, so that it is acked soon.
    fn finish(&mut self, tag: u64, why: Why) {
        self.nameless.finish(tag);
        if self.acks.finish(tag) {
            self.finished.add(why);
        }
    }

    /// Requeues a delivery.
    async fn requeue(&mut self, intake: &Intake, tag: u64) -> Result<(), String> {
        // Before the broker can deliver it again.
        self.nameless.requeue(&intake.nameless, tag);
        self.requeue_unread(tag).await
    }

    /// Requeues a delivery. The bus may not have it yet.
    async fn requeue_unread(&mut self, tag: u64) -> Result<(), String> {
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

    async fn ack(&mut self, acks: impl IntoIterator<Item = Ack>) -> Result<(), String> {
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
        if self.acks.finished() == 0 {
            self.unwritten.clear();
        } else {
            let acks = &self.acks;
            self.unwritten.retain(|(tag, _)| acks.is_finished(*tag));
        }
        self.finished
            .acked(self.acks.finished(), &self.intake.way.counts);
        Ok(())
    }

    /// Tells the broker to deliver no more, and requeues what it has sent. A quorum queue of RabbitMQ 4.3 counts
    /// no delivery then; what is in flight when the channel closes counts everywhere.
    async fn take_no_more(&mut self) -> Result<(), String> {
        for delivery in self.feed.end().await {
            let tag = delivery.delivery_tag;
            self.acks.delivered(tag);
            self.requeue_unread(tag).await?;
        }
        Ok(())
    }
}

/// Also where the task is aborted.
impl Drop for ConsumingChannel {
    fn drop(&mut self) {
        if !self.orders.is_closed() {
            self.end(true);
        }
    }
}

/// What tells a delivery's message from others.
fn likeness(original: &Original, (id, identified): (MessageId, bool)) -> Likeness {
    Likeness {
        looks: fingerprint(original),
        id,
        identified,
    }
}

/// Why no more deliveries come.
enum Ended {
    Consumer(String),
    /// The bus has dropped its end of the stream.
    Bus,
}

/// Waits for room first, so that a delivery is never lost between the consumer and the bus.
async fn next<'a>(
    feed: &mut Feed,
    taking: Option<&'a mpsc::Sender<Delivery>>,
) -> Result<(lapin::message::Delivery, mpsc::Permit<'a, Delivery>), Ended> {
    let taking = taking.ok_or(Ended::Bus)?;
    let permit = taking.reserve().await.map_err(|_| Ended::Bus)?;
    let delivery = feed.next().await.map_err(Ended::Consumer)?;
    Ok((delivery, permit))
}

async fn until(at: Option<Instant>) {
    if let Some(at) = at {
        sleep_until(at).await;
    }
}
