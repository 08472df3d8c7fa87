//! All messages of a group and topic that are on this node and not settled.
//!
//! Input: deliveries; what clients take, settle and give back; the time. State: below. Output: entries for clients, and
//! [`StockNews`]: settlements for the broker, and whom to wake. Pure: it waits for nothing.
//!
//! ```text
//!   delivery ─▶ ahead ─ take ─▶ on its way ─┬─▶ a connection's hand ─ commit ─▶ ack
//!                ▲  ▲                       └─▶ pulled ─ ack ─────────────────▶ ack
//!                │  └── due ── later ◀─ nack with delay ─┤
//!                └── connection ended, deadline passed ──┤
//!                                                        └─ given out too often ─▶ dead letter
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use final_core::broker::{Cause, Delivery, Postponement, Settlement};
use tokio::{
    sync::oneshot::{Receiver, error::TryRecvError},
    time::Instant,
};

use super::{
    GroupOptions,
    attempts::Attempts,
    budget::{Amount, HandBudget},
    counts::GroupCounts,
    entry::{Sign, StockEntry},
    hand::ConnectionHand,
    pulled::{Lent, PulledMessages},
    remaining::Remaining,
};

/// A message waits here for so long. For longer it goes to the broker, which costs two statements more.
const SHORT: Duration = Duration::from_secs(5);
/// The longest wait here.
const LONGEST: Duration = Duration::from_secs(900);

/// For so long a connection with nothing in hand counts as a client, after it has last taken or committed. A connection that
/// only lives would keep messages from other nodes for ever.
const QUIET: Duration = Duration::from_secs(60);

/// What will be the settlement of an earlier delivery of the same message.
type EarlierSettlement = Receiver<Settlement>;

/// For whom messages are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taker {
    /// A connection, by its number.
    Holder(u64),
    /// A pull.
    Pull,
}

/// What is to be done once the lock is released.
#[derive(Debug, Default)]
pub(super) struct StockNews {
    /// Settlements for the broker.
    pub(super) settled: Vec<(Delivery, Settlement)>,
    /// Clients that wait for room may look again.
    pub(super) has_room: bool,
    /// A message waits. The first in line does not know of it.
    pub(super) is_ahead: bool,
    /// The next time is sooner than the one that was told.
    pub(super) is_sooner: bool,
    /// Messages in hand were delivered again, and wait for what becomes of these.
    pub(super) has_repeats: bool,
}

/// The messages, and how many clients there are.
#[derive(Debug)]
pub(super) struct Stock {
    group: Arc<str>,
    max_deliveries: u32,
    most_later: usize,
    longest: Duration,
    fresh: Duration,
    attempts: Arc<Attempts>,
    counts: Arc<GroupCounts>,
    budget: HandBudget,
    /// The number of the next delivery.
    next_order: u64,
    /// Messages for the next client, before those of the broker's channel.
    ahead: BTreeMap<u64, StockEntry>,
    /// Repeats of messages that are in hand, each with what will be the settlement of that one.
    repeats: Vec<(EarlierSettlement, StockEntry)>,
    /// Messages that wait for the end of a delay.
    later: BTreeMap<(Instant, u64), StockEntry>,
    hands: HashMap<u64, ConnectionHand>,
    pulled: PulledMessages,
    /// Until when nothing is to be done, as it was told last.
    told: Option<Instant>,
    /// Clients that take now.
    clients: usize,
    /// Since when no client takes, nothing pulled is in hand, and nothing waits for a time.
    idle_since: Instant,
    /// Nothing is given out any more.
    is_closed: bool,
    /// The broker has everything again, and gets at once what comes back.
    is_over: bool,
    news: StockNews,
}

