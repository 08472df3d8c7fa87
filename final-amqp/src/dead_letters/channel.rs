//! One channel that consumes the dead-letter queue.
//!
//! Input: deliveries, and which of them the bus has stored. State: the deliveries in flight. Output: letters for the
//! bus; acks for what is stored. Nothing is given back one by one, because a queue counts that: what is not stored
//! goes back together, when the channel ends.
//!
//! ```text
//! open ─▶ consuming ── stop ──▶ ending: no more deliveries ── finish ──▶ acks are written, closed
//!              └ the bus wants none, or has dropped one ──▶ closed, and opened again later
//! ```

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use final_core::broker::{LetterDelivery, LetterSettler};
use lapin::{Channel, Connection, options::BasicAckOptions};
use tokio::{
    select,
    sync::{mpsc, watch},
    time::{Duration, Instant, sleep},
};
use uuid::Uuid;

use super::{
    Collecting, LetterOutlet,
    letter::{RawLetter, returns},
    renewal::{OFTEN, WornLetter},
};
use crate::{
    code,
    connection::{close_channel, open_channel},
    consume::{acks::Acks, feed::Feed},
    deadline::{CALL_LIMIT, within},
    error::{reply_code, told},
    lock::lock,
    names,
};

/// How many letters are in flight at most.
pub(super) const WINDOW: u16 = 50;

/// How often letters that the database refuses are passed over, if no others fit in beside them.
const PASSING: Duration = Duration::from_secs(60);

/// How many letters that come again are told apart by their number.
const COUNTED: usize = 1_000;

/// How many settlements are carried out at once.
const MANY: usize = 64;

/// What the bus tells of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LetterNews {
    /// It is stored.
    Stored,
    /// It is dropped, and has to come again.
    Dropped,
    /// The database refuses it, and the bus tries again later.
    Refused,
}

/// Where the bus tells what it has stored.
#[derive(Debug)]
struct LetterTags {
    sender: mpsc::UnboundedSender<(u64, LetterNews)>,
    is_gone: AtomicBool,
    /// Letters whose place a copy has taken.
    renewed: Mutex<HashSet<u64>>,
}

impl LetterSettler for LetterTags {
    fn stored(&self, tag: u64) {
        // Without a receiver the channel is gone.
        let _ = self.sender.send((tag, LetterNews::Stored));
    }

    fn dropped(&self, tag: u64) {
        let _ = self.sender.send((tag, LetterNews::Dropped));
    }

    fn refused(&self, tag: u64) {
        let _ = self.sender.send((tag, LetterNews::Refused));
    }

    fn is_void(&self, tag: u64) -> bool {
        self.is_gone.load(Ordering::Acquire) || lock(&self.renewed).contains(&tag)
    }
}

/// Why a channel ended.
#[derive(Debug)]
pub(super) enum ChannelEnd {
    /// All is done.
    Finished,
    /// The bus wants no letters now.
    Unwanted,
    /// Something does not work.
    Broken(String),
}

/// A channel and its deliveries in flight.
pub(super) struct LetterChannel {
    channel: Channel,
    feed: Feed,
    acks: Acks,
    settler: Arc<LetterTags>,
    news: mpsc::UnboundedReceiver<(u64, LetterNews)>,
    in_flight: usize,
    /// Letters that the bus has no room for yet.
    waiting: VecDeque<LetterDelivery>,
    /// How many equal letters have come again.
    repeated: HashMap<Uuid, u32>,
    /// For each letter in flight what its copy would be, and whether RabbitMQ has taken the letter back often.
    copies: HashMap<u64, (WornLetter, bool)>,
    /// The letters in flight that the database refuses, in the order in which it did.
    refused: VecDeque<u64>,
    /// When letters were passed over last.
    passed: Option<Instant>,
}

impl LetterChannel {
    /// Opens a channel and consumes on it.
    pub(super) async fn open(
        connection: &Connection,
        collecting: &Collecting,
    ) -> Result<Self, String> {
        let topology = &collecting.topology;
        let queue = names::dead_letter_queue(&topology.queue);
        let explained = |error| match reply_code(&error) {
            Some(code::ACCESS_REFUSED) => {
                format!(
                    "{error}; give the user the right to read `{queue}`, or collect no dead letters"
                )
            }
            _ => format!("consuming {queue:?}: {}", told(&error)),
        };
        let channel = open_channel(connection).await.map_err(explained)?;
        let feed = Feed::open(&channel, &topology.service, &queue, WINDOW).await;
        let (sender, news) = mpsc::unbounded_channel();
        let settler = LetterTags {
            sender,
            is_gone: AtomicBool::new(false),
            renewed: Mutex::default(),
        };
        Ok(Self {
            feed: feed.map_err(explained)?,
            channel,
            acks: Acks::new(),
            settler: Arc::new(settler),
            news,
            in_flight: 0,
            waiting: VecDeque::new(),
            repeated: HashMap::new(),
            copies: HashMap::new(),
            refused: VecDeque::new(),
            passed: None,
        })
    }

