//! One walk along the log for a group: its own stream, or one that brings a topic that was added later.
//!
//! Input: visible rows in the order of their sequence numbers, and rows of gaps that have become visible. State:
//! the position, the gaps, and the lanes that this member owns. Output: an [`Offer`] for each row, and what is to
//! be written about the lanes.
//!
//! ```text
//!   … read … gap … read … gap … │ not read yet
//!                      position ┘
//! ```
//!
//! All lanes share the position and the gaps, because a page has rows of all of them and an invisible row tells
//! no lane. A lane that comes in behind takes the position back to where it has been read; the lanes that are
//! ahead skip what they have taken before.

use std::{sync::Arc, time::Instant};

use super::{
    gaps::Gaps,
    lane::Lane,
    rows::{Advance, LANES, LaneId, LaneRow, LogRow, RowFilter, Topics},
    spans::Spans,
};

/// With more open gaps than this below the position, nothing further is read.
const MOST_GAPS: usize = 2_000;

/// A stream, as far as this process has lanes of it.
///
/// ```text
///   lane 3  ────────────────────●           read to 900 before its stream went back
///   lane 7  ───────────●                    adopted: its row says 700
///           position 700 ┘─▶ the pages after it are for both; lane 3 skips what it has taken
/// ```
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: i64,
    pub(crate) topics: Topics,
    /// The same topics, as statements take them.
    topic_names: Vec<Arc<str>>,
    /// Up to where the stream has been read. It goes back where a lane comes in that is behind.
    pub(crate) position: i64,
    /// Where it ends, if it does.
    pub(crate) ends_at: Option<i64>,
    /// Sequence numbers that are missing, of all lanes: an invisible row does not tell its lane.
    pub(crate) gaps: Gaps,
    /// Sequence numbers that predecessors of our lanes left open, and that were not looked for yet.
    inherited: Spans,
    /// The lanes of this member, each at its number.
    lanes: [Option<Lane>; LANES],
    /// Whether there may be more to read now.
    pub(crate) has_more: bool,
}

/// What is to be done with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Nothing: the row is not for the group, or the group has taken it before.
    Skip,
    /// Nothing, and it stays a gap: its lane is given away, and the next owner takes it.
    Leave,
    /// The lane has taken it.
    Take,
}

impl Stream {
    /// A stream without lanes: it takes its position from the first one that it adopts.
    pub(crate) fn new(id: i64, ends_at: Option<i64>, topics: Topics) -> Self {
        let mut stream = Self {
            id,
            topics: Topics::new(),
            topic_names: Vec::new(),
            position: i64::MAX,
            ends_at,
            gaps: Gaps::default(),
            inherited: Spans::default(),
            lanes: Default::default(),
            has_more: true,
        };
        stream.set_topics(topics);
        stream
    }

    /// Sets the subscriptions of the stream.
    pub(crate) fn set_topics(&mut self, topics: Topics) {
        self.topic_names = topics.keys().cloned().collect();
        self.topic_names.sort_unstable();
        self.topics = topics;
    }

    /// Takes a lane in as its row tells. The position goes back to where that lane has been read, and its open
    /// numbers are gaps that are looked for before anything else is read.
    pub(crate) fn adopt(&mut self, row: LaneRow) {
        let Some(slot) = self.lanes.get_mut(row.id.lane) else {
            return;
        };
        // An open list that cannot be read counts as: everything above `settled_to` is open.
        let (read_to, open) = match row.open {
            Some(open) => (row.read_to, open),
            None => (row.settled_to, Default::default()),
        };
        let now = Instant::now();
        for (start, end) in open.iter() {
            self.gaps.add(start, end, now);
            self.inherited.insert(start, end);
        }
        self.position = self.position.min(read_to);
        *slot = Some(Lane::new(row.epoch, read_to, open));
        self.has_more = true;
    }

    /// Up to `most` sequence numbers that predecessors left open, in order. Visible ones are taken
    /// before anything else is read.
    pub(crate) fn inherited(&self, most: usize) -> Vec<i64> {
        let seqs = self.inherited.iter().flat_map(|(start, end)| start..=end);
        seqs.take(most).collect()
    }

