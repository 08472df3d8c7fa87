//! How far one lane of a group has come.
//!
//! ```text
//!   … settled … │ open: in hand, or a gap │ … settled │   not read yet
//!               └ settled_to + 1                read_to ┘
//! ```
//!
//! Everything up to `read_to` is settled, except what is listed as open. That is all a successor
//! needs: it takes what is open and shows, watches the gaps that do not, and reads on.

use std::collections::BTreeSet;

use super::{gaps::Gaps, spans::Spans};

/// A lane this process owns.
#[derive(Debug)]
pub(crate) struct Lane {
    /// The fence: who takes the lane over raises it, and our commits are refused from then on.
    pub(crate) epoch: i64,
    /// As committed.
    read_to: i64,
    /// How far we have read it. The stream itself may have gone back since, for another lane.
    reached: i64,
    /// At or below `read_to`, and not yet settled or in hand: gaps, and what a predecessor had.
    wanted: Spans,
    /// Above `read_to`, taken since the last commit.
    recent: BTreeSet<i64>,
    /// Taken and not settled.
    in_hand: BTreeSet<i64>,
    /// Taken and put back, for whoever gets the lane.
    left: BTreeSet<i64>,
    /// Takes no more: it is to be given away once nothing is in hand.
    draining: bool,
    /// Whether anything was taken or settled since the last commit.
    changed: bool,
}

/// What is written about a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) read_to: i64,
    pub(crate) open: Spans,
    /// Nobody of the group needs this number or one below it any more.
    pub(crate) settled_to: i64,
    /// What of `open` is not in hand.
    wanted: Spans,
}

impl Progress {
    /// Whether nothing up to there is left to do.
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
            wanted: open,
            recent: BTreeSet::new(),
            in_hand: BTreeSet::new(),
            left: BTreeSet::new(),
            draining: false,
            changed: false,
        }
    }

    pub(crate) fn read_to(&self) -> i64 {
        self.read_to
    }

    /// Takes a row that shows, if nobody of the group has taken it yet.
    pub(crate) fn take(&mut self, number: i64) -> bool {
        let takes = if number > self.read_to {
            self.recent.insert(number)
        } else {
            self.wanted.remove(number)
        };
        if takes {
            self.in_hand.insert(number);
            self.changed = true;
        }
        takes
    }

    /// What was taken is as if it had not been.
    pub(crate) fn put_back(&mut self, number: i64) {
        if self.in_hand.remove(&number) && !self.recent.remove(&number) {
            self.wanted.insert(number, number);
        }
    }

    /// What was taken is done, or put away.
    pub(crate) fn settle(&mut self, number: i64) {
        self.changed |= self.in_hand.remove(&number);
    }

    /// What was settled since the last commit could not be put away: it is open again.
    pub(crate) fn hold(&mut self, number: i64) {
        self.in_hand.insert(number);
        self.changed = true;
    }

    /// The stream has been read up to there.
    pub(crate) fn reach(&mut self, number: i64) {
        if !self.draining {
            self.reached = self.reached.max(number);
        }
    }

    /// What was not taken since the last commit may be ours after all: a topic has been added.
    pub(crate) fn read_again(&mut self) {
        self.reached = self.read_to;
    }

    /// Takes no more: the lane is to be given away once nothing is in hand.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
        self.changed = true;
    }

    /// What was taken and has not begun is left to whoever gets the lane.
    pub(crate) fn leave(&mut self, number: i64) {
        if self.in_hand.remove(&number) {
            self.left.insert(number);
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.in_hand.is_empty()
    }

    pub(crate) fn has_changed(&self) -> bool {
        self.changed
    }

    /// Whether it has been read further than was written, or misses less.
    pub(crate) fn lags(&self, gaps: &Gaps) -> bool {
        let misses_all = |(start, end)| gaps.misses_all(start, end);
        self.reached > self.read_to || !self.wanted.iter().all(misses_all)
    }

    /// How the lane stands, if these are the gaps of its stream.
    pub(crate) fn progress(&self, gaps: &Gaps) -> Progress {
        let read_to = self.reached;
        let mut wanted = Spans::default();
        // What a predecessor left open is a gap until it is taken, so nothing of it is missing here.
        for (start, end) in self.wanted.iter().chain([(self.read_to + 1, read_to)]) {
            for (from, to) in gaps.within(start, end) {
                wanted.insert(from, to);
            }
        }
        // For another lane of ours a predecessor may have left open what we have taken.
        for number in self.recent.range(..=read_to) {
            wanted.remove(*number);
        }
        let mut open = wanted.clone();
        // What lies beyond is read again by whoever comes next, with all before it.
        let taken = self.in_hand.union(&self.left);
        for number in taken.filter(|number| **number <= read_to) {
            open.insert(*number, *number);
        }
        Progress {
            read_to,
            settled_to: open.first().map_or(read_to, |first| first - 1),
            open,
            wanted,
        }
    }

    /// How the lane stands for whoever gets it next. What was settled beyond where we have read, or
    /// begun to read again, is not forgotten: all else up to there is open.
    pub(crate) fn handover(&self, gaps: &Gaps) -> Progress {
        let mut progress = self.progress(gaps);
        let beyond = progress.read_to + 1;
        if let Some(last) = self.recent.range(beyond..).next_back() {
            progress.open.insert(beyond, *last);
            for number in self.recent.range(beyond..) {
                if !self.in_hand.contains(number) && !self.left.contains(number) {
                    progress.open.remove(*number);
                }
            }
            progress.read_to = *last;
            progress.settled_to = progress.open.first().map_or(*last, |first| first - 1);
        }
        progress
    }

    /// The progress was written.
    pub(crate) fn committed(&mut self, progress: Progress) {
        self.recent = self.recent.split_off(&(progress.read_to + 1));
        self.read_to = progress.read_to;
        self.wanted = progress.wanted;
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
        gaps.notice(12, 12, Instant::now());

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
        gaps.notice(5, 5, Instant::now());
        let mut lane = Lane::new(1, 10, open);
        for number in [5, 12] {
            assert!(lane.take(number));
            gaps.resolve(number);
            lane.put_back(number);
            gaps.notice(number, number, Instant::now());
        }
        lane.reach(13);

        let progress = lane.progress(&gaps);
        assert_eq!(progress.open.to_string(), "5,12");
        assert!(lane.is_idle());
        assert!(lane.take(5) && lane.take(12));
        assert!(!lane.take(5) && !lane.take(12));
    }
}