    /// Gives letters to the bus and acks them until the channel ends.
    pub(super) async fn run(
        mut self,
        collecting: &Collecting,
        outlet: &mut LetterOutlet,
        connection: &Connection,
    ) -> ChannelEnd {
        let end = self.serve(collecting, outlet, connection).await;
        // From here on the broker delivers again what is in flight.
        self.settler.is_gone.store(true, Ordering::Release);
        close_channel(&self.channel).await;
        end
    }

    async fn serve(
        &mut self,
        collecting: &Collecting,
        outlet: &mut LetterOutlet,
        connection: &Connection,
    ) -> ChannelEnd {
        let mut is_taking = true;
        let mut news = Vec::new();
        loop {
            if is_taking && collecting.stop.is_cancelled() {
                is_taking = false;
                for delivery in self.feed.end().await {
                    self.take(collecting, delivery);
                }
            }
            if !is_taking && self.waiting.is_empty() {
                // The bus sees the end of the stream.
                outlet.end();
                if self.in_flight == 0 {
                    return ChannelEnd::Finished;
                }
            }
            select! {
                biased;
                () = collecting.abort.cancelled() => return ChannelEnd::Finished,
                1.. = self.news.recv_many(&mut news, MANY) => {
                    self.renew(&news, collecting, connection).await;
                    self.pass_over(collecting, connection).await;
                    if let Err(why) = self.settle(&mut news, collecting).await {
                        return ChannelEnd::Broken(why);
                    }
                }
                () = collecting.finish.cancelled() => return ChannelEnd::Finished,
                () = collecting.stop.cancelled(), if is_taking => {}
                () = unwanted(&mut outlet.wanted), if is_taking => return ChannelEnd::Unwanted,
                permit = room(outlet.sender.as_ref()), if !self.waiting.is_empty() => match permit {
                    Some(permit) => {
                        if let Some(letter) = self.waiting.pop_front() {
                            permit.send(letter);
                        }
                    }
                    None => return ChannelEnd::Finished,
                },
                delivery = self.feed.next(), if is_taking => match delivery {
                    Ok(delivery) => self.take(collecting, delivery),
                    Err(why) => return ChannelEnd::Broken(why),
                },
                () = sleep(Duration::from_millis(500)) => {
                    if !self.channel.status().connected() {
                        return ChannelEnd::Broken("the channel was closed".to_owned());
                    }
                    self.pass_over(collecting, connection).await;
                    if let Err(why) = self.settle(&mut news, collecting).await {
                        return ChannelEnd::Broken(why);
                    }
                }
            }
        }
    }

    /// Reads a delivery, and notes it as in flight.
    fn take(&mut self, collecting: &Collecting, delivery: lapin::message::Delivery) {
        let tag = delivery.delivery_tag;
        let raw = RawLetter {
            properties: delivery.properties,
            exchange: delivery.exchange,
            routing_key: delivery.routing_key,
            payload: Bytes::from(delivery.data),
        };
        let topology = &collecting.topology;
        let raw = raw.restored(&topology.queue);
        let is_worn = returns(&raw.properties) >= OFTEN;
        self.copies.insert(tag, (WornLetter::new(&raw), is_worn));
        let is_cut = raw.is_cut();
        let letter = raw.read(&topology.queue, &topology.topics);
        if is_cut {
            tracing::warn!(
                target: "final::amqp",
                service = &*topology.service,
                id = %letter.id,
                "a dead letter is collected without some of its headers, which do not fit into a frame"
            );
        }
        let repeated = delivery.redelivered.then(|| {
            if self.repeated.len() >= COUNTED {
                self.repeated.clear();
            }
            let equal = self.repeated.entry(letter.identity).or_insert(0);
            *equal += 1;
            *equal - 1
        });
        self.acks.delivered(tag);
        self.in_flight += 1;
        let settler = Arc::<LetterTags>::clone(&self.settler);
        let letter = LetterDelivery::new(letter, tag, repeated, settler);
        self.waiting.push_back(letter);
    }