    /// These numbers were looked for. Numbers that are not visible yet are gaps like any other.
    pub(crate) fn looked_for(&mut self, inherited: &[i64]) {
        for seq in inherited {
            self.inherited.remove(*seq);
        }
    }

    /// Reads again from the committed progress: with a new topic, rows that were passed over may be for the
    /// group after all.
    pub(crate) fn reread(&mut self) {
        for lane in self.lanes.iter_mut().flatten() {
            lane.reread();
            self.position = self.position.min(lane.read_to());
        }
        self.has_more = true;
    }

    /// A lane, if it is one of this member's.
    pub(crate) fn lane(&self, lane: usize) -> Option<&Lane> {
        self.lanes.get(lane)?.as_ref()
    }

    /// A lane, to change it.
    pub(crate) fn lane_mut(&mut self, lane: usize) -> Option<&mut Lane> {
        self.lanes.get_mut(lane)?.as_mut()
    }

    /// Whether a lane of this member is being given away.
    pub(crate) fn is_draining(&self, lane: usize) -> bool {
        self.lane(lane).is_some_and(Lane::is_draining)
    }

    /// Forgets a lane.
    pub(crate) fn remove(&mut self, lane: usize) {
        if let Some(slot) = self.lanes.get_mut(lane) {
            *slot = None;
        }
    }

