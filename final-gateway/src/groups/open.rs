//! A group and topic that is open: clients stand in line for its messages.
//!
//! Input: the broker's deliveries, and clients that take. State: the [`Stock`], and the line. Output: messages to the
//! first in line, settlements to the broker.
//!
//! Only the first in line looks at the broker's channel, so messages stay there until a client wants them. A client
//! that may take nothing does not stand in line.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use final_core::broker::{Delivery, Link, LinkState, Opened};
use tokio::{
    sync::{Mutex as Line, Notify, mpsc},
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    GroupError,
    entry::StockEntry,
    quota::PairUse,
    remaining::Remaining,
    stock::{Stock, StockNews, Taker},
};
use crate::names::Pair;

/// A group and topic with an open broker.
pub(super) struct OpenPair {
    pub(super) pair: Pair,
    pub(super) opened: Instant,
    stock: Mutex<Stock>,
    /// The broker's channel, for the first in line. The lock is given in the order of asking.
    line: Line<mpsc::Receiver<Delivery>>,
    /// The first in line has to look at the stock.
    changed: Notify,
    /// Clients without room have to look again.
    room: Notify,
    /// The times in the stock have changed.
    pub(super) timer: Notify,
    link: Arc<dyn Link>,
    /// The broker has ended the channel, or the pair is closed.
    pub(super) ended: CancellationToken,
    /// The gateway stops.
    stop: CancellationToken,
}

impl OpenPair {
    pub(super) fn new(pair: Pair, opened: Opened, stock: Stock, stop: CancellationToken) -> Self {
        Self {
            pair,
            opened: Instant::now(),
            stock: Mutex::new(stock),
            line: Line::new(opened.deliveries),
            changed: Notify::new(),
            room: Notify::new(),
            timer: Notify::new(),
            link: opened.link,
            ended: CancellationToken::new(),
            stop,
        }
    }

