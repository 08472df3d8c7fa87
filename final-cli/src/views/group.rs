//! Groups of the log, and their lanes.

use final_core::admin::{LogGroup, LogLane};
use serde::Serialize;

use super::{CountView, age_text, count_text, ms};
use crate::output::{Cell, Table};

/// A group.
#[derive(Debug, Serialize)]
pub(crate) struct GroupView {
    group: String,
    topics: Vec<String>,
    waiting: CountView,
    oldest_ms: Option<u64>,
    dead: CountView,
    held: CountView,
    members: u32,
    lanes: u32,
    lanes_without_member: u32,
    settled_to: i64,
}

impl From<&LogGroup> for GroupView {
    fn from(group: &LogGroup) -> Self {
        Self {
            group: group.name.clone(),
            topics: group.topics.clone(),
            waiting: group.waiting.into(),
            oldest_ms: ms(group.oldest),
            dead: group.dead.into(),
            held: group.held.into(),
            members: group.members,
            lanes: group.lanes,
            lanes_without_member: group.lanes_without_member,
            settled_to: group.settled_to,
        }
    }
}

/// A list of groups.
pub(crate) fn group_table(groups: &[LogGroup]) -> Table {
    let mut table = Table::new(&[
        "group",
        ">waiting",
        ">oldest",
        ">dead",
        ">held",
        ">members",
        ">lanes",
        ">without member",
        ">settled to",
        "topics",
    ]);
    for group in groups {
        table.row([
            group.name.as_str().into(),
            count_text(group.waiting).into(),
            age_text(group.oldest).into(),
            Cell::new(count_text(group.dead)).bad(!group.dead.is_zero()),
            Cell::new(count_text(group.held)).bad(!group.held.is_zero()),
            Cell::new(group.members.to_string()).bad(group.members == 0),
            group.lanes.to_string().into(),
            Cell::new(group.lanes_without_member.to_string()).bad(group.lanes_without_member > 0),
            group.settled_to.to_string().into(),
            group.topics.join(", ").into(),
        ]);
    }
    table
}

/// A lane of a group.
#[derive(Debug, Serialize)]
pub(crate) struct LaneView {
    group: String,
    stream: i64,
    lane: u32,
    member: Option<String>,
    lease_left_ms: Option<u64>,
    epoch: i64,
    read_to: i64,
    settled_to: i64,
    open: String,
    open_count: u64,
    waiting: CountView,
}

impl From<&LogLane> for LaneView {
    fn from(lane: &LogLane) -> Self {
        Self {
            group: lane.group.clone(),
            stream: lane.stream,
            lane: lane.lane,
            member: lane.member.map(|member| member.to_string()),
            lease_left_ms: ms(lane.lease_left),
            epoch: lane.epoch,
            read_to: lane.read_to,
            settled_to: lane.settled_to,
            open: lane.open.clone(),
            open_count: lane.open_count,
            waiting: lane.waiting.into(),
        }
    }
}

/// A list of lanes.
pub(crate) fn lane_table(lanes: &[LogLane]) -> Table {
    let mut table = Table::new(&[
        "group",
        ">stream",
        ">lane",
        "member",
        ">lease left",
        ">read to",
        ">settled to",
        ">waiting",
        "open",
    ]);
    for lane in lanes {
        let member = match (lane.member, lane.lease_left) {
            (Some(member), Some(_)) => Cell::new(member.to_string()),
            (Some(member), None) => Cell::new(format!("{member} (gone)")).bad(true),
            (None, _) => Cell::new("none").bad(true),
        };
        table.row([
            lane.group.as_str().into(),
            lane.stream.to_string().into(),
            lane.lane.to_string().into(),
            member,
            age_text(lane.lease_left).into(),
            lane.read_to.to_string().into(),
            lane.settled_to.to_string().into(),
            count_text(lane.waiting).into(),
            lane.open.as_str().into(),
        ]);
    }
    table
}
