//! The queue of messages that wait for the next transaction.
//!
//! Input: messages of all connections. State: the messages in their order, and the room that is left, in messages and in
//! bytes. Output: lots for the committer.
//!
//! ```text
//!   put ─ check ─ room in bytes ─ place in the channel ─▶ [ … ] ─ lot ─▶ committer ─▶ answered: the room is free again
//!     └ refused      └───── waits for it, `patience` at most: Busy
//! ```

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use final_core::{Message, broker::Place};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{PublishError, Publisher, told};

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueLimits {
    /// The payload of one message.
    pub(crate) max_message_bytes: usize,
    /// So many messages.
    pub(crate) messages: usize,
    /// So many bytes, with those of the transaction that is under way.
    pub(crate) bytes: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            max_message_bytes: 1_000_000,
            messages: 16_384,
            bytes: 64 * 1024 * 1024,
        }
    }
}

/// What a message takes beside its bytes.
const FIXED: usize = 512;

type Answer = Result<Option<Place>, PublishError>;

/// A message in the queue, and who waits for it. Dropped without an answer, its waiter hears that nothing is known.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) message: Message,
    pub(super) wants_place: bool,
    /// Its bytes, as the queue counts them.
    pub(super) weight: usize,
    answer: oneshot::Sender<Answer>,
    /// Free when the message is answered.
    _room: OwnedSemaphorePermit,
}

impl Ticket {
    pub(super) fn answer(self, counts: &Counts, answer: Answer) {
        let counter = match &answer {
            Ok(_) => &counts.published,
            Err(PublishError::Refused(_)) => &counts.refused,
            Err(PublishError::Unknown) => &counts.unknown,
            Err(_) => &counts.away,
        };
        counter.fetch_add(1, Relaxed);
        // A client that went away does not wait for it.
        let _ = self.answer.send(answer);
    }
}

/// Counters of a queue.
#[derive(Debug, Default)]
pub(super) struct Counts {
    published: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
    away: AtomicU64,
    busy: AtomicU64,
    pub(super) transactions: AtomicU64,
}

/// What a queue has counted, and what waits in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishStats {
    /// Messages that were committed.
    pub published: u64,
    /// Messages that were refused for what they are.
    pub refused: u64,
    /// Messages whose COMMIT was not answered.
    pub unknown: u64,
    /// Messages that were not written, because the database was away or the gateway was stopping.
    pub away: u64,
    /// Messages for which there was no room in time.
    pub busy: u64,
    /// Transactions that were committed.
    pub transactions: u64,
    /// Messages that wait now.
    pub waiting: u64,
}

/// The way into the queue.
pub(super) struct Queue {
    limits: QueueLimits,
    tickets: mpsc::Sender<Ticket>,
    room: Arc<Semaphore>,
    counts: Arc<Counts>,
}

/// The way out of the queue.
pub(super) struct Tickets {
    pub(super) tickets: mpsc::Receiver<Ticket>,
    room: Arc<Semaphore>,
    pub(super) counts: Arc<Counts>,
}

/// A queue, and its end.
pub(super) fn queue(limits: QueueLimits) -> (Publisher, Tickets) {
    let (sender, tickets) = mpsc::channel(limits.messages.max(1));
    let limits = QueueLimits {
        // The semaphore's own limit is far higher on 64 bits.
        bytes: limits
            .bytes
            .clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize)),
        ..limits
    };
    let room = Arc::new(Semaphore::new(limits.bytes));
    let counts = Arc::new(Counts::default());
    let queue = Queue {
        limits,
        tickets: sender,
        room: Arc::clone(&room),
        counts: Arc::clone(&counts),
    };
    let publisher = Publisher {
        queue: Arc::new(queue),
    };
    (
        publisher,
        Tickets {
            tickets,
            room,
            counts,
        },
    )
}

impl Queue {
    /// Puts a message into the queue. What it returns hears the answer.
    pub(super) async fn put(
        &self,
        message: Message,
        wants_place: bool,
        patience: Duration,
    ) -> Result<oneshot::Receiver<Answer>, PublishError> {
        if let Err(error) = message.check(self.limits.max_message_bytes) {
            self.counts.refused.fetch_add(1, Relaxed);
            return Err(PublishError::Refused(told(&error)));
        }
        let weight = weight(&message).min(self.limits.bytes);
        let placed = async {
            let permits = u32::try_from(weight).unwrap_or(u32::MAX);
            let room = Arc::clone(&self.room).acquire_many_owned(permits).await;
            let room = room.map_err(|_| PublishError::Stopping)?;
            let place = self.tickets.reserve().await;
            Ok((room, place.map_err(|_| PublishError::Stopping)?))
        };
        let Ok(placed) = timeout(patience, placed).await else {
            self.counts.busy.fetch_add(1, Relaxed);
            return Err(PublishError::Busy);
        };
        let (room, place) = placed?;
        let (answer, answered) = oneshot::channel();
        place.send(Ticket {
            message,
            wants_place,
            weight,
            answer,
            _room: room,
        });
        Ok(answered)
    }

    pub(super) fn stats(&self) -> PublishStats {
        let Counts {
            published,
            refused,
            unknown,
            away,
            busy,
            transactions,
        } = &*self.counts;
        let waiting = self.tickets.max_capacity() - self.tickets.capacity();
        PublishStats {
            published: published.load(Relaxed),
            refused: refused.load(Relaxed),
            unknown: unknown.load(Relaxed),
            away: away.load(Relaxed),
            busy: busy.load(Relaxed),
            transactions: transactions.load(Relaxed),
            waiting: waiting.try_into().unwrap_or(u64::MAX),
        }
    }
}

impl Tickets {
    /// Takes nothing new: those that wait for room hear that the gateway stops.
    pub(super) fn close(&mut self) {
        self.room.close();
        self.tickets.close();
    }
}

/// The bytes of a message in memory, roughly.
fn weight(message: &Message) -> usize {
    let headers = message.headers().iter();
    let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
    message.payload().len() + headers + message.key().map_or(0, str::len) + FIXED
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("limits", &self.limits)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