    /// The lanes this member has.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = (LaneId, &Lane)> {
        let stream = self.id;
        self.lanes
            .iter()
            .enumerate()
            .filter_map(move |(lane, slot)| {
                slot.as_ref().map(|owned| (LaneId { stream, lane }, owned))
            })
    }

    /// Takes no more rows: all lanes are to be given away.
    pub(crate) fn drain_all(&mut self) {
        self.lanes.iter_mut().flatten().for_each(Lane::drain);
    }

    /// The topics, always in the same order.
    pub(crate) fn topic_names(&self) -> &[Arc<str>] {
        &self.topic_names
    }

    /// Whether the next page is to be read. What predecessors left open comes before it. With very many open
    /// gaps below the position some of them have to close first; gaps above it, of a lane that has come
    /// further, close by reading.
    pub(crate) fn can_read(&self) -> bool {
        self.has_more
            && self.inherited.is_empty()
            && self.has_lanes()
            && (self.gaps.len() <= MOST_GAPS
                || self.gaps.within(0, self.position).nth(MOST_GAPS).is_none())
    }

    /// Whether this member has any lane of it.
    pub(crate) fn has_lanes(&self) -> bool {
        self.lanes.iter().any(Option::is_some)
    }

    /// Rows whose payloads are needed.
    pub(crate) fn filter(&self) -> RowFilter<'_> {
        let lanes = self
            .lanes()
            .filter(|(_, lane)| !lane.is_draining())
            .fold(0, |mask, (id, _)| mask | (1 << id.lane));
        RowFilter {
            topics: &self.topic_names,
            lanes,
        }
    }

    /// Decides about a visible row, and closes its gap unless the next owner of its lane needs it.
    pub(crate) fn offer(&mut self, row: &LogRow, group: &str) -> Offer {
        let offer = self.decide(row, group);
        if offer != Offer::Leave {
            self.gaps.close(row.seq);
        }
        offer
    }

    /// Decides by the first line that fits:
    ///
    /// | row | offer |
    /// | --- | --- |
    /// | its lane is not this member's | skip |
    /// | its topic is not subscribed, or starts after it | skip |
    /// | it is for another group alone | skip |
    /// | its lane is being given away | leave |
    /// | the group has taken it before | skip |
    /// | any other | take |
    fn decide(&mut self, row: &LogRow, group: &str) -> Offer {
        let Some(lane) = self.lanes.get_mut(row.lane).and_then(Option::as_mut) else {
            return Offer::Skip;
        };
        let is_subscribed = self
            .topics
            .get(&row.topic)
            .is_some_and(|after| row.seq > *after);
        let is_for_us = row.recipient.as_deref().is_none_or(|only| only == group);
        if !(is_subscribed && is_for_us) {
            return Offer::Skip;
        }
        if lane.is_draining() {
            return Offer::Leave;
        }
        if lane.take(row.seq) {
            Offer::Take
        } else {
            Offer::Skip
        }
    }

    /// A row that was taken could not be delivered: it is looked for again, like a gap.
    pub(crate) fn put_back(&mut self, lane: usize, seq: i64) {
        if let Some(lane) = self.lane_mut(lane) {
            lane.put_back(seq);
            self.gaps.add(seq, seq, Instant::now());
        }
    }

    /// A row that was taken is done.
    pub(crate) fn settle(&mut self, lane: usize, seq: i64) {
        if let Some(lane) = self.lane_mut(lane) {
            lane.settle(seq);
        }
    }

    /// The stream has been read up to this sequence number: every visible row up to it was offered.
    pub(crate) fn reach(&mut self, seq: i64) {
        self.position = seq;
        for lane in self.lanes.iter_mut().flatten() {
            lane.reach(seq);
        }
    }

    /// Adds the numbers between the position and a visible row to the gaps. Up to `trimmed` rows were removed,
    /// and nothing is missing.
    ///
    /// ```text
    ///   position 10, row 14 is visible, trimmed 0   ─▶  11-13 are a gap
    ///   position 10, row 14 is visible, trimmed 12  ─▶  13 is a gap
    /// ```
    pub(crate) fn note_missing(&mut self, before: i64, trimmed: i64) {
        let start = self.position.max(trimmed) + 1;
        if start < before {
            self.gaps.add(start, before - 1, Instant::now());
        }
    }

    /// Closes all gaps up to a sequence number, since their rows were removed. Gaps whose rows are `visible`
    /// stay: they were left to the next owner of their lanes.
    pub(crate) fn close_removed(&mut self, end: i64, visible: &[i64]) {
        let is_left = |seq: &&i64| self.gaps.contains(**seq);
        let left: Vec<i64> = visible.iter().filter(is_left).copied().collect();
        self.gaps.close_up_to(end);
        for seq in left {
            self.gaps.add(seq, seq, Instant::now());
        }
    }

    /// Whether a committed row lags behind what was read, or lists a gap that has closed.
    pub(crate) fn lags(&self) -> bool {
        self.lanes().any(|(_, lane)| lane.lags(&self.gaps))
    }

    /// Adds what there is to write about the lanes, see
    /// [`Streams::advances`](super::streams::Streams::advances).
    ///
    /// A lane is given away if all are, or if it drains and nothing of it is in flight. A lane of a stream that
    /// ends is removed once all of the stream is done.
    pub(crate) fn advances(&self, release: bool, full: bool, advances: &mut Vec<Advance>) {
        for (id, lane) in self.lanes() {
            let goes = release || lane.is_draining() && lane.is_idle();
            if !(goes || lane.has_changed() || full && lane.lags(&self.gaps)) {
                continue;
            }
            let progress = if goes {
                lane.handover(&self.gaps)
            } else {
                lane.progress(&self.gaps)
            };
            let remove = self.ends_at.is_some_and(|end| progress.is_done(end));
            advances.push(Advance {
                id,
                epoch: lane.epoch,
                release: goes,
                remove,
                is_proof: !remove && !goes && progress.read_to > lane.read_to(),
                progress,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(lane: usize, read_to: i64) -> LaneRow {
        LaneRow {
            id: LaneId { stream: 0, lane },
            member: None,
            is_held: false,
            epoch: 1,
            read_to,
            open: Some(Spans::default()),
            settled_to: read_to,
            ends_at: None,
        }
    }

    #[test]
    fn gaps_ahead_of_a_lane_that_comes_in_behind_do_not_keep_it_from_reading() {
        let mut stream = Stream::new(0, None, Topics::new());
        stream.adopt(lane(0, 10_000));
        for seq in (1..).step_by(2).take(MOST_GAPS + 1) {
            stream.gaps.add(seq, seq, Instant::now());
        }
        assert!(!stream.can_read());

        stream.adopt(lane(1, 0));
        assert!(stream.can_read());
    }
}
