//! How far one lane of a group has come.
//!
//! Input: visible rows of the lane, settlements, and how far its stream has been read. State: what was taken and
//! what is settled since the last commit. Output: the [`Progress`] to write.
//!
//! ```text
//!   … settled … │ open: in flight, or a gap │ … settled │   not read yet
//!               └ settled_to + 1                read_to ┘
//! ```
//!
//! Everything up to `read_to` is settled, except what is listed as open. A successor needs nothing else: it
//! takes the open messages that are visible, watches the gaps, and reads on. In Kafka's words `settled_to` is
//! the committed offset; `read_to` and the open list say what is done beyond it.
//!
//! ```text
//!   owned ─ drain ─▶ draining: takes nothing ─ nothing in flight ─▶ written as handover ─▶ removed
//!     └───────────── another member has taken it over (a higher epoch) ──────────────────────▲
//! ```

use std::collections::BTreeSet;

use super::{gaps::Gaps, spans::Spans};

/// A lane this process owns. Each sequence number is in one of these states:
///
/// | state | where it is noted |
/// | --- | --- |
/// | not read | above `reached` |
/// | missing | at or below `reached`, and a gap of the stream; in `pending` once it was committed as open |
/// | left open by a predecessor | in `pending`, until it is visible and taken |
/// | in flight | in `in_flight`: at a handler, or waiting for one |
/// | released | in `released`: taken and left to the next owner |
/// | settled, or not of this lane | none of these, at or below `reached`; settled ones above `read_to` are in `recent` |
#[derive(Debug)]
pub(crate) struct Lane {
    /// The fence, Kafka's generation. A member that takes the lane over raises it, and commits with the old
    /// one are refused from then on.
    pub(crate) epoch: i64,
    /// How far the lane has been read, as committed.
    read_to: i64,
    /// How far this lane has been read. Its stream may have gone back since, for another lane.
    reached: i64,
    /// At or below `read_to`, neither settled nor in flight: gaps, and numbers that a predecessor left open.
    pending: Spans,
    /// Above `read_to`, taken since the last commit.
    recent: BTreeSet<i64>,
    /// Taken and not settled.
    in_flight: BTreeSet<i64>,
    /// Taken, and left to the next owner of the lane.
    released: BTreeSet<i64>,
    /// Takes nothing more, and is given away once nothing is in flight.
    draining: bool,
    /// Whether anything was taken or settled since the last commit.
    changed: bool,
    /// Up to this sequence number the owner before may have had messages at its handlers when it ended.
    doubted_to: i64,
}

/// What is written about a lane.
///
/// An example: the lane was read up to 16. Message 4 is in flight, 13 is a gap, 15 is in flight, all others are
/// settled. Then `read_to` is 16, `open` is 4,13,15, and `settled_to` is 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Up to this sequence number everything is settled, except what is open.
    pub(crate) read_to: i64,
    /// Sequence numbers at or below `read_to` that are not settled: in flight, left to the next owner, or
    /// missing.
    pub(crate) open: Spans,
    /// The group needs neither this sequence number nor one below it.
    pub(crate) settled_to: i64,
    /// The part of `open` that is not in flight.
    pending: Spans,
}

impl Progress {
    /// Whether nothing up to that sequence number is left to do.
    pub(crate) fn is_done(&self, end: i64) -> bool {
        self.read_to >= end && self.open.is_empty()
    }
}

impl Lane {
    /// A lane as its row tells.
    pub(crate) fn new(epoch: i64, read_to: i64, open: Spans) -> Self {
        Self {
            epoch,
            read_to,
            reached: read_to,
            pending: open,
            recent: BTreeSet::new(),
            in_flight: BTreeSet::new(),
            released: BTreeSet::new(),
            draining: false,
            changed: false,
            doubted_to: 0,
        }
    }

    /// How far the lane has been read, as committed.
    pub(crate) fn read_to(&self) -> i64 {
        self.read_to
    }

    /// Whether a message is to be done still, by the committed progress and what was taken since.
    pub(crate) fn has_ahead(&self, seq: i64) -> bool {
        seq > self.read_to
            || self.pending.contains(seq)
            || self.in_flight.contains(&seq)
            || self.released.contains(&seq)
    }

    /// Whether the next commit writes for the first time that a message was taken.
    pub(crate) fn awaits_commit(&self, seq: i64) -> bool {
        self.read_to < seq && seq <= self.reached
    }

    /// The owner before has ended without giving the lane back. It has read nothing beyond this sequence number.
    pub(crate) fn doubt(&mut self, up_to: i64) {
        self.doubted_to = up_to;
    }

    /// Whether the owner before may have had a row that this lane takes at a handler when it ended.
    pub(crate) fn doubts(&self, seq: i64) -> bool {
        // What it had settled is not taken again, so all that is taken up to there counts.
        seq <= self.doubted_to
    }

    /// Takes a visible row. False if the group has taken it before.
    ///
    /// Above `read_to` a row is new unless it was taken since the last commit. At or below `read_to` only a
    /// pending row is taken: all others were settled, or are in flight.
    pub(crate) fn take(&mut self, seq: i64) -> bool {
        let takes = if seq > self.read_to {
            self.recent.insert(seq)
        } else {
            self.pending.remove(seq)
        };
        if takes {
            self.in_flight.insert(seq);
            self.changed = true;
        }
        takes
    }

