//! Messages that are held: their handler has failed, and they stay at their place.
//!
//! Input: messages that have failed, what the table says about them, and what an operator wishes. State: each held
//! message with the time of its next attempt. Output: messages that are due; and rows that are to be written, so that
//! operators see what is held, and the next owner of a lane goes on where this one was.
//!
//! The progress of a lane does not depend on any of this: a held message is open in its lane, as one at a handler is.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::rows::LaneId;
use crate::{
    broker::{Cause, Holding},
    handler::Hold,
    runtime::backoff::Backoff,
};

/// The pauses between the attempts of a held message.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5 * 60));

/// What an operator wishes for a held message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Try it now.
    Retry,
    /// Put it to the dead letters for this reason, and go on.
    Skip(String),
}

/// A held message as its row tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownHeld {
    pub(crate) seq: i64,
    pub(crate) lane: LaneId,
    pub(crate) topic: String,
    pub(crate) hold: Hold,
    pub(crate) reason: String,
    pub(crate) attempts: u32,
    /// How often it was held.
    pub(crate) times: u32,
    /// Whether it is tried again by itself.
    pub(crate) retries: bool,
    pub(crate) wish: Option<Wish>,
}

/// The row of a held message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeldRow {
    pub(crate) known: KnownHeld,
    pub(crate) id: Uuid,
    pub(crate) key: Option<String>,
    /// How long until its next attempt.
    pub(crate) pause: Duration,
}

/// What is to be written into the table of held messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeldWrite {
    /// The message is held, perhaps again.
    Save(Box<HeldRow>),
    /// The message is done.
    Remove(i64),
    /// The wish to try it now was heard.
    Heard(i64),
    /// The message holds its topic no longer: it is done, but for its letter.
    Open(i64),
}

/// What happens to a message whose turn has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A handler gets it.
    Go,
    /// A handler gets it, because an operator wishes it.
    Retry,
    /// It is held without an attempt. So often its handler was tried.
    Wait(u32),
    /// It goes to the dead letters.
    Skip(Cause),
}

/// One held message.
///
/// ```text
///   known by its row ─ taken ─▶ trying ─ fails ─▶ waiting ─ due, or an operator wishes it ─▶ trying
///         └ without retries ──────────────────────▲           └ skipped ─▶ dead letter
/// ```
#[derive(Debug)]
struct HeldMessage {
    known: KnownHeld,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// This member has not taken it yet.
    Known,
    /// At a handler, or about to be.
    Trying,
    /// Under this tag, until then. Without a time only an operator ends it.
    Waiting(u64, Option<Instant>),
}

/// The held messages of a member, by their sequence numbers.
#[derive(Debug, Default)]
pub(crate) struct HeldMessages {
    messages: BTreeMap<i64, HeldMessage>,
    /// What is to be written, in this order.
    writes: Vec<HeldWrite>,
    /// Messages that are done, and whose progress is not written yet.
    ended: Vec<(i64, LaneId)>,
    /// Messages that are done here, and whose letters the database refuses. Their rows stay for the next owner of their
    /// lane, who may get them again.
    refused: Vec<(i64, LaneId)>,
}

impl HeldMessages {
    /// How many messages are held.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Takes in what the table says about a message of a lane that comes in.
    ///
    /// That a wish is heard is written before the message is tried. If it takes the process down, the next owner would
    /// obey the wish again.
    pub(crate) fn learn(&mut self, known: KnownHeld) {
        if let Entry::Vacant(free) = self.messages.entry(known.seq) {
            if known.wish == Some(Wish::Retry) {
                self.writes.push(HeldWrite::Heard(known.seq));
            }
            let stage = Stage::Known;
            free.insert(HeldMessage { known, stage });
        }
    }

    /// A row says that a message is held that is settled by its lane.
    pub(crate) fn is_stale(&mut self, seq: i64) {
        self.remove_row(seq);
    }

