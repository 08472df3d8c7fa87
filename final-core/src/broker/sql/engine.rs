//! The consuming side of one bus: reads the log, hands out what is for its lanes, and writes down how
//! far it has come.
//!
//! ```text
//!   bell, poll ─▶ look ─▶ lanes taken or given away
//!       └───────▶ read ─▶ offer ─▶ hand ─▶ deliveries ─▶ handlers
//!                                    ▲                      │ settle
//!                     commit ◀───────┴────── inbox ◀────────┘
//! ```

mod commit;
mod turns;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};

use super::{
    LANES,
    balance::Share,
    hand::Hand,
    hub::Rung,
    lanes::{Extra, LaneId, LaneRow},
    log::Look,
    member::Member,
    pages::LogRow,
    stream::{Offer, Stream},
};
use crate::{
    OutboxDatabase,
    backoff::Backoff,
    broker::{DeadLetter, Delivery, LinkState, Settlement, Settler},
    outbox::DbResult,
};

/// Rows of one page.
const PAGE: usize = 500;
/// The pause between two pages while messages come in one by one, and while they come in numbers:
/// they are then read by the dozen.
const PACE: Duration = Duration::from_millis(2);
const STEADY_PACE: Duration = Duration::from_millis(5);
/// From how many rows on a page came in numbers.
const STEADY: usize = 8;
/// The first pause of polling, after it has found something.
const FIRST_POLL: Duration = Duration::from_millis(5);
/// How often a member looks that has fewer lanes than it should.
const UNSETTLED: Duration = Duration::from_millis(250);
/// How long lanes that stand still are left behind the stream.
const LAG: Duration = Duration::from_secs(1);
/// Scheduled messages of one transaction.
const PROMOTE: usize = 500;
/// Tries to fill gaps in one round.
const MOST_FILLS: usize = 40;
/// The pause after a failure.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));

/// One run of the consuming side. It owns what it knows, so that a panic forgets it all together.
pub(super) struct Engine<DB: OutboxDatabase> {
    member: Arc<Member<DB>>,
    deliveries: Option<mpsc::Sender<Delivery>>,
    bell: watch::Receiver<Rung>,
    rung: Rung,
    streams: BTreeMap<i64, Stream>,
    version: i64,
    members: usize,
    trimmed: i64,
    hand: Hand,
    extras: Vec<(LaneId, Extra)>,
    settled: usize,
    /// Since when something is to be written.
    changed: Option<Instant>,
    full_commit: Instant,
    look_at: Instant,
    read_at: Instant,
    poll_at: Instant,
    poll_pause: Duration,
    /// Whether this process has announced messages since the last page.
    rang: bool,
    due_at: Option<Instant>,
    failures: u32,
    commit_failures: u32,
    commit_again: Instant,
}

impl<DB: OutboxDatabase> Engine<DB> {
    pub(super) fn new(member: Arc<Member<DB>>, deliveries: Option<mpsc::Sender<Delivery>>) -> Self {
        let now = Instant::now();
        let mut bell = member.hub.bell();
        let rung = *bell.borrow_and_update();
        Self {
            hand: Hand::new(member.tuning.key_order),
            poll_pause: member.tuning.poll_interval,
            member,
            deliveries,
            bell,
            rung,
            streams: BTreeMap::new(),
            version: -1,
            members: 1,
            trimmed: 0,
            extras: Vec::new(),
            settled: 0,
            changed: None,
            full_commit: now,
            look_at: now,
            read_at: now,
            poll_at: now,
            rang: false,
            due_at: None,
            failures: 0,
            commit_failures: 0,
            commit_again: now,
        }
    }

    /// Works until it is told to finish, and then gives everything back.
    pub(super) async fn run(mut self) {
        loop {
            if self.member.stop.is_cancelled() && self.deliveries.take().is_some() {
                self.freeze_all();
            }
            if self.member.finish.is_cancelled() {
                return self.finish().await;
            }
            self.take_settlements();
            match self.step().await {
                Ok(()) => {
                    if self.failures > 0 {
                        tracing::info!(service = &*self.member.group, "the log can be read again");
                    }
                    self.failures = 0;
                    self.member.set_state(LinkState::Ready);
                    self.wait().await;
                }
                Err(error) => self.failed(error).await,
            }
        }
    }