    /// Undoes [`take`](Self::take): the row could not be delivered.
    pub(crate) fn put_back(&mut self, seq: i64) {
        if self.in_flight.remove(&seq) && !self.recent.remove(&seq) {
            self.pending.insert(seq, seq);
        }
    }

    /// A message that was taken is done.
    pub(crate) fn settle(&mut self, seq: i64) {
        self.changed |= self.in_flight.remove(&seq);
    }

    /// A message that was settled since the last commit is open again: the database refuses its side effect.
    pub(crate) fn reopen(&mut self, seq: i64) {
        self.in_flight.insert(seq);
        self.changed = true;
    }

    /// The stream has been read up to this sequence number.
    pub(crate) fn reach(&mut self, seq: i64) {
        if !self.draining {
            self.reached = self.reached.max(seq);
        }
    }

    /// Reads again from the committed progress: with a new topic, rows that were passed over may be for the
    /// group after all.
    pub(crate) fn reread(&mut self) {
        self.reached = self.read_to;
    }

    /// Takes nothing more: the lane is given away once nothing is in flight.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
        self.changed = true;
    }

    /// Leaves a message that no handler has begun to the next owner of the lane.
    pub(crate) fn release(&mut self, seq: i64) {
        if self.in_flight.remove(&seq) {
            self.released.insert(seq);
        }
    }

    /// Whether the lane is being given away.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Whether anything was taken or settled since the last commit.
    pub(crate) fn has_changed(&self) -> bool {
        self.changed
    }

    /// Whether the committed row lags behind: the lane has been read further, or a listed gap has closed.
    pub(crate) fn lags(&self, gaps: &Gaps) -> bool {
        let is_missing = |(start, end)| gaps.cover(start, end);
        self.reached > self.read_to || !self.pending.iter().all(is_missing)
    }

    /// The progress of the lane, with the gaps of its stream.
    pub(crate) fn progress(&self, gaps: &Gaps) -> Progress {
        let read_to = self.reached;
        let mut pending = Spans::default();
        // A number that a predecessor left open stays a gap until it is taken, so the gaps have all such numbers.
        for (start, end) in self.pending.iter().chain([(self.read_to + 1, read_to)]) {
            for (from, to) in gaps.within(start, end) {
                pending.insert(from, to);
            }
        }
        // A message that this lane has taken can be a gap of the stream again: the predecessor of another
        // lane had not seen it yet.
        for seq in self.recent.range(..=read_to) {
            pending.remove(*seq);
        }
        let mut open = pending.clone();
        // Numbers beyond `read_to` need not be listed: a successor reads them with everything after them.
        let taken = self.in_flight.union(&self.released);
        for seq in taken.filter(|seq| **seq <= read_to) {
            open.insert(*seq, *seq);
        }
        Progress {
            read_to,
            settled_to: open.first().map_or(read_to, |first| first - 1),
            open,
            pending,
        }
    }

    /// The progress for the next owner.
    ///
    /// A lane can have settled messages beyond the place to which it has been read: with a new topic it is read
    /// again from its committed progress. They stay settled, and everything else up to the last of them is
    /// listed as open.
    ///
    /// ```text
    ///   read to 10; 12 is settled and 14 in flight  ─▶  read_to 14, open 11,13-14
    /// ```
    pub(crate) fn handover(&self, gaps: &Gaps) -> Progress {
        let mut progress = self.progress(gaps);
        let beyond = progress.read_to + 1;
        if let Some(last) = self.recent.range(beyond..).next_back() {
            progress.open.insert(beyond, *last);
            for seq in self.recent.range(beyond..) {
                if !self.in_flight.contains(seq) && !self.released.contains(seq) {
                    progress.open.remove(*seq);
                }
            }
            progress.read_to = *last;
            progress.settled_to = progress.open.first().map_or(*last, |first| first - 1);
        }
        progress
    }

    /// The progress was written. Settled messages up to its `read_to` need no longer be remembered one by one.
    pub(crate) fn committed(&mut self, progress: Progress) {
        self.recent = self.recent.split_off(&(progress.read_to + 1));
        self.read_to = progress.read_to;
        self.pending = progress.pending;
        self.changed = false;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Another lane came in, whose predecessor still had it for a gap.
    #[test]
    fn what_was_settled_is_not_open_again_because_it_is_noticed_again() {
        let (mut gaps, mut lane) = (Gaps::default(), Lane::new(1, 10, Spans::default()));
        assert!(lane.take(12));
        lane.settle(12);
        lane.reach(13);
        gaps.add(12, 12, Instant::now());

        let progress = lane.progress(&gaps);
        assert_eq!(progress.open.to_string(), "");
        lane.committed(progress);
        assert!(!lane.take(12), "a second time");
    }

    /// New, and left open by a predecessor.
    #[test]
    fn what_was_put_back_is_open_and_can_be_taken_again() {
        let mut open = Spans::default();
        open.insert(5, 5);
        let mut gaps = Gaps::default();
        gaps.add(5, 5, Instant::now());
        let mut lane = Lane::new(1, 10, open);
        for seq in [5, 12] {
            assert!(lane.take(seq));
            gaps.close(seq);
            lane.put_back(seq);
            gaps.add(seq, seq, Instant::now());
        }
        lane.reach(13);

        let progress = lane.progress(&gaps);
        assert_eq!(progress.open.to_string(), "5,12");
        assert!(lane.is_idle());
        assert!(lane.take(5) && lane.take(12));
        assert!(!lane.take(5) && !lane.take(12));
    }
}