impl Stock {
    pub(super) fn new(
        group: Arc<str>,
        options: &GroupOptions,
        attempts: Arc<Attempts>,
        counts: Arc<GroupCounts>,
        now: Instant,
    ) -> Self {
        Self {
            group,
            max_deliveries: options.max_deliveries.max(1),
            most_later: (options.in_hand / 2).max(1),
            longest: options.most_delay.min(LONGEST),
            fresh: options.fresh,
            attempts,
            counts,
            budget: HandBudget::new(options.in_hand, options.in_hand_bytes),
            next_order: 0,
            ahead: BTreeMap::new(),
            repeats: Vec::new(),
            later: BTreeMap::new(),
            hands: HashMap::new(),
            pulled: PulledMessages::default(),
            told: None,
            clients: 0,
            idle_since: now,
            is_closed: false,
            is_over: false,
            news: StockNews::default(),
        }
    }

    /// Takes what is to be done.
    pub(super) fn take_news(&mut self) -> StockNews {
        let mut news = std::mem::take(&mut self.news);
        news.has_repeats = !self.repeats.is_empty();
        news
    }

    /// A client begins to take. False if nothing is given out any more.
    pub(super) fn enter(&mut self) -> bool {
        self.clients += usize::from(!self.is_closed);
        !self.is_closed
    }

    /// A client has taken, or has given up.
    pub(super) fn leave(&mut self, now: Instant) {
        self.clients = self.clients.saturating_sub(1);
        self.idle_from(now);
    }

    /// A connection comes.
    pub(super) fn begin(&mut self, holder: u64, now: Instant) {
        let hand = self.hands.entry(holder).or_default();
        hand.seen = Some(now);
    }

    /// A connection takes or commits.
    pub(super) fn saw(&mut self, holder: u64, now: Instant) {
        if let Some(hand) = self.hands.get_mut(&holder) {
            hand.seen = Some(now);
        }
    }

    /// A connection has ended. All that it has in hand goes back. If the gateway ended it, that is no failure.
    pub(super) fn end(&mut self, holder: u64, by_gateway: bool, now: Instant) {
        if let Some(mut hand) = self.hands.remove(&holder) {
            let entries = hand.take_all();
            match by_gateway {
                true => self.put_back(Taker::Holder(holder), entries),
                false => {
                    let reason = "its connection ended before it was committed";
                    self.came_back(entries, reason, Sign::None);
                }
            }
        }
        self.idle_from(now);
    }

    /// Whether a client may take another message.
    pub(super) fn has_room(&self, taker: Taker) -> bool {
        let own = match taker {
            Taker::Holder(number) => Some(self.hand_amount(number)),
            Taker::Pull => None,
        };
        self.budget.allows(own)
    }

    /// Takes messages for an answer: those that wait here first, then `more` of the broker's channel. They count as in
    /// hand from then on.
    pub(super) fn take(
        &mut self,
        taker: Taker,
        answer: &mut Remaining,
        mut more: impl FnMut() -> Option<Delivery>,
    ) -> Vec<StockEntry> {
        let mut taken = Vec::new();
        while answer.is_open() && !self.is_closed && self.has_room(taker) {
            let waiting = self.ahead.pop_first().map(|(_, entry)| entry);
            let entry = match waiting {
                Some(entry) => entry,
                None => match more() {
                    Some(delivery) => match self.read(delivery) {
                        Some(entry) => entry,
                        None => continue,
                    },
                    None => break,
                },
            };
            if entry.is_void() || self.is_old(&entry) {
                self.forget(entry);
                continue;
            }
            if !answer.add(&entry) {
                self.ahead.insert(entry.order, entry);
                break;
            }
            self.count(taker, |amount| amount.add(entry.bytes));
            taken.push(entry);
        }
        taken
    }

    /// Takes a delivery that came while a client waited.
    pub(super) fn arrive(&mut self, delivery: Delivery) {
        if let Some(entry) = self.read(delivery) {
            self.ahead.insert(entry.order, entry);
        }
    }

