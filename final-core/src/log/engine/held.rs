//! Messages that are held.
//!
//! Input: settlements that ask to hold a message; its time; what operators wish, and what other members hold. State:
//! [`HeldMessages`](crate::log::progress::held::HeldMessages) and the gates of whole topics. Output: the message is
//! delivered again, or goes to the dead letters; and rows about it.
//!
//! ```text
//!   handler fails ─ hold ─▶ held: open in its lane, first of its key ─ due ─▶ read again ─▶ handler
//!                             │ the lane is given away: the next owner has it      └ done ─▶ what waited goes on
//!                             └ an operator skips it ─▶ dead letter ───────────────────────────▲
//! ```

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::Engine;
use crate::{
    OutboxDatabase,
    broker::{Holding, Settlement},
    database::{DbResult, refused::refuses},
    handler::Hold,
    log::progress::{
        held::{HeldRow, HeldWrite, KnownHeld},
        rows::{LaneId, LaneRow},
    },
};

/// How many rows one transaction writes.
const MOST_WRITES: usize = 200;

/// How often the wishes of operators are looked for while anything is held.
const LISTEN: Duration = Duration::from_secs(1);

impl<DB: OutboxDatabase> Engine<DB> {
    /// Holds a message whose handler has failed.
    pub(super) fn hold(&mut self, tag: u64, holding: Holding) {
        let member = Arc::clone(&self.member);
        let Some(taken) = self.deliveries.in_flight.get(tag) else {
            return;
        };
        let (lane, seq) = (taken.lane, taken.seq);
        let message = taken.content.as_ref().ok().cloned();
        let hold = message
            .as_ref()
            .and_then(|message| member.holds.get(message.topic()));
        let (Some(message), Some(hold)) = (message, hold) else {
            // Nothing says that messages of this topic are held.
            return self.settle(tag, Settlement::DeadLetter(holding.why));
        };
        let row = HeldRow {
            known: KnownHeld {
                seq,
                lane,
                topic: message.topic().to_owned(),
                hold: *hold,
                reason: holding.why.reason.clone(),
                attempts: holding.why.attempts,
                times: 0,
                retries: holding.retries,
                wish: None,
            },
            id: message.id().0,
            key: message.key().map(str::to_owned),
            pause: Duration::ZERO,
        };
        let held = &mut self.deliveries.held;
        let row = match held.hold(tag, row, &holding, Instant::now()) {
            Ok(row) => row,
            Err(skipped) => return self.settle(tag, Settlement::DeadLetter(skipped)),
        };
        tracing::warn!(
            target: "final::log",
            service = &*member.group,
            topic = message.topic(),
            key = message.key(),
            id = %message.id(),
            seq,
            times = row.known.times,
            attempts = row.known.attempts,
            reason = row.known.reason,
            retry_in = row.known.retries.then(|| tracing::field::debug(row.pause)),
            "a message is held because its handler failed, and what comes after it waits"
        );
        member.hooks.held(&message, &holding.why);
        if *hold == Hold::Topic {
            self.deliveries
                .in_flight
                .gates()
                .close(message.topic(), seq);
        }
        self.deliveries.in_flight.hold(tag, row.known.attempts);
        if self.streams.awaits_commit(lane, seq) {
            self.schedule.commits.at_once(Instant::now);
        }
        self.count_held();
    }

    /// Delivers what is due, and looks for wishes of operators.
    pub(super) async fn keep_held(&mut self) -> DbResult<()> {
        let now = Instant::now();
        for tag in self.deliveries.held.take_due(now) {
            self.deliveries.deliver_next(tag);
        }
        if !self.deliveries.held.is_empty() && now >= self.held.listen_at {
            let streams = &self.streams;
            let wishes = self
                .session
                .wishes(&self.member.group, |lane| streams.has_lane(lane))
                .await?;
            for (seq, wish) in wishes {
                if let Some(tag) = self.deliveries.held.wish(seq, wish) {
                    self.deliveries.deliver_next(tag);
                }
            }
            self.held.listen_at = now + LISTEN;
        }
        // That a wish was heard, before the message is read again and tried.
        self.write_held().await
    }

