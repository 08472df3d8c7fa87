//! The groups of the log and their lanes.
//!
//! Input: the tables of the log. Output: [`LogGroup`]s and [`LogLane`]s.

use std::time::Duration;

use uuid::Uuid;

use super::{Count, desk::Desk, walk::MOST_LOOKED_AT};
use crate::{
    OutboxDatabase,
    database::{DbResult, Value, columns, limits::duration},
    log::{Spans, unread},
};

/// A service that reads the log, and how far it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogGroup {
    /// The service.
    pub name: String,
    /// The topics that it has subscribed.
    pub topics: Vec<String>,
    /// Messages that no instance of the service has read yet.
    pub waiting: Count,
    /// The age of the oldest message that is not settled: waiting, or in flight.
    pub oldest: Option<Duration>,
    /// Its dead letters in the log.
    pub dead: Count,
    /// Messages that it holds.
    pub held: Count,
    /// Its running buses.
    pub members: u32,
    /// Its lanes.
    pub lanes: u32,
    /// How many of the lanes belong to no running bus.
    pub lanes_without_member: u32,
    /// The log keeps messages above this sequence number for it.
    pub settled_to: i64,
}

/// A lane of a group: who has it, and how far it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogLane {
    /// The group.
    pub group: String,
    /// 0 for the group's own stream; another number for a stream that brings a topic that was added later.
    pub stream: i64,
    /// From 0 to 15.
    pub lane: u32,
    /// The running bus that has it, or had it last.
    pub member: Option<Uuid>,
    /// How long the lease of that bus lasts. `None` if the bus is gone.
    pub lease_left: Option<Duration>,
    /// Grows each time the lane changes its member.
    pub epoch: i64,
    /// How far the lane has been read.
    pub read_to: i64,
    /// Up to where everything is settled.
    pub settled_to: i64,
    /// What lies between and is not settled, as ranges of sequence numbers: `3-5,9`.
    pub open: String,
    /// How many sequence numbers the ranges have.
    pub open_count: u64,
    /// How many messages of the lane were not read yet.
    pub waiting: Count,
}

/// How many topics of a group are named.
const MOST_TOPICS: i64 = 1_000;

columns! {
    /// A lane as it is read.
    struct LogLaneRow {
        stream: i64,
        number: i64,
        member: Option<Uuid>,
        lease_left: Option<i64>,
        epoch: i64,
        read_to: i64,
        settled_to: i64,
        open_seqs: String,
    }
}

/// What waits for a group.
struct Waiting {
    count: Count,
    /// How many of the counted ones are in each lane.
    by_lane: Vec<(i64, i64)>,
    oldest: Option<i64>,
}

impl<DB: OutboxDatabase> Desk<DB> {
    /// A group of the log, and its lanes. The group is one of those that there are.
    pub(super) async fn group(&self, name: &str) -> DbResult<(LogGroup, Vec<LogLane>)> {
        let group = [Value::from(name)];
        let topics =
            "SELECT DISTINCT topic FROM {topics} WHERE group_name = ? ORDER BY topic LIMIT ?";
        let topics = self
            .rows(topics, &[name.into(), MOST_TOPICS.into()])
            .await?;
        let members = "SELECT COUNT(*) FROM {members} WHERE group_name = ? AND alive_until > {now}";
        let members: i64 = self.first(members, &group).await?.unwrap_or_default();
        let lanes = "SELECT l.stream AS stream, CAST(l.lane AS {int}) AS number, l.member AS member, \
                (SELECT MAX(m.alive_until) - {now} FROM {members} m WHERE m.member = l.member) AS lease_left, \
                l.epoch AS epoch, l.read_to AS read_to, l.settled_to AS settled_to, l.open_seqs AS open_seqs \
            FROM {lanes} l WHERE l.group_name = ? ORDER BY l.stream, l.lane";
        let lanes: Vec<LogLaneRow> = self.rows(lanes, &group).await?;
        let waiting = self.waiting(name, &lanes).await?;
        let dead =
            "SELECT COUNT(*) FROM (SELECT 1 AS one FROM {dead} WHERE group_name = ? LIMIT ?) d";
        let most = i64::try_from(Count::MOST).unwrap_or(i64::MAX) + 1;
        let dead: i64 = self
            .first(dead, &[name.into(), most.into()])
            .await?
            .unwrap_or(0);
        let lanes: Vec<LogLane> = lanes
            .into_iter()
            .map(|row| row.lane(name, &waiting))
            .collect();
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let group = LogGroup {
            name: name.to_owned(),
            topics,
            waiting: waiting.count,
            oldest: waiting.oldest.map(duration),
            dead: Count::capped(dead),
            held: self.held_count(name).await?,
            members: u32::try_from(members).unwrap_or(0),
            lanes: small(lanes.len()),
            lanes_without_member: small(
                lanes
                    .iter()
                    .filter(|lane| lane.lease_left.is_none())
                    .count(),
            ),
            settled_to: lanes.iter().map(|lane| lane.settled_to).min().unwrap_or(0),
        };
        Ok((group, lanes))
    }

