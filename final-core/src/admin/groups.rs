//! The groups of the log and their lanes.
//!
//! Input: the tables of the log. Output: [`LogGroup`]s and [`LogLane`]s.

use std::time::Duration;

use uuid::Uuid;

use super::Count;

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