    /// Writes what has changed about held messages. Other members hear of topics that are held as a whole.
    ///
    /// The progress comes before the row: the message of a row stands open in its lane, so the next owner of the lane
    /// takes it before it reads on. What it has no room to read on for can wait for this message.
    pub(super) async fn write_held(&mut self) -> DbResult<()> {
        loop {
            let streams = &self.streams;
            let is_open = |known: &KnownHeld| !streams.awaits_commit(known.lane, known.seq);
            let writes = self.deliveries.held.take_writes(MOST_WRITES, is_open);
            if writes.is_empty() {
                return Ok(());
            }
            self.write_some_held(writes).await?;
        }
    }

    async fn write_some_held(&mut self, writes: Vec<HeldWrite>) -> DbResult<()> {
        let (group, member) = (Arc::clone(&self.member.group), self.member.id);
        let written = match self.session.write_held(&group, member, &writes).await {
            Ok(()) => {
                self.held.is_refused = false;
                writes
            }
            Err(error) if refuses(&error) => {
                // The messages are held all the same.
                if !std::mem::replace(&mut self.held.is_refused, true) {
                    tracing::error!(
                        target: "final::log",
                        service = &*group, %error,
                        "the database refuses rows about held messages; they are held, and operators do not see them. \
                         Look at the triggers, constraints, privileges and columns of final_log_held"
                    );
                }
                self.write_done(writes).await?
            }
            Err(error) => {
                self.deliveries.held.put_back(writes);
                return Err(error);
            }
        };
        if self.deliveries.are_open() {
            let lanes = self.streams.lanes();
            let leaving = lanes.filter(|(_, lane)| lane.is_draining());
            for id in leaving.map(|(id, _)| id).collect::<Vec<_>>() {
                self.release_held(id);
            }
        }
        let is_news = |write: &HeldWrite| !matches!(write, HeldWrite::Heard(_));
        if self.holds_topics() && written.iter().any(is_news) {
            self.member.announce_members().await;
        }
        Ok(())
    }

    /// Writes what is done, after the database has refused these writes: its rows would keep their topics shut in other
    /// members. Returns what is written.
    async fn write_done(&mut self, mut writes: Vec<HeldWrite>) -> DbResult<Vec<HeldWrite>> {
        writes.retain(|write| matches!(write, HeldWrite::Remove(_) | HeldWrite::Open(_)));
        if writes.is_empty() {
            return Ok(writes);
        }
        let (group, member) = (Arc::clone(&self.member.group), self.member.id);
        match self.session.write_held(&group, member, &writes).await {
            Ok(()) => Ok(writes),
            Err(error) if refuses(&error) => Ok(Vec::new()),
            Err(error) => {
                self.deliveries.held.put_back(writes);
                Err(error)
            }
        }
    }

    /// Whether any topic can be held as a whole.
    fn holds_topics(&self) -> bool {
        self.member.holds.values().any(|hold| *hold == Hold::Topic)
    }

    /// When something is to be done about held messages.
    pub(super) fn held_at(&self) -> Option<Instant> {
        let held = &self.deliveries.held;
        let listens = (!held.is_empty()).then_some(self.held.listen_at);
        let is_open = |known: &KnownHeld| !self.streams.awaits_commit(known.lane, known.seq);
        let writes = held.has_writes(is_open).then(Instant::now);
        [held.next(), listens, writes].into_iter().flatten().min()
    }

    /// A message is done. What waited for its topic goes on.
    pub(super) fn end_held(&mut self, seq: i64) {
        if self.deliveries.held.is_empty() || !self.deliveries.held.end(seq) {
            return;
        }
        for tag in self.deliveries.in_flight.gates().open(seq) {
            self.deliveries.deliver_next(tag);
        }
        tracing::info!(
            target: "final::log",
            service = &*self.member.group,
            seq,
            "a message is held no longer, and what waited for it goes on"
        );
        self.count_held();
    }