    /// What waits for a group, among the first 100,000 rows that one of its lanes has not read.
    async fn waiting(&self, name: &str, lanes: &[LogLaneRow]) -> DbResult<Waiting> {
        let main = lanes.iter().filter(|lane| lane.stream == 0);
        let (read, settled) = (
            main.clone().map(|lane| lane.read_to).min(),
            main.map(|lane| lane.settled_to).min(),
        );
        let (Some(read), Some(settled)) = (read, settled) else {
            return Ok(Waiting {
                count: Count::default(),
                by_lane: Vec::new(),
                oldest: None,
            });
        };
        let group = vec![Value::from(name); 4];
        let (read_end, settled_end) = (self.log_edge(read).await?, self.log_edge(settled).await?);
        let counted = format!(
            "SELECT w.lane, COUNT(*) FROM (SELECT CAST(l.lane AS {{int}}) AS lane {} AND l.seq <= ? LIMIT ?) w \
             GROUP BY w.lane",
            unread("read_to")
        );
        let most = i64::try_from(Count::MOST).unwrap_or(i64::MAX) + 1;
        let mut values = group.clone();
        values.extend([read_end.unwrap_or(i64::MAX).into(), most.into()]);
        let by_lane: Vec<(i64, i64)> = self.rows(&counted, &values).await?;
        let mut count = Count::capped(by_lane.iter().map(|(_, count)| count).sum());
        count.more |= read_end.is_some();
        let oldest = format!(
            "SELECT {{now}} - l.created_at {} AND l.seq <= ? ORDER BY l.seq LIMIT 1",
            unread("settled_to")
        );
        let mut values = group;
        values.push(settled_end.unwrap_or(i64::MAX).into());
        Ok(Waiting {
            count,
            by_lane,
            oldest: self.first(&oldest, &values).await?,
        })
    }

    /// The sequence number of the last row that is looked at behind another one. `None` if there are fewer rows.
    pub(super) async fn log_edge(&self, after: i64) -> DbResult<Option<i64>> {
        let edge = "SELECT seq FROM {log} WHERE seq > ? ORDER BY seq LIMIT 1 OFFSET ?";
        let offset = i64::try_from(MOST_LOOKED_AT).unwrap_or(i64::MAX) - 1;
        self.first(edge, &[after.into(), offset.into()]).await
    }
}

impl LogLaneRow {
    fn lane(self, group: &str, waiting: &Waiting) -> LogLane {
        let counted = waiting
            .by_lane
            .iter()
            .find(|(lane, _)| *lane == self.number);
        let counted = counted
            .filter(|_| self.stream == 0)
            .map_or(0, |(_, count)| *count);
        let open = Spans::parse(&self.open_seqs).unwrap_or_default();
        let sizes = open
            .iter()
            .map(|(first, last)| last.abs_diff(first).saturating_add(1));
        LogLane {
            group: group.to_owned(),
            stream: self.stream,
            lane: u32::try_from(self.number).unwrap_or(u32::MAX),
            member: self.member,
            lease_left: self.lease_left.filter(|left| *left > 0).map(duration),
            epoch: self.epoch,
            read_to: self.read_to,
            settled_to: self.settled_to,
            open_count: sizes.fold(0, u64::saturating_add),
            open: self.open_seqs,
            waiting: Count {
                number: u64::try_from(counted).unwrap_or(0),
                more: waiting.count.more && self.stream == 0,
            },
        }
    }
}