    /// Reads a delivery. `None` if it is not to be given out: it is no message, or its message is in hand.
    fn read(&mut self, mut delivery: Delivery) -> Option<StockEntry> {
        let order = self.next_order;
        self.next_order += 1;
        let earlier = delivery.take_earlier();
        match StockEntry::new(delivery, order) {
            Ok(mut entry) => {
                let known = self.attempts.take(&self.group, entry.message.id());
                entry.failed_before(known);
                if let Some(earlier) = earlier {
                    self.repeats.push((earlier, entry));
                    return None;
                }
                Some(entry)
            }
            Err((delivery, why)) => {
                self.counts.dead_lettered.add_one();
                let cause = Cause::new(why, 0);
                self.settle(delivery, Settlement::DeadLetter(cause));
                None
            }
        }
    }

    /// Settles repeats whose message was settled since, in the same way. One whose message came back is given out in its
    /// place.
    pub(super) fn settle_repeats(&mut self) {
        for (mut earlier, mut entry) in std::mem::take(&mut self.repeats) {
            match earlier.try_recv() {
                Err(TryRecvError::Empty) => self.repeats.push((earlier, entry)),
                Ok(Settlement::Requeue) | Err(TryRecvError::Closed) => {
                    let known = self.attempts.take(&self.group, entry.message.id());
                    entry.failed_before(known);
                    self.wait_ahead(entry);
                }
                Ok(settlement) => self.settle(entry.into_delivery(), settlement),
            }
        }
    }

    /// Puts messages back as if they had not been given out.
    pub(super) fn put_back(&mut self, taker: Taker, entries: Vec<StockEntry>) {
        for entry in entries {
            self.count(taker, |amount| amount.remove(entry.bytes));
            self.wait_ahead(entry);
        }
        self.news.has_room = true;
    }

    /// Gives messages that were taken to a connection.
    pub(super) fn hold(
        &mut self,
        holder: u64,
        entries: impl Iterator<Item = (StockEntry, i64)>,
        now: Instant,
    ) {
        let hand = self.hands.entry(holder).or_default();
        hand.seen = Some(now);
        for (entry, offset) in entries {
            hand.put(entry, offset, now);
            self.counts.given_out.add_one();
        }
    }

    /// Gives a message that was taken to a client, until the deadline.
    pub(super) fn lend(&mut self, tag: u64, lent: Lent) {
        let deadline = lent.times.deadline;
        self.pulled.put(tag, lent);
        self.counts.given_out.add_one();
        self.due_at(deadline);
    }

    /// Settles what a connection has in hand of a partition, up to an offset.
    pub(super) fn commit(&mut self, holder: u64, partition: i32, offset: i64) {
        let hand = self.hands.get_mut(&holder);
        let entries = hand.map_or_else(Vec::new, |hand| hand.commit(partition, offset));
        for entry in entries {
            self.count(Taker::Holder(holder), |amount| amount.remove(entry.bytes));
            self.ack(entry);
        }
    }

    /// Settles one message that a connection has in hand.
    pub(super) fn skip(&mut self, holder: u64, partition: i32, offset: i64) {
        let hand = self.hands.get_mut(&holder);
        if let Some(entry) = hand.and_then(|hand| hand.take(partition, offset)) {
            self.count(Taker::Holder(holder), |amount| amount.remove(entry.bytes));
            self.ack(entry);
        }
    }

    /// Takes from connections what they have had in hand since before then.
    pub(super) fn reclaim(&mut self, since: Instant) {
        let mut all = Vec::new();
        for hand in self.hands.values_mut() {
            let entries = hand.take_older(since);
            for entry in &entries {
                hand.amount.remove(entry.bytes);
            }
            all.extend(entries);
        }
        if !all.is_empty() {
            self.came_back(all, "its connection did not commit it in time", Sign::None);
        }
    }

    /// Settles a pulled message. False if it is not in hand, or if the broker delivers it again all the same.
    pub(super) fn ack_pulled(&mut self, tag: u64, now: Instant) -> bool {
        let Some(entry) = self.pulled.take(tag) else {
            return false;
        };
        self.budget.out.remove(entry.bytes);
        let counts = !entry.is_void();
        self.ack(entry);
        self.idle_from(now);
        counts
    }

