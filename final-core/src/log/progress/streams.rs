//! The streams a member has lanes of.
//!
//! Input: rows of the group's lanes. State: each stream with the lanes that this member owns; a stream without
//! lanes is forgotten. Output: lanes by their id, what is to be written about them, and which of them other
//! members have taken.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{
    lane::Lane,
    rows::{Advance, LANES, LaneId, LaneRow, MAIN, Topics},
    stream::Stream,
};

/// Streams by their id.
#[derive(Debug, Default)]
pub(crate) struct Streams(BTreeMap<i64, Stream>);

impl Streams {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn get(&self, id: i64) -> Option<&Stream> {
        self.0.get(&id)
    }

    /// The group's own stream, if this member has lanes of it.
    pub(crate) fn main(&self) -> Option<&Stream> {
        self.get(MAIN)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.0.values()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.0.values_mut()
    }

    /// The lanes of all streams.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = (LaneId, &Lane)> {
        self.iter().flat_map(Stream::lanes)
    }

    /// A lane, if it is one of this member's.
    pub(crate) fn lane_mut(&mut self, id: LaneId) -> Option<&mut Lane> {
        self.0.get_mut(&id.stream)?.lane_mut(id.lane)
    }

    /// Whether a lane is one of this member's.
    pub(crate) fn has_lane(&self, id: LaneId) -> bool {
        self.get(id.stream)
            .is_some_and(|stream| stream.lane(id.lane).is_some())
    }

    /// Whether a lane is drained, or is no longer one of this member's.
    pub(crate) fn is_leaving(&self, id: LaneId) -> bool {
        let lane = self.get(id.stream).and_then(|stream| stream.lane(id.lane));
        lane.is_none_or(Lane::is_draining)
    }

    /// Takes a lane in as its row tells. `topics` are the subscriptions of its stream.
    pub(crate) fn adopt(&mut self, row: LaneRow, topics: impl FnOnce() -> Topics) {
        let id = row.id.stream;
        self.0
            .entry(id)
            .or_insert_with(|| Stream::new(id, row.ends_at, topics()))
            .adopt(row);
    }

    /// Forgets a lane, and its stream with the last one.
    pub(crate) fn remove(&mut self, id: LaneId) {
        if let Some(stream) = self.0.get_mut(&id.stream) {
            stream.remove(id.lane);
            if !stream.has_lanes() {
                self.0.remove(&id.stream);
            }
        }
    }

    /// There may be new rows for every stream.
    pub(crate) fn mark_more(&mut self) {
        self.iter_mut().for_each(|stream| stream.has_more = true);
    }

    /// Takes no more rows: all lanes are to be given away.
    pub(crate) fn drain_all(&mut self) {
        self.iter_mut().for_each(Stream::drain_all);
    }

    /// Whether a lane of this member is past a message: it is done, or was removed.
    pub(crate) fn is_past(&self, id: LaneId, seq: i64) -> bool {
        let lane = self.get(id.stream).and_then(|stream| stream.lane(id.lane));
        lane.is_some_and(|lane| !lane.has_ahead(seq))
    }

    /// Whether the next commit writes for the first time that a lane of this member has taken a message.
    pub(crate) fn awaits_commit(&self, id: LaneId, seq: i64) -> bool {
        let lane = self.get(id.stream).and_then(|stream| stream.lane(id.lane));
        lane.is_some_and(|lane| lane.awaits_commit(seq))
    }

    /// Makes a message that was taken open again in its lane, so that the lane's next owner gets it.
    pub(crate) fn reopen(&mut self, id: LaneId, seq: i64) {
        if let Some(lane) = self.lane_mut(id) {
            lane.reopen(seq);
        }
    }

    /// A message that was taken is done.
    pub(crate) fn settle(&mut self, id: LaneId, seq: i64) {
        if let Some(lane) = self.lane_mut(id) {
            lane.settle(seq);
        }
    }

    /// Looks for a message again, as if it had not been taken.
    pub(crate) fn put_back(&mut self, id: LaneId, seq: i64) {
        if let Some(stream) = self.0.get_mut(&id.stream) {
            stream.put_back(id.lane, seq);
        }
    }

    /// Whether a committed row lags behind what was read, or lists a gap that has closed.
    pub(crate) fn lag(&self) -> bool {
        self.iter().any(Stream::lags)
    }

    /// What there is to write: lanes that have changed or have drained; with `full` those that lag as well,
    /// with `release` all of them, to be given away.
    pub(crate) fn advances(&self, release: bool, full: bool) -> Vec<Advance> {
        let mut advances = Vec::new();
        for stream in self.iter() {
            stream.advances(release, full, &mut advances);
        }
        advances
    }

    /// The lanes in memory that are not this member's any longer by these rows: another member has them, they
    /// have another epoch, or they are gone.
    pub(crate) fn lost(&self, rows: &[LaneRow], member: Uuid) -> Vec<LaneId> {
        let is_ours = |id: LaneId, epoch: i64| {
            rows.iter()
                .any(|row| row.id == id && row.epoch == epoch && row.member == Some(member))
        };
        self.lanes()
            .filter(|(id, lane)| !is_ours(*id, lane.epoch))
            .map(|(id, _)| id)
            .collect()
    }

    /// The lane that a requeued message goes to: one of another member, or any if this member has all.
    pub(crate) fn lane_for_requeue(&self) -> usize {
        let is_free = |lane: &usize| self.main().is_none_or(|main| main.lane(*lane).is_none());
        let others: Vec<usize> = (0..LANES).filter(is_free).collect();
        fastrand::choice(others).unwrap_or_else(|| fastrand::usize(..LANES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::progress::spans::Spans;

    fn row(stream: i64, lane: usize, member: Uuid, epoch: i64) -> LaneRow {
        LaneRow {
            id: LaneId { stream, lane },
            member: Some(member),
            is_held: true,
            epoch,
            read_to: 0,
            settled_to: 0,
            open: Some(Spans::default()),
            ends_at: None,
        }
    }

    fn streams(member: Uuid, lanes: impl IntoIterator<Item = (i64, usize)>) -> Streams {
        let mut streams = Streams::default();
        for (stream, lane) in lanes {
            streams.adopt(row(stream, lane, member, 7), Topics::new);
        }
        streams
    }

    #[test]
    fn a_stream_is_forgotten_with_its_last_lane() {
        let mut streams = streams(Uuid::now_v7(), [(MAIN, 1), (MAIN, 2), (3, 1)]);
        let lane = |stream, lane| LaneId { stream, lane };

        streams.remove(lane(MAIN, 1));
        assert!(streams.main().is_some() && !streams.has_lane(lane(MAIN, 1)));
        streams.remove(lane(MAIN, 2));
        assert!(streams.main().is_none() && streams.has_lane(lane(3, 1)));
    }

    #[test]
    fn a_lane_of_another_owner_or_another_epoch_is_lost() {
        let (us, another) = (Uuid::now_v7(), Uuid::now_v7());
        let streams = streams(us, (0..4).map(|lane| (MAIN, lane)));
        let rows = [
            row(MAIN, 0, us, 7),
            row(MAIN, 1, another, 7),
            row(MAIN, 2, us, 8),
        ];

        let lost: Vec<usize> = streams
            .lost(&rows, us)
            .into_iter()
            .map(|id| id.lane)
            .collect();
        assert_eq!(lost, [1, 2, 3]);
    }

    #[test]
    fn a_requeued_message_goes_to_a_lane_of_another_member() {
        let all_but_one = (0..LANES).filter(|lane| *lane != 5);
        let streams = streams(Uuid::now_v7(), all_but_one.map(|lane| (MAIN, lane)));

        assert_eq!(streams.lane_for_requeue(), 5);
    }
}