    /// Leaves the held messages of a lane to its next owner: no handler has them. Their rows come first; once they are
    /// written, this is done again.
    pub(super) fn release_held(&mut self, id: LaneId) {
        if self.deliveries.held.has_rows(id) {
            return;
        }
        let left = self.deliveries.held.forget(id, false);
        if left.is_empty() {
            return;
        }
        for (seq, tag) in left {
            self.deliveries.in_flight.gates().leave(seq);
            // Otherwise it was not taken yet, and the lane has it open anyway.
            let Some(tag) = tag else {
                continue;
            };
            if let Some(lane) = self.streams.lane_mut(id) {
                lane.release(seq);
            }
            if let Some((_, Some(next))) = self.deliveries.in_flight.settle(tag) {
                self.deliveries.deliver_next(next);
            }
        }
        self.schedule.commits.changed(Instant::now);
        self.count_held();
    }

    /// Takes in what the table says about held messages of lanes that come in.
    pub(super) async fn learn_held(&mut self, rows: &[LaneRow]) -> DbResult<()> {
        let of_lane = |lane: LaneId| rows.iter().find(|row| row.id == lane);
        let comes_in = |lane| of_lane(lane).is_some();
        let held = self.member.log.held(&self.member.group, comes_in).await?;
        for known in held {
            let Some(row) = of_lane(known.lane) else {
                continue;
            };
            let is_open = row
                .open
                .as_ref()
                .is_none_or(|open| open.contains(known.seq));
            let is_done = known.seq <= row.settled_to || known.seq <= row.read_to && !is_open;
            let is_wanted = self.member.holds.contains_key(known.topic.as_str());
            if is_done || !is_wanted {
                self.deliveries.held.is_stale(known.seq);
                continue;
            }
            if known.hold == Hold::Topic {
                self.deliveries
                    .in_flight
                    .gates()
                    .close(&known.topic, known.seq);
            }
            self.deliveries.held.learn(known);
        }
        for seq in self
            .member
            .log
            .held_without_lanes(&self.member.group)
            .await?
        {
            self.deliveries.held.is_stale(seq);
        }
        self.count_held();
        Ok(())
    }

    /// Drops what is known as held and will not come, because `max_age` has removed it.
    pub(super) fn drop_gone(&mut self) {
        let streams = &self.streams;
        let known = self.deliveries.held.known();
        let gone: Vec<i64> = known
            .filter(|(seq, lane)| streams.is_past(*lane, *seq))
            .map(|(seq, _)| seq)
            .collect();
        for seq in gone {
            self.deliveries.held.is_gone(seq);
            for tag in self.deliveries.in_flight.gates().open(seq) {
                self.deliveries.deliver_next(tag);
            }
            self.count_held();
        }
    }

    /// Compares with the table which topics other members hold. `held` is how many messages hold their topics.
    pub(super) async fn learn_held_topics(&mut self, held: i64) -> DbResult<()> {
        let is_closed = self.deliveries.in_flight.gates().is_closed_elsewhere();
        if !self.holds_topics() || held == 0 && !is_closed {
            return Ok(());
        }
        let streams = &self.streams;
        let topics = self
            .session
            .held_topics(&self.member.group, |lane| !streams.is_leaving(lane))
            .await?;
        for tag in self.deliveries.in_flight.gates().elsewhere(&topics) {
            self.deliveries.deliver_next(tag);
        }
        Ok(())
    }

    /// Tells how many messages are held.
    pub(super) fn count_held(&mut self) {
        let held = self.deliveries.held.len();
        self.member.held.store(held as u64, Ordering::Relaxed);
    }

    /// Warns once if so many messages wait behind held ones that nothing further is read.
    pub(super) fn warn_if_full(&mut self) {
        let is_full =
            self.deliveries.in_flight.is_full_of_waiting() && !self.deliveries.held.is_empty();
        if is_full && !self.held.has_warned {
            tracing::error!(
                target: "final::log",
                service = &*self.member.group,
                held = self.deliveries.held.len(),
                "too many messages wait behind held ones: this instance reads nothing further until some are done or \
                 skipped"
            );
        }
        self.held.has_warned = is_full;
    }
}

/// What the engine knows about held messages beside the messages.
#[derive(Debug)]
pub(super) struct HeldState {
    /// When the wishes of operators are looked for next.
    listen_at: Instant,
    /// Whether it was said that nothing further is read.
    has_warned: bool,
    /// Whether the database has refused the last rows.
    is_refused: bool,
}

impl HeldState {
    pub(super) fn new() -> Self {
        Self {
            listen_at: Instant::now(),
            has_warned: false,
            is_refused: false,
        }
    }
}
