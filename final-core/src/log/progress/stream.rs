//! One walk along the log for a group: its own, or one that brings a topic that was added later.

use std::{sync::Arc, time::Instant};

use super::{
    gaps::Gaps,
    lane::Lane,
    rows::{LANES, LaneId, LaneRow, LogRow, RowFilter, Topics},
    spans::Spans,
};

/// Open gaps beyond which nothing further is read.
const MOST_GAPS: usize = 2_000;

/// A stream, as far as this process has lanes of it.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: i64,
    pub(crate) topics: Topics,
    /// The same, for statements.
    names: Vec<Arc<str>>,
    /// Up to where it has been read. Goes back where a lane comes in that is behind.
    pub(crate) read: i64,
    /// Where it ends, if it does.
    pub(crate) ends_at: Option<i64>,
    pub(crate) gaps: Gaps,
    /// What predecessors of our lanes left open and nobody has looked at yet.
    inherited: Spans,
    lanes: [Option<Lane>; LANES],
    /// Whether there may be more to read now.
    pub(crate) has_more: bool,
}

/// What is to be done with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It is nothing for us, or not any more.
    Pass,
    /// Its lane is being given away: whoever gets it will want the row.
    Leave,
    /// It is ours and taken.
    Take,
}

impl Stream {
    pub(crate) fn new(id: i64, ends_at: Option<i64>, topics: Topics) -> Self {
        let mut stream = Self {
            id,
            topics: Topics::new(),
            names: Vec::new(),
            read: i64::MAX,
            ends_at,
            gaps: Gaps::default(),
            inherited: Spans::default(),
            lanes: Default::default(),
            has_more: true,
        };
        stream.set_topics(topics);
        stream
    }

    pub(crate) fn set_topics(&mut self, topics: Topics) {
        self.names = topics.keys().cloned().collect();
        self.names.sort_unstable();
        self.topics = topics;
    }

    /// Takes a lane in as its row tells. Goes back to where it has been read.
    pub(crate) fn adopt(&mut self, row: LaneRow) {
        let Some(slot) = self.lanes.get_mut(row.id.lane) else {
            return;
        };
        // What cannot be read is taken for: everything not settled by all is open.
        let (read_to, open) = match row.open {
            Some(open) => (row.read_to, open),
            None => (row.settled_to, Default::default()),
        };
        let now = Instant::now();
        for (start, end) in open.iter() {
            self.gaps.notice(start, end, now);
            self.inherited.insert(start, end);
        }
        self.read = self.read.min(read_to);
        *slot = Some(Lane::new(row.epoch, read_to, open));
        self.has_more = true;
    }

    /// Up to `most` numbers that predecessors left open, in order: what shows of them comes before
    /// everything that is read.
    pub(crate) fn inherited(&self, most: usize) -> Vec<i64> {
        let numbers = self.inherited.iter().flat_map(|(start, end)| start..=end);
        numbers.take(most).collect()
    }

    /// Those have been looked at; what did not show is a gap like any other.
    pub(crate) fn looked_at(&mut self, inherited: &[i64]) {
        for number in inherited {
            self.inherited.remove(*number);
        }
    }

    /// Reads again what may be ours after all: topics were added.
    pub(crate) fn read_again(&mut self) {
        for lane in self.lanes.iter_mut().flatten() {
            lane.read_again();
            self.read = self.read.min(lane.read_to());
        }
        self.has_more = true;
    }

    pub(crate) fn lane_mut(&mut self, lane: usize) -> Option<&mut Lane> {
        self.lanes.get_mut(lane)?.as_mut()
    }

    /// Whether a lane of ours is being given away.
    pub(crate) fn is_draining(&self, lane: usize) -> bool {
        let lane = self.lanes.get(lane).and_then(Option::as_ref);
        lane.is_some_and(Lane::is_draining)
    }

    pub(crate) fn remove(&mut self, lane: usize) {
        if let Some(slot) = self.lanes.get_mut(lane) {
            *slot = None;
        }
    }

    /// The lanes we have.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = (LaneId, &Lane)> {
        let stream = self.id;
        self.lanes
            .iter()
            .enumerate()
            .filter_map(move |(lane, slot)| {
                slot.as_ref().map(|owned| (LaneId { stream, lane }, owned))
            })
    }

    /// Takes nothing any more: all lanes are to be given away.
    pub(crate) fn drain_all(&mut self) {
        self.lanes.iter_mut().flatten().for_each(Lane::drain);
    }

    /// The topics, in an order that stays.
    pub(crate) fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Whether the next page is to be read. What a predecessor left comes before it, and with very many
    /// open gaps in what was read some have to close first. Those ahead, of a lane that has come further,
    /// close by reading.
    pub(crate) fn can_read(&self) -> bool {
        self.has_more
            && self.inherited.is_empty()
            && self.has_lanes()
            && (self.gaps.len() <= MOST_GAPS
                || self.gaps.within(0, self.read).nth(MOST_GAPS).is_none())
    }

    pub(crate) fn has_lanes(&self) -> bool {
        self.lanes.iter().any(Option::is_some)
    }

    /// What of a page is wanted.
    pub(crate) fn ours(&self) -> RowFilter<'_> {
        let lanes = self
            .lanes()
            .filter(|(_, lane)| !lane.is_draining())
            .fold(0, |mask, (id, _)| mask | (1 << id.lane));
        RowFilter {
            topics: &self.names,
            lanes,
        }
    }

    /// Decides about a row that shows.
    pub(crate) fn offer(&mut self, row: &LogRow, group: &str) -> Offer {
        let Some(lane) = self.lanes.get_mut(row.lane).and_then(Option::as_mut) else {
            return Offer::Pass;
        };
        let is_subscribed = self
            .topics
            .get(&row.topic)
            .is_some_and(|after| row.seq > *after);
        let is_for_us = row.recipient.as_deref().is_none_or(|only| only == group);
        if !(is_subscribed && is_for_us) {
            return Offer::Pass;
        }
        if lane.is_draining() {
            return Offer::Leave;
        }
        if lane.take(row.seq) {
            Offer::Take
        } else {
            Offer::Pass
        }
    }

    /// What was taken could not be had after all: it is looked for again.
    pub(crate) fn put_back(&mut self, lane: usize, number: i64) {
        if let Some(lane) = self.lane_mut(lane) {
            lane.put_back(number);
            self.gaps.notice(number, number, Instant::now());
        }
    }

    /// The stream has been read up to there; in between were no others that show.
    pub(crate) fn reach(&mut self, number: i64) {
        self.read = number;
        for lane in self.lanes.iter_mut().flatten() {
            lane.reach(number);
        }
    }

    /// Ends all gaps up to a number, since their rows were removed; but for those that show and were
    /// left to whoever gets their lane.
    pub(crate) fn give_up(&mut self, end: i64, shown: &[i64]) {
        let is_left = |number: &&i64| self.gaps.contains(**number);
        let left: Vec<i64> = shown.iter().filter(is_left).copied().collect();
        self.gaps.resolve_up_to(end);
        for number in left {
            self.gaps.notice(number, number, Instant::now());
        }
    }

    /// Notes what is missing before a row that shows.
    pub(crate) fn notice(&mut self, before: i64, trimmed: i64) {
        let start = self.read.max(trimmed) + 1;
        if start < before {
            self.gaps.notice(start, before - 1, Instant::now());
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
        for number in (1..).step_by(2).take(MOST_GAPS + 1) {
            stream.gaps.notice(number, number, Instant::now());
        }
        assert!(!stream.can_read());

        stream.adopt(lane(1, 0));
        assert!(stream.can_read());
    }
}