    /// The row of a message goes. What waits to be written about it does no longer.
    fn remove_row(&mut self, seq: i64) {
        self.writes
            .retain(|write| !matches!(write, HeldWrite::Save(row) if row.known.seq == seq));
        self.writes.push(HeldWrite::Remove(seq));
    }

    /// The messages that this member has not taken yet, with their lanes.
    pub(crate) fn known(&self) -> impl Iterator<Item = (i64, LaneId)> {
        let known = |message: &&HeldMessage| message.stage == Stage::Known;
        self.messages
            .values()
            .filter(known)
            .map(|message| (message.known.seq, message.known.lane))
    }

    /// A message that was not taken will not come: its lane is written as past it.
    pub(crate) fn is_gone(&mut self, seq: i64) {
        if self.messages.remove(&seq).is_some() {
            self.is_stale(seq);
        }
    }

    /// Holds a message, whose handler has failed. Returns the row that is written about it. If an operator has asked to
    /// skip it meanwhile, the cause of its dead letter.
    pub(crate) fn hold(
        &mut self,
        tag: u64,
        mut row: HeldRow,
        holding: &Holding,
        now: Instant,
    ) -> Result<HeldRow, Cause> {
        if let Some(before) = self.messages.get(&row.known.seq) {
            row.known.times = before.known.times;
            if let Some(Wish::Skip(reason)) = &before.known.wish {
                return Err(skipped(reason, &row.known));
            }
        }
        row.known.times = row.known.times.saturating_add(1);
        row.pause = holding
            .pause
            .unwrap_or_else(|| PAUSES.pause(row.known.times));
        let until = row.known.retries.then(|| now + row.pause);
        let message = HeldMessage {
            known: row.known.clone(),
            stage: Stage::Waiting(tag, until),
        };
        self.messages.insert(row.known.seq, message);
        self.writes.push(HeldWrite::Save(Box::new(row.clone())));
        Ok(row)
    }

    /// The turn of a message has come.
    pub(crate) fn turn(&mut self, seq: i64, tag: u64) -> Turn {
        let Some(message) = self.messages.get_mut(&seq) else {
            return Turn::Go;
        };
        if let Some(Wish::Skip(reason)) = &message.known.wish {
            return Turn::Skip(skipped(reason, &message.known));
        }
        let is_known = message.stage == Stage::Known;
        if is_known && !message.known.retries && message.known.wish != Some(Wish::Retry) {
            message.stage = Stage::Waiting(tag, None);
            return Turn::Wait(message.known.attempts);
        }
        message.stage = Stage::Trying;
        match message.known.wish {
            Some(Wish::Retry) => Turn::Retry,
            _ => Turn::Go,
        }
    }

