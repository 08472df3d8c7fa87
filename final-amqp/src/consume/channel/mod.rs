//! One consuming channel.
//!
//! Input: messages from RabbitMQ, and [`ChannelOrder`](super::order::ChannelOrder)s. State: the deliveries without an
//! answer ([`Flight`]), the acks that it owes, and the window of the consumer. Output: a [`Delivery`] for each message;
//! acks, requeues and dead-letter jobs for what is settled; another consumer where another window is wanted.
//!
//! ```text
//!  feed ──▶ arrive ──▶ Delivery          orders ──▶ obey ──▶ answer: acks, requeues
//!                 └──▶ Flight ◀────────────────────┘ └──▶ dead-letter jobs
//!                         └── the channel ends ──▶ orphans
//! ```

mod alarm;
mod answer;
mod arrive;
mod flight;
mod obey;

use std::{collections::VecDeque, pin::pin, sync::Arc, time::Duration};

use final_core::broker::{Delivery, Settlement};
use lapin::{Channel, Connection};
use tokio::{
    select,
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};

use self::{alarm::Alarm, arrive::likeness, flight::Flight};
use super::{
    Intake,
    acks::Acks,
    dead_letters::DeadLetterJobs,
    feed::Feed,
    nameless::IdsInFlight,
    order::{ChannelOrder, ChannelOrders, ChannelSettler, settlements},
    orphans::LeftBehind,
    overdue,
    window::{Change, Window},
};
use crate::{
    connection::{close_channel, open_channel},
    declare::Declare,
};

/// How long a finished delivery may wait, to be acked together with others.
const GATHER: Duration = Duration::from_millis(3);
/// How many finished deliveries are acked without waiting; fewer if the window is small.
const ENOUGH: usize = 64;
/// After the last delivery RabbitMQ gets no more acks than [`FEW`] in such a time. A quorum queue keeps acks
/// back while 32 wait to be written, and forgets those when the channel closes: it would deliver their
/// messages again.
const GATHER_AT_END: Duration = Duration::from_millis(50);
/// See [`GATHER_AT_END`].
const FEW: usize = 16;
/// How long acks are kept back, so that nothing is on its way to a consumer when another one replaces it.
const KEEP_BACK: Duration = Duration::from_millis(50);
/// How many deliveries are taken before the channel turns to something else.
const MANY: usize = 64;
/// How often the channel looks whether it is still there.
const LOOK: Duration = Duration::from_millis(250);