    /// Works on the stock, and does afterwards what it wants done.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Stock) -> T) -> T {
        let (result, mut news) = {
            let mut stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
            (work(&mut stock), stock.take_news())
        };
        for (delivery, settlement) in std::mem::take(&mut news.settled) {
            delivery.settle(settlement);
        }
        if news.has_repeats {
            self.settle_repeats(&mut news);
        }
        if news.has_room {
            self.room.notify_waiters();
        }
        if news.is_ahead {
            self.changed.notify_one();
        }
        if news.is_sooner {
            self.timer.notify_one();
        }
        result
    }

    /// Messages in hand that were delivered again may have been settled, and their repeats with them.
    fn settle_repeats(&self, news: &mut StockNews) {
        let more = {
            let mut stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
            stock.settle_repeats();
            stock.take_news()
        };
        for (delivery, settlement) in more.settled {
            delivery.settle(settlement);
        }
        news.is_ahead |= more.is_ahead;
    }

    /// A client takes, until what this gives is dropped. `None` once the pair closes.
    pub(super) fn enter(self: &Arc<Self>, used: &Arc<PairUse>) -> Option<Presence> {
        self.with(Stock::enter).then(|| Presence {
            open: Arc::clone(self),
            used: Arc::clone(used),
        })
    }

    /// Takes messages for an answer. Waits for the first one until then, and returns nothing if none came or if the next
    /// one does not go into the answer, which is complete then.
    ///
    /// Dropped, it has taken nothing.
    pub(super) async fn take(
        self: &Arc<Self>,
        taker: Taker,
        answer: &mut Remaining,
        until: Instant,
    ) -> Result<Gathered, GroupError> {
        let taken = tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(GroupError::Stopping),
            () = self.ended.cancelled() => Err(self.has_ended()),
            taken = self.wait_and_take(taker, answer, until) => Ok(taken),
        }?;
        if taken.entries.is_empty() && answer.is_empty() && self.is_away() {
            let text = format!("the messages of {} cannot be read now", self.pair);
            return Err(GroupError::Away(text));
        }
        Ok(taken)
    }

    async fn wait_and_take(
        self: &Arc<Self>,
        taker: Taker,
        answer: &mut Remaining,
        until: Instant,
    ) -> Gathered {
        let nothing = Gathered::new(self, taker, Vec::new());
        loop {
            let mut has_room = std::pin::pin!(self.room.notified());
            has_room.as_mut().enable();
            if !self.with(|stock| stock.has_room(taker)) {
                match timeout_at(until, has_room).await {
                    Ok(()) => continue,
                    Err(_) => return nothing,
                }
            }
            // Without the wait for a turn where there is no time to wait: a lot may ask for what is there.
            let mut line = match self.line.try_lock() {
                Ok(line) => line,
                Err(_) => match timeout_at(until, self.line.lock()).await {
                    Ok(line) => line,
                    Err(_) => return nothing,
                },
            };
            while self.with(|stock| stock.has_room(taker)) {
                let entries = self.with(|stock| stock.take(taker, answer, || line.try_recv().ok()));
                // The next in line looks before it waits, so it needs no word of what is left.
                if !entries.is_empty() || !answer.is_open() {
                    return Gathered::new(self, taker, entries);
                }
                tokio::select! {
                    biased;
                    () = self.changed.notified() => {}
                    delivery = line.recv() => match delivery {
                        Some(delivery) => self.with(|stock| stock.arrive(delivery)),
                        None => {
                            self.ended.cancel();
                            return nothing;
                        }
                    },
                    () = sleep_until(until) => return nothing,
                }
            }
        }
    }

    fn has_ended(&self) -> GroupError {
        let text = self
            .link
            .trouble()
            .unwrap_or_else(|| format!("the broker delivers {} no longer; ask again", self.pair));
        GroupError::Away(text)
    }

    /// Whether the broker cannot be reached now.
    fn is_away(&self) -> bool {
        *self.link.state().borrow() == LinkState::Away
    }

    /// Whether messages wait for a client.
    pub(super) fn has_waiting(&self) -> bool {
        self.with(|stock| stock.has_waiting())
            || self.line.try_lock().is_ok_and(|line| !line.is_empty())
    }

    /// Gives everything back, and closes the link.
    ///
    /// The link itself gives back what is not settled, all at once. One settlement for each message could keep RabbitMQ
    /// from hearing of the acks before.
    pub(super) async fn close(&self, limit: Duration) {
        self.with(|stock| stock.close(false, Instant::now()));
        self.ended.cancel();
        self.link.stop_consuming(limit).await;
        self.link.finish_consuming(limit).await;
        self.with(Stock::give_all_back);
        self.link.close(limit).await;
        // Everybody in line has gone, because the pair has ended.
        let mut line = self.line.lock().await;
        line.close();
        while line.try_recv().is_ok() {}
    }
}

impl fmt::Debug for OpenPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenPair")
            .field("pair", &self.pair)
            .finish_non_exhaustive()
    }
}

/// A client that takes.
#[derive(Debug)]
pub(super) struct Presence {
    pub(super) open: Arc<OpenPair>,
    /// Counts the pair as used by its app.
    pub(super) used: Arc<PairUse>,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.open.with(|stock| stock.leave(Instant::now()));
    }
}

/// Messages on their way into an answer. Dropped, they are as if they had not been taken.
#[derive(Debug)]
pub(super) struct Gathered {
    open: Arc<OpenPair>,
    taker: Taker,
    entries: Vec<StockEntry>,
}

impl Gathered {
    fn new(open: &Arc<OpenPair>, taker: Taker, entries: Vec<StockEntry>) -> Self {
        Self {
            open: Arc::clone(open),
            taker,
            entries,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn open(&self) -> &Arc<OpenPair> {
        &self.open
    }

    /// Puts those behind these. Both have to be for the same client.
    pub(super) fn append(&mut self, mut more: Self) {
        self.entries.append(&mut more.entries);
    }

    /// The messages, for their client.
    pub(super) fn into_entries(mut self) -> Vec<StockEntry> {
        std::mem::take(&mut self.entries)
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        if !self.entries.is_empty() {
            let entries = std::mem::take(&mut self.entries);
            self.open.with(|stock| stock.put_back(self.taker, entries));
        }
    }
}