    /// The messages that are to be tried now, by their tags.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<u64> {
        let mut due = Vec::new();
        for message in self.messages.values_mut() {
            if let Stage::Waiting(tag, Some(until)) = message.stage
                && until <= now
            {
                message.stage = Stage::Trying;
                due.push(tag);
            }
        }
        due
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        let until = |message: &HeldMessage| match message.stage {
            Stage::Waiting(_, until) => until,
            Stage::Known | Stage::Trying => None,
        };
        self.messages.values().filter_map(until).min()
    }

    /// An operator wishes something. Returns the tag of the message if its turn comes now.
    pub(crate) fn wish(&mut self, seq: i64, wish: Wish) -> Option<u64> {
        let message = self.messages.get_mut(&seq)?;
        if wish == Wish::Retry {
            self.writes.push(HeldWrite::Heard(seq));
        }
        let is_retry = wish == Wish::Retry;
        match message.stage {
            Stage::Waiting(tag, _) => {
                message.stage = Stage::Trying;
                message.known.wish = Some(wish);
                Some(tag)
            }
            // It is being tried. If that fails, it is skipped.
            Stage::Trying if is_retry => None,
            Stage::Known | Stage::Trying => {
                message.known.wish = Some(wish);
                None
            }
        }
    }

    /// A message is done. False if it was not held.
    pub(crate) fn end(&mut self, seq: i64) -> bool {
        let ended = self.messages.remove(&seq);
        let lane = ended.map(|message| message.known.lane);
        self.ended.extend(lane.map(|lane| (seq, lane)));
        lane.is_some()
    }

    /// The progress is written, so the rows of what is done are no longer needed.
    pub(crate) fn committed(&mut self) {
        for (seq, _) in std::mem::take(&mut self.ended) {
            self.remove_row(seq);
        }
    }

    /// The letter of a message is refused, so the message is open again, and its row stays. What waited for its topic
    /// goes on all the same, in other members as here.
    pub(crate) fn keep_row(&mut self, seq: i64) {
        let before = self.refused.len();
        self.refused
            .extend(self.ended.extract_if(.., |(of, _)| *of == seq));
        if self.refused.len() == before {
            return;
        }
        for write in &mut self.writes {
            if let HeldWrite::Save(row) = write
                && row.known.seq == seq
            {
                row.known.hold = Hold::Key;
            }
        }
        self.writes.push(HeldWrite::Open(seq));
    }

    /// The letter of a message is taken after all. Its row is removed with the next progress.
    pub(crate) fn end_row(&mut self, seq: i64) {
        self.ended
            .extend(self.refused.extract_if(.., |(of, _)| *of == seq));
    }

    /// A message whose letter is refused is left to the next owner of its lane, with its row.
    pub(crate) fn leave_row(&mut self, seq: i64) {
        self.refused.retain(|(of, _)| *of != seq);
    }

    /// Forgets the messages of a lane that no handler has: another member will have them. With `all` also those that a
    /// handler has, and those that were done and whose progress was not written. Returns their sequence numbers, and their tags if they were taken.
    pub(crate) fn forget(&mut self, lane: LaneId, all: bool) -> Vec<(i64, Option<u64>)> {
        let mut forgotten = Vec::new();
        if all {
            self.ended.retain(|(_, of)| *of != lane);
            self.refused.retain(|(_, of)| *of != lane);
            self.writes
                .retain(|write| !matches!(write, HeldWrite::Save(row) if row.known.lane == lane));
        }
        self.messages.retain(|seq, message| {
            if message.known.lane != lane || message.stage == Stage::Trying && !all {
                return true;
            }
            let tag = match message.stage {
                Stage::Waiting(tag, _) => Some(tag),
                Stage::Known | Stage::Trying => None,
            };
            forgotten.push((*seq, tag));
            false
        });
        forgotten
    }

    /// What is to be written next, so many at most. A row goes only if it `may_go`; the others wait.
    pub(crate) fn take_writes(
        &mut self,
        most: usize,
        may_go: impl Fn(&KnownHeld) -> bool,
    ) -> Vec<HeldWrite> {
        let goes = |write: &mut HeldWrite| goes(write, &may_go);
        self.writes.extract_if(.., goes).take(most).collect()
    }

    /// These could not be written, and come before all others.
    pub(crate) fn put_back(&mut self, writes: Vec<HeldWrite>) {
        self.writes.splice(..0, writes);
    }

    /// Whether there is anything to write, of the rows those that `may_go`.
    pub(crate) fn has_writes(&self, may_go: impl Fn(&KnownHeld) -> bool) -> bool {
        self.writes.iter().any(|write| goes(write, &may_go))
    }

    /// Whether rows about messages of a lane are not written yet.
    pub(crate) fn has_rows(&self, lane: LaneId) -> bool {
        let is_row =
            |write: &HeldWrite| matches!(write, HeldWrite::Save(row) if row.known.lane == lane);
        self.writes.iter().any(is_row)
    }
}

fn goes(write: &HeldWrite, may_go: impl Fn(&KnownHeld) -> bool) -> bool {
    match write {
        HeldWrite::Save(row) => may_go(&row.known),
        HeldWrite::Remove(_) | HeldWrite::Heard(_) | HeldWrite::Open(_) => true,
    }
}

fn skipped(reason: &str, known: &KnownHeld) -> Cause {
    let reason = format!(
        "skipped by an operator: {reason}; it was held: {}",
        known.reason
    );
    Cause::new(reason, known.attempts)
}