    /// Puts copies into the queue of refused letters that RabbitMQ has taken back often, and that it would drop soon.
    async fn renew(
        &mut self,
        news: &[(u64, LetterNews)],
        collecting: &Collecting,
        connection: &Connection,
    ) {
        let refused = news.iter().filter(|(_, news)| *news == LetterNews::Refused);
        let mut worn = Vec::new();
        for (tag, _) in refused {
            match self.copies.get(tag) {
                Some((_, true)) => worn.push(*tag),
                Some((_, false)) if !self.refused.contains(tag) => self.refused.push_back(*tag),
                _ => {}
            }
        }
        self.take_their_places(&worn, collecting, connection).await;
    }

    /// Puts copies of refused letters to the end of the queue, if there are so many that no other letter would come.
    async fn pass_over(&mut self, collecting: &Collecting, connection: &Connection) {
        let window = usize::from(WINDOW);
        let is_early = self.passed.is_some_and(|at| at.elapsed() < PASSING);
        if self.refused.len() < window || is_early {
            return;
        }
        self.passed = Some(Instant::now());
        tracing::warn!(
            target: "final::amqp",
            service = &*collecting.topology.service,
            letters = window / 2,
            "so many dead letters cannot be stored that no others would be collected; some of them go to the end of \
             their queue"
        );
        let oldest: Vec<u64> = self.refused.iter().take(window / 2).copied().collect();
        self.take_their_places(&oldest, collecting, connection)
            .await;
    }

    /// Puts copies of letters into their queue, and forgets the letters.
    async fn take_their_places(
        &mut self,
        tags: &[u64],
        collecting: &Collecting,
        connection: &Connection,
    ) {
        for tag in tags {
            let Some((worn, is_worn)) = self.copies.get(tag) else {
                continue;
            };
            let is_worn = *is_worn;
            let queue = names::dead_letter_queue(&collecting.topology.queue);
            let renewed = match names::short(&queue) {
                Ok(queue) => worn.renew(connection, queue).await,
                Err(error) => Err(error.to_string()),
            };
            let service = &*collecting.topology.service;
            if let Err(reason) = renewed {
                if !is_worn {
                    tracing::warn!(
                        target: "final::amqp",
                        service, reason,
                        "a dead letter that cannot be stored cannot go to the end of its queue"
                    );
                    continue;
                }
                tracing::warn!(
                    target: "final::amqp",
                    service, reason,
                    "a dead letter that cannot be stored nears the delivery limit of its queue, and cannot be renewed"
                );
                continue;
            }
            if is_worn {
                tracing::info!(
                    target: "final::amqp",
                    service,
                    "a dead letter that cannot be stored was renewed in its queue, so that it does not reach the delivery limit"
                );
            }
            lock(&self.settler.renewed).insert(*tag);
            self.finish(*tag);
        }
    }

    /// Notes that a delivery can be acked.
    fn finish(&mut self, tag: u64) {
        self.copies.remove(&tag);
        self.refused.retain(|refused| *refused != tag);
        if self.acks.finish(tag) {
            self.in_flight -= 1;
        }
    }

    /// Acks what is stored.
    ///
    /// # Errors
    ///
    /// Fails if the channel does, or if the bus has dropped a letter, which has to come again.
    async fn settle(
        &mut self,
        news: &mut Vec<(u64, LetterNews)>,
        collecting: &Collecting,
    ) -> Result<(), String> {
        let mut is_dropped = false;
        for (tag, news) in news.drain(..) {
            // The bus drops what a copy has taken the place of.
            is_dropped |= news == LetterNews::Dropped && !self.settler.is_void(tag);
            if news == LetterNews::Stored {
                self.finish(tag);
            }
        }
        for ack in self.acks.flush() {
            let options = BasicAckOptions {
                multiple: ack.multiple,
            };
            let acked = self.channel.basic_ack(ack.tag, options);
            within(CALL_LIMIT, acked)
                .await
                .map_err(|error| error.to_string())?;
        }
        // At a shutdown the channel ends anyway.
        match is_dropped && !collecting.stop.is_cancelled() {
            true => Err("the bus has dropped a dead letter, which comes again".to_owned()),
            false => Ok(()),
        }
    }
}

/// Waits until the bus wants no letters.
async fn unwanted(wanted: &mut watch::Receiver<bool>) {
    // An error means that the bus is gone.
    let _ = wanted.wait_for(|wanted| !wanted).await;
}

/// Room for a letter. `None` once the bus takes none any more.
async fn room(
    letters: Option<&mpsc::Sender<LetterDelivery>>,
) -> Option<mpsc::Permit<'_, LetterDelivery>> {
    letters?.reserve().await.ok()
}