/// A channel and its deliveries in flight.
pub(crate) struct ConsumingChannel {
    channel: Channel,
    feed: Feed,
    window: Window,
    /// The tag from which on deliveries are those of the present consumer.
    first: u64,
    /// The change of the window that acks are kept back for, and until when.
    change: Option<(Change, Instant)>,
    orders: Arc<ChannelOrders>,
    /// Orders that were taken and not obeyed yet.
    taken: VecDeque<ChannelOrder>,
    settler: Arc<ChannelSettler>,
    acks: Acks,
    flight: Flight,
    intake: Arc<Intake>,
    /// The ids that this process made for deliveries in flight.
    nameless: IdsInFlight,
    /// How many deliveries wait for their dead letter to be stored.
    leaving: usize,
    jobs: DeadLetterJobs,
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
        let orders = Arc::new(ChannelOrders::new());
        let (number, orphans) = (intake.next_channel(), Arc::clone(&intake.orphans));
        let settler = ChannelSettler::new(Arc::clone(&orders), number, orphans);
        Ok(Self {
            channel,
            feed,
            window,
            first: 1,
            change: None,
            orders,
            taken: VecDeque::new(),
            settler: Arc::new(settler),
            acks: Acks::new(),
            flight: Flight::default(),
            intake: Arc::clone(intake),
            nameless: IdsInFlight::default(),
            leaving: 0,
            jobs,
        })
    }

    /// Delivers and settles until the channel ends or the intake is finished. The broker then requeues what
    /// is still in flight.
    pub(crate) async fn run(mut self) -> Result<(), String> {
        let outcome = self.serve().await;
        // What was not read comes again as well.
        while let Some(Ok(delivery)) = self.feed.ready() {
            drop(self.arrive(delivery));
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
        let mut left = Vec::new();
        for (tag, held, is_done) in self.flight.leave() {
            siblings.settled(held.name);
            if let Some(name) = held.name {
                given_back.note(name);
            }
            let awaits = self.flight.follows_no_longer(tag);
            if let Some(id) = held.id {
                left.push(LeftBehind {
                    tag,
                    likeness: likeness(&held.original, id),
                    awaits,
                    settled: is_done.then_some(Settlement::Ack),
                });
            }
        }
        let (orders, taken) = (&self.orders, self.taken.drain(..));
        let close = || settlements(taken.chain(orders.close())).collect();
        let number = self.settler.number();
        self.intake.orphans.adopt(number, close, left);
    }

    /// Says which message was in flight for too long, if the channel ended for that.
    fn warn_if_overdue(&self, why: &str) {
        if !overdue::is_reason(why) {
            return;
        }
        // RabbitMQ looks at the oldest delivery only.
        if let Some(held) = self.flight.oldest() {
            let service = &self.intake.topology.service;
            overdue::warn(service, &held.original, held.id, held.since, why);
        }
    }

    async fn serve(&mut self) -> Result<(), String> {
        let intake = Arc::clone(&self.intake);
        let orders = Arc::clone(&self.orders);
        let mut taking = intake.deliveries();
        let mut bus_is_gone = false;
        // Made once: each has a place in a list with a lock.
        let mut aborted = pin!(intake.abort.cancelled());
        let mut stopped = pin!(intake.stop.cancelled());
        let mut finishing = pin!(intake.finish.cancelled());
        let mut flush = Alarm::new();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.obey_all().await?;
            if taking.is_some() && (bus_is_gone || intake.stop.is_cancelled()) {
                (taking, self.change) = (None, None);
                self.take_no_more().await?;
            }
            if taking.is_some() {
                let kept_back = self.change.is_some();
                self.adjust()?;
                if kept_back && self.change.is_none() {
                    flush.set(Some(Instant::now()));
                }
            }
            let is_ending = taking.is_none();
            let enough = self.enough();
            if let Some((_, until)) = self.change {
                flush.set(Some(until));
            } else if self.acks.finished() == 0 {
                flush.set(None);
            } else if self.acks.finished() >= enough && !is_ending {
                self.flush_some().await?;
                flush.set(None);
                continue;
            } else if !flush.is_set() {
                let gather = if is_ending { GATHER_AT_END } else { GATHER };
                flush.set(Some(Instant::now() + gather));
            }
            // What is still to be acked goes a few at a time, as its alarm rings.
            let is_done = orders.is_empty() && self.leaving == 0 && self.acks.finished() == 0;
            if intake.finish.is_cancelled() && is_done {
                return Ok(());
            }
            // The first of them sets the alarm; the others need not wake this task before it.
            let more = match flush.is_set() {
                true => enough.saturating_sub(self.acks.finished()),
                false => 1,
            };
            select! {
                biased;
                () = &mut aborted => return self.flush().await,
                () = orders.ready(more) => {}
                () = flush.rings(), if flush.is_set() => {
                    flush.set(None);
                    self.obey_all().await?;
                    if is_ending {
                        let few = self.acks.flush_few(FEW);
                        self.ack(few).await?;
                    } else {
                        self.flush().await?;
                    }
                }
                () = &mut stopped, if taking.is_some() => {}
                () = &mut finishing, if !intake.finish.is_cancelled() => {}
                next = next(&mut self.feed, taking.as_ref()), if taking.is_some() => match next {
                    Ok((delivery, permit)) => self.take(delivery, permit, taking.as_ref())?,
                    Err(Ended::Consumer(why)) => return Err(why),
                    Err(Ended::Bus) => bus_is_gone = true,
                },
                _ = looks.tick() => {
                    intake.orphans.end_waits(Instant::now());
                    if !self.channel.status().connected() {
                        return Err("the channel was closed".into());
                    }
                }
            }
        }
    }

    /// How many finished deliveries are acked without waiting. With a small window the broker must not wait for
    /// the rest of it to be handled.
    fn enough(&self) -> usize {
        ENOUGH.min(usize::from(self.window.size()).div_ceil(2))
    }

    /// Replaces the consumer if another window is wanted.
    ///
    /// A quorum queue counts a return for each message that was on its way to a cancelled consumer. So a consumer is
    /// replaced only when its window is used up, and no ack tells RabbitMQ otherwise.
    fn adjust(&mut self) -> Result<(), String> {
        if !self.feed.is_settled() {
            return Ok(());
        }
        let now = Instant::now();
        let unanswered = self.acks.unanswered(self.first);
        let in_flight = self.flight.len() + self.leaving;
        let waiting = self.flight.waiting() + self.leaving;
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
        if self.window.is_used_up(unanswered) {
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