    /// A client gives a pulled message back. False if it is not in hand.
    pub(super) fn nack_pulled(
        &mut self,
        tag: u64,
        delay: Duration,
        reason: Option<&str>,
        now: Instant,
    ) -> bool {
        let Some(entry) = self.pulled.take(tag) else {
            return false;
        };
        let reason = reason.unwrap_or("its client gave it back");
        match delay.is_zero() {
            true => self.came_back(vec![entry], reason, Sign::OfLife),
            false => self.postpone(entry, delay, now, reason),
        }
        self.idle_from(now);
        true
    }

    /// Sets a new deadline, the latest one at most. False if the message is not in hand.
    pub(super) fn extend(&mut self, tag: u64, deadline: Instant) -> bool {
        let extended = self.pulled.extend(tag, deadline);
        if extended {
            self.due_at(deadline);
        }
        extended
    }

    /// Does what is due, and tells when something is due again.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Instant> {
        let mut overdue = Vec::new();
        while let Some(entry) = self.pulled.take_overdue(now) {
            overdue.push(entry);
        }
        if !overdue.is_empty() {
            let reason = "its deadline passed before it was acked";
            self.came_back(overdue, reason, Sign::None);
            self.idle_from(now);
        }
        let mut has_due = false;
        while let Some(entry) = self
            .later
            .first_entry()
            .filter(|first| first.key().0 <= now)
        {
            let entry = entry.remove();
            self.waits_no_longer(entry);
            has_due = true;
        }
        if has_due {
            self.idle_from(now);
        }
        while let Some((order, first)) = self.ahead.pop_first() {
            if !self.is_old(&first) {
                self.ahead.insert(order, first);
                break;
            }
            self.forget(first);
        }
        let later = self.later.first_key_value().map(|((at, _), _)| *at);
        self.told = [self.pulled.next(), later].into_iter().flatten().min();
        self.told
    }

    /// Since when no client is here. `None` while one is, and while messages wait here for a time: they would be
    /// delivered too early elsewhere.
    pub(super) fn idle_since(&self, now: Instant) -> Option<Instant> {
        let holds = |hand: &ConnectionHand| hand.amount.messages > 0;
        if !self.is_idle() || self.hands.values().any(holds) {
            return None;
        }
        let seen = self.hands.values().filter_map(|hand| hand.seen).max();
        let since = seen.map_or(self.idle_since, |seen| self.idle_since.max(seen + QUIET));
        (since <= now).then_some(since)
    }

    /// Whether nobody takes and nothing is here for a time. Connections may be here.
    fn is_idle(&self) -> bool {
        self.clients == 0 && self.pulled.is_empty() && self.later.is_empty()
    }

    /// What clients have in hand, with what waits for the end of a delay.
    pub(super) fn in_hand(&self) -> Amount {
        self.budget.out
    }

    /// Whether messages wait here for a client.
    pub(super) fn has_waiting(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Gives nothing out any more. With `only_idle` only if no client is here. False if one is.
    pub(super) fn close(&mut self, only_idle: bool, now: Instant) -> bool {
        self.is_closed |= !only_idle || self.idle_since(now).is_some();
        self.is_closed
    }

    /// Gives everything back to the broker.
    pub(super) fn give_all_back(&mut self) {
        self.is_over = true;
        let mut all = self.pulled.take_all();
        all.extend(std::mem::take(&mut self.ahead).into_values());
        all.extend(std::mem::take(&mut self.later).into_values());
        all.extend(
            std::mem::take(&mut self.repeats)
                .into_iter()
                .map(|(_, entry)| entry),
        );
        for hand in self.hands.values_mut() {
            all.extend(hand.take_all());
            hand.amount = Amount::default();
        }
        self.budget.out = Amount::default();
        all.sort_by_key(|entry| entry.order);
        all.into_iter().for_each(|entry| self.forget(entry));
    }

    /// Messages that were given out come back. They go before those that came later, or to the dead letters.
    fn came_back(&mut self, entries: Vec<StockEntry>, reason: &str, sign: Sign) {
        for mut entry in entries {
            self.budget.out.remove(entry.bytes);
            if self.fails(&mut entry, sign) {
                self.bury(entry, reason);
            } else {
                self.wait_ahead(entry);
            }
        }
        self.news.has_room = true;
    }

    /// A message that was given out is to wait: for long at the broker, if that can be, and here otherwise.
    ///
    /// Here it stays in the budget, because it stays in flight at the broker. At most half of what may be in hand waits.
    /// Beyond, the one that is due first is due at once.
    fn postpone(&mut self, mut entry: StockEntry, delay: Duration, now: Instant, reason: &str) {
        let is_dead = self.fails(&mut entry, Sign::OfLife);
        if is_dead || (delay > SHORT && entry.can_be_postponed()) {
            self.budget.out.remove(entry.bytes);
            self.news.has_room = true;
            if is_dead {
                return self.bury(entry, reason);
            }
            let why = Postponement::new(delay, entry.failed, delay);
            return self.settle(entry.into_delivery(), Settlement::Postpone(why));
        }
        let until = now + delay.min(self.longest);
        self.later.insert((until, entry.order), entry);
        if self.later.len() > self.most_later
            && let Some((_, first)) = self.later.pop_first()
        {
            self.waits_no_longer(first);
        }
        self.due_at(until);
    }

    fn waits_no_longer(&mut self, entry: StockEntry) {
        self.budget.out.remove(entry.bytes);
        self.wait_ahead(entry);
        self.news.has_room = true;
    }

    /// A message waits for the next client.
    fn wait_ahead(&mut self, entry: StockEntry) {
        if self.is_over {
            return self.forget(entry);
        }
        self.ahead.insert(entry.order, entry);
        self.news.is_ahead = true;
    }

    /// Counts that a message came back. True if it is not given out again.
    fn fails(&self, entry: &mut StockEntry, sign: Sign) -> bool {
        entry.fail(sign);
        self.counts.came_back.add_one();
        entry.failed >= self.max_deliveries
    }

    fn bury(&mut self, entry: StockEntry, reason: &str) {
        self.counts.dead_lettered.add_one();
        let cause = Cause::new(reason, entry.failed);
        self.settle(entry.into_delivery(), Settlement::DeadLetter(cause));
    }

    fn ack(&mut self, entry: StockEntry) {
        self.counts.settled.add_one();
        self.settle(entry.into_delivery(), Settlement::Ack);
        self.news.has_room = true;
    }

    /// Whether the broker has waited for a settlement for so long that the message goes back before it is given out.
    fn is_old(&self, entry: &StockEntry) -> bool {
        entry.came.elapsed() > self.fresh
    }

    /// The broker has the message again.
    fn forget(&mut self, entry: StockEntry) {
        self.attempts
            .remember(&self.group, entry.message.id(), entry.failed);
        self.settle(entry.into_delivery(), Settlement::Requeue);
    }

    fn settle(&mut self, delivery: Delivery, settlement: Settlement) {
        self.news.settled.push((delivery, settlement));
    }

    fn hand_amount(&self, holder: u64) -> Amount {
        self.hands
            .get(&holder)
            .map(|hand| hand.amount)
            .unwrap_or_default()
    }

    /// Counts a message of a client, in or out.
    fn count(&mut self, taker: Taker, change: impl Fn(&mut Amount)) {
        change(&mut self.budget.out);
        if let Taker::Holder(number) = taker
            && let Some(hand) = self.hands.get_mut(&number)
        {
            change(&mut hand.amount);
        }
    }

    fn idle_from(&mut self, now: Instant) {
        if self.is_idle() {
            self.idle_since = now;
            self.news.is_sooner |= self.idle_since(now).is_some();
        }
    }

    fn due_at(&mut self, at: Instant) {
        if self.told.is_none_or(|told| at < told) {
            self.told = Some(at);
            self.news.is_sooner = true;
        }
    }
}