    async fn failed(&mut self, error: sqlx::Error) {
        self.failures = self.failures.saturating_add(1);
        self.member.reading_failed(&error, self.failures);
        self.member.set_state(LinkState::Away);
        self.look_at = Instant::now();
        tokio::select! {
            () = tokio::time::sleep(AGAIN.pause(self.failures)) => {}
            () = self.member.finish.cancelled() => {}
        }
    }

    async fn step(&mut self) -> DbResult<()> {
        self.member.prepare().await?;
        let rung = *self.bell.borrow_and_update();
        if rung.messages != self.rung.messages {
            self.rang = true;
            self.streams
                .values_mut()
                .for_each(|stream| stream.is_hungry = true);
        }
        let now = Instant::now();
        if rung.members != self.rung.members || now >= self.look_at {
            self.look().await?;
        }
        self.rung = rung;
        if self.due_at.is_some_and(|at| at <= now) | self.member.hub.take_alarm(now) {
            self.promote().await?;
        }
        self.commit_if_due().await;
        if self.deliveries.is_some() && self.member.is_alive() {
            self.fetch_wanted().await?;
            self.watch_gaps().await?;
            self.read().await?;
        }
        Ok(())
    }

    /// Sleeps until there is something to do.
    async fn wait(&mut self) {
        // The first one starts the clock of the next commit; the others can wait for it.
        let is_first = self.changed.is_none();
        let wake_at = if is_first || self.member.tuning.key_order || self.deliveries.is_none() {
            1
        } else if self.hand.room(self.member.tuning.prefetch) == 0 {
            self.member.tuning.prefetch / 4
        } else {
            self.member.tuning.commit_after
        };
        self.member.inbox.set_wake_at(wake_at);
        let mut until = self.look_at.min(self.next_commit());
        if self.deliveries.is_some() && self.member.is_alive() {
            let has_room = self.hand.room(self.member.tuning.prefetch) > 0;
            for stream in self.streams.values().filter(|_| has_room) {
                until = stream.gaps.next().map_or(until, |at| until.min(at));
                if stream.can_read() {
                    until = until.min(self.read_at);
                }
            }
            if has_room && self.polls() {
                until = until.min(self.poll_at);
            }
        }
        for at in [self.due_at, self.member.hub.alarm()].into_iter().flatten() {
            until = until.min(at);
        }
        if until <= Instant::now() {
            return tokio::task::yield_now().await;
        }
        let stopping = self.deliveries.is_none();
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => {}
            _ = self.bell.changed() => self.bell.mark_changed(),
            () = self.member.inbox.filled() => {}
            () = self.member.stop.cancelled(), if !stopping => {}
            () = self.member.finish.cancelled() => {}
        }
    }

    /// Whether new messages of other processes are looked for by reading.
    fn polls(&self) -> bool {
        self.poll_pause < self.member.tuning.poll_interval && !self.member.is_listening()
    }

    async fn look(&mut self) -> DbResult<()> {
        let member = Arc::clone(&self.member);
        let Look {
            last,
            due_at,
            version,
            members,
            free_lanes,
            own_lanes,
            others,
            trimmed,
        } = member
            .log
            .look(&member.group, member.id, member.hub.process)
            .await?;
        member.hub.set_others(others);
        self.due_at = due_at;
        self.trimmed = trimmed;
        self.members = usize::try_from(members).unwrap_or(1).max(1);
        let mut look_again = member.tuning.poll_interval;
        if member.consumes() {
            if version != self.version && self.deliveries.is_some() {
                self.load_topics().await?;
            }
            for stream in self.streams.values_mut() {
                stream.is_hungry |= last > stream.read;
            }
            let fair = LANES.div_ceil(self.members);
            let has_too_many = self
                .streams
                .values()
                .any(|stream| stream.lanes().count() > fair);
            // A claim whose answer was lost was made all the same, and a release that a server
            // has forgotten in its crash was not.
            let known: usize = self
                .streams
                .values()
                .map(|stream| stream.lanes().count())
                .sum();
            let is_off = usize::try_from(own_lanes).unwrap_or(0) != known;
            if (free_lanes > 0 || has_too_many || is_off) && self.deliveries.is_some() {
                self.balance().await?;
            }
            let main = self.streams.get(&0);
            let mine = main.map_or(0, |stream| stream.lanes().count());
            if !Share::is_content(self.members, mine) {
                look_again = UNSETTLED.min(look_again);
            }
        }
        self.look_at = Instant::now() + look_again;
        Ok(())
    }

    async fn load_topics(&mut self) -> DbResult<()> {
        let member = Arc::clone(&self.member);
        let mut known = member.log.subscriptions(&member.group).await?;
        if known.streams.is_empty() {
            // Somebody has had the group forgotten while we are at work for it.
            member.subscribe().await?;
            known = member.log.subscriptions(&member.group).await?;
        }
        for (id, topics) in known.streams {
            if let Some(stream) = self.streams.get_mut(&id)
                && stream.topics != topics
            {
                stream.set_topics(topics);
                stream.read_again();
            }
        }
        self.version = known.version;
        Ok(())
    }

    /// Takes lanes nobody has, and begins to give away what we have too many of.
    async fn balance(&mut self) -> DbResult<()> {
        let member = Arc::clone(&self.member);
        let rows = member.log.lanes(&member.group).await?;
        let mut shares: BTreeMap<i64, Share> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.id.lane < LANES) {
            let share = shares.entry(row.id.stream).or_default();
            share.members = self.members;
            if row.member == Some(member.id) {
                share.mine.push(row.id.lane);
            } else if !row.is_held {
                share.free.push(row.id.lane);
            }
        }
        let mut claimed = false;
        for (id, share) in shares {
            let moves = share.moves();
            for row in &rows {
                if row.id.stream == id && moves.take.contains(&row.id.lane) {
                    claimed |= member.log.claim(&member.group, row, member.id).await?;
                }
            }
            for lane in moves.give {
                let lane_id = LaneId { stream: id, lane };
                if let Some(lane) = self
                    .streams
                    .get_mut(&id)
                    .and_then(|stream| stream.lane_mut(lane))
                    && !lane.is_frozen()
                {
                    lane.freeze();
                    // A long row of one key would keep all others of the lane waiting.
                    for number in self.hand.dismiss(lane_id) {
                        lane.leave(number);
                    }
                    self.changed.get_or_insert_with(Instant::now);
                }
            }
        }
        // Read after the claim: until then the owner before us may have written.
        let rows = if claimed {
            member.log.lanes(&member.group).await?
        } else {
            rows
        };
        let mut lost: Vec<LaneId> = Vec::new();
        for stream in self.streams.values() {
            for (id, lane) in stream.lanes() {
                let is_ours = rows.iter().any(|row| {
                    row.id == id && row.epoch == lane.epoch && row.member == Some(member.id)
                });
                if !is_ours {
                    lost.push(id);
                }
            }
        }
        lost.into_iter().for_each(|id| self.lose(id));
        let mut is_new = |row: &LaneRow| {
            let stream = self.streams.get_mut(&row.id.stream);
            row.member == Some(member.id)
                && stream.is_none_or(|stream| stream.lane_mut(row.id.lane).is_none())
        };
        let new: Vec<LaneRow> = rows.into_iter().filter(|row| is_new(row)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let known = member.log.subscriptions(&member.group).await?;
        for row in new {
            let id = row.id.stream;
            let of_stream = || known.streams.get(&id).cloned().unwrap_or_default();
            self.streams
                .entry(id)
                .or_insert_with(|| Stream::new(id, row.ends_at, of_stream()))
                .adopt(row);
        }
        if self.version != known.version {
            self.load_topics().await?;
        }
        Ok(())
    }

    async fn promote(&mut self) -> DbResult<()> {
        let promoted = self.member.log.promote(PROMOTE).await?;
        if promoted > 0 {
            self.member.hub.committed();
        }
        // Looks what is due next.
        self.look_at = Instant::now();
        self.due_at = None;
        Ok(())
    }

    /// Looks at gaps again, and fills those that have been open for long.
    async fn watch_gaps(&mut self) -> DbResult<()> {
        let room = self.hand.room(self.member.tuning.prefetch);
        if room == 0 {
            return Ok(());
        }
        let now = Instant::now();
        let ids: Vec<i64> = self.streams.keys().copied().collect();
        for id in ids {
            if !self.inherit(id).await? {
                continue;
            }
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            let numbers = stream.gaps.take_overdue(now, 500);
            if !numbers.is_empty() {
                self.fill(id, numbers).await?;
            }
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            let mut some = Vec::new();
            for (start, end) in stream.gaps.take_due(now, 64) {
                if end - start < 64 && some.len() < 448 {
                    some.extend(start..=end);
                    continue;
                }
                // A long one by its ends.
                let ours = stream.ours();
                let rows = self
                    .member
                    .log
                    .page(start - 1, end, PAGE.min(room.max(100)), &ours)
                    .await?;
                self.offer_gaps(id, rows).await?;
                break;
            }
            let Some(stream) = self.streams.get(&id) else {
                continue;
            };
            let rows = self.member.log.pick(&some, &stream.ours()).await?;
            self.offer_gaps(id, rows).await?;
        }
        Ok(())
    }

    async fn fill(&mut self, id: i64, numbers: Vec<i64>) -> DbResult<()> {
        // Removed rows leave gaps as well, and need no filling.
        let member = Arc::clone(&self.member);
        self.trimmed = member
            .log
            .look(&member.group, member.id, member.hub.process)
            .await?
            .trimmed;
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        let first = numbers.first().copied().unwrap_or(0);
        if first <= self.trimmed {
            // What shows at or below it is read before the rest is given up.
            let ours = stream.ours();
            let rows = member
                .log
                .page(first - 1, self.trimmed, PAGE, &ours)
                .await?;
            let end = if rows.len() < PAGE {
                self.trimmed
            } else {
                rows.last().map_or(self.trimmed, |row| row.seq)
            };
            self.offer_gaps(id, rows).await?;
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.gaps.resolve_up_to(end);
            }
            return Ok(());
        }
        // Where a transaction has one of them, the others are tried by halves.
        let mut parts = vec![numbers];
        for _ in 0..MOST_FILLS {
            let Some(mut part) = parts.pop() else {
                break;
            };
            if let Err(error) = member.log.fill(&part).await {
                tracing::debug!(first = part.first(), %error, "a number is still a transaction's");
                if part.len() > 1 {
                    let half = part.split_off(part.len() / 2);
                    parts.extend([half, part]);
                }
            }
        }
        Ok(())
    }

    async fn offer_gaps(&mut self, id: i64, rows: Vec<LogRow>) -> DbResult<()> {
        for row in rows {
            let Some(stream) = self.streams.get_mut(&id) else {
                return Ok(());
            };
            if !stream.gaps.contains(row.seq) {
                continue;
            }
            let offer = stream.offer(&row, &self.member.group);
            if offer != Offer::Leave {
                stream.gaps.resolve(row.seq);
            }
            if offer == Offer::Take {
                self.take(id, row).await?;
            }
        }
        Ok(())
    }

    async fn read(&mut self) -> DbResult<()> {
        let mut now = Instant::now();
        let by_poll = self.polls() && now >= self.poll_at;
        if by_poll {
            self.streams
                .values_mut()
                .for_each(|stream| stream.is_hungry = true);
        }
        if now < self.read_at {
            return Ok(());
        }
        let rang = std::mem::take(&mut self.rang);
        let mut rows = 0;
        let ids: Vec<i64> = self.streams.keys().copied().collect();
        for id in ids {
            rows += self.read_stream(id).await?;
        }
        let found = rows > 0;
        now = Instant::now();
        if found {
            self.read_at = now + if rows < STEADY { PACE } else { STEADY_PACE };
        }
        // Nobody here has announced what was found, so others are at work.
        if by_poll || found && !rang && !self.member.is_listening() {
            self.poll_pause = if found {
                FIRST_POLL
            } else {
                (self.poll_pause * 2).min(self.member.tuning.poll_interval)
            };
            self.poll_at = now + self.poll_pause;
        }
        Ok(())
    }

    async fn read_stream(&mut self, id: i64) -> DbResult<usize> {
        let mut found = 0;
        loop {
            let room = self.hand.room(self.member.tuning.prefetch);
            let Some(stream) = self.streams.get_mut(&id) else {
                return Ok(found);
            };
            if room == 0 || !stream.can_read() {
                return Ok(found);
            }
            let most = PAGE.min(room.max(100));
            let up_to = stream.ends_at.unwrap_or(i64::MAX);
            let rows = self
                .member
                .log
                .page(stream.read, up_to, most, &stream.ours())
                .await?;
            found += rows.len();
            let is_full = rows.len() >= most;
            for row in rows {
                let Some(stream) = self.streams.get_mut(&id) else {
                    return Ok(found);
                };
                if !DB::LOG_WORDS.gapless {
                    stream.notice(row.seq, self.trimmed);
                }
                let seq = row.seq;
                let offer = stream.offer(&row, &self.member.group);
                if offer != Offer::Leave {
                    stream.gaps.resolve(seq);
                }
                if offer == Offer::Take {
                    self.take(id, row).await?;
                }
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.reach(seq);
                }
            }
            let Some(stream) = self.streams.get_mut(&id) else {
                return Ok(found);
            };
            if !is_full {
                stream.is_hungry = false;
                if let Some(end) = stream.ends_at
                    && stream.read < end
                {
                    if !DB::LOG_WORDS.gapless {
                        stream.notice(end + 1, self.trimmed);
                    }
                    stream.reach(end);
                }
            }
            if found > 0 {
                self.changed.get_or_insert_with(Instant::now);
            }
            if !is_full || self.changed_for(self.member.tuning.commit_within) {
                return Ok(found);
            }
        }
    }

    fn changed_for(&self, time: Duration) -> bool {
        self.changed.is_some_and(|since| since.elapsed() >= time)
    }

    /// Takes a row into the hand, and delivers it if it may go.
    async fn take(&mut self, stream: i64, mut row: LogRow) -> DbResult<()> {
        let lane = LaneId {
            stream,
            lane: row.lane,
        };
        let room = self.hand.room(self.member.tuning.prefetch);
        if row.is_heavy() {
            let payload = self.member.log.payload(row.seq).await;
            let owner = self.streams.get_mut(&stream);
            row.payload = match (payload, owner) {
                (Err(error), Some(owner)) => {
                    owner.put_back(row.lane, row.seq);
                    return Err(error);
                }
                (payload, _) => payload?,
            };
            if row.payload.is_none() {
                // Removed for its age since the page was read.
                if let Some(lane) = self
                    .streams
                    .get_mut(&stream)
                    .and_then(|stream| stream.lane_mut(row.lane))
                {
                    lane.settle(row.seq);
                }
                return Ok(());
            }
        }
        self.changed.get_or_insert_with(Instant::now);
        let (tag, goes) = self.hand.take(lane, row, room);
        if goes {
            self.deliver(tag);
        }
        Ok(())
    }

    fn deliver(&mut self, tag: u64) {
        let Some(held) = self.hand.get(tag) else {
            return;
        };
        if held.expires.is_some_and(|at| at <= Instant::now()) {
            let expired = DeadLetter::new("expired", 0);
            self.member
                .inbox
                .settle(tag, Settlement::DeadLetter(expired));
            return;
        }
        let settler = Arc::clone(&self.member.inbox) as Arc<dyn Settler>;
        let delivery = Delivery::new(held.content.clone(), tag, settler);
        if let Some(deliveries) = &self.deliveries {
            // There is room for everything in hand. Closed, the bus is going, and the delivery is
            // handed back.
            let _ = deliveries.try_send(delivery);
        }
    }

    /// A lane of somebody else, or any if all are ours.
    fn lane_of_another(&self) -> usize {
        let owned: Vec<usize> = self
            .streams
            .get(&0)
            .into_iter()
            .flat_map(|stream| stream.lanes().map(|(id, _)| id.lane))
            .collect();
        let others: Vec<usize> = (0..LANES).filter(|lane| !owned.contains(lane)).collect();
        fastrand::choice(others).unwrap_or_else(|| fastrand::usize(..LANES))
    }

    fn take_settlements(&mut self) {
        for (tag, settlement) in self.member.inbox.take() {
            self.settle(tag, settlement);
        }
    }

    fn settle(&mut self, tag: u64, settlement: Settlement) {
        let Some(held) = self.hand.get(tag) else {
            return;
        };
        let (lane, seq) = (held.lane, held.seq);
        match settlement {
            Settlement::Ack => {}
            Settlement::DeadLetter(why) => {
                if let Ok(message) = &held.content {
                    self.member.handling_failed(message, &why);
                }
                self.extras.push((lane, Extra::Bury(seq, why)));
            }
            // Stays open for whoever has the lane next.
            Settlement::Requeue if self.deliveries.is_none() => return,
            // In order, it is its turn until it is done.
            Settlement::Requeue if self.member.tuning.key_order && held.has_key() => {
                return self.deliver(tag);
            }
            Settlement::Requeue => {
                let other = self.lane_of_another();
                self.extras.push((lane, Extra::Again(seq, other)));
            }
        }
        self.settled += 1;
        self.changed.get_or_insert_with(Instant::now);
        if let Some(lane) = self
            .streams
            .get_mut(&lane.stream)
            .and_then(|stream| stream.lane_mut(lane.lane))
        {
            lane.settle(seq);
        }
        if let Some((_, Some(next))) = self.hand.settle(tag) {
            self.deliver_next(next);
        }
    }
}
