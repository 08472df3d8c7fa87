//! The trail of a message: where it is and why.
//!
//! Input: an id. Output: a [`Trail`]: each place that knows the message, in the order of its way.

mod follow;
mod told;

use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::{Letter, Operation, RecordInfo};
use crate::MessageId;

/// Where one message is and why. Its `Display` says it in a few lines.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Trail {
    /// The message's id.
    pub id: MessageId,
    /// The places that know it, in the order of its way. Empty if no place does.
    pub stations: Vec<Station>,
    /// Whether every row was looked at. The log has no index of ids, so in a long one only the rows near the time at
    /// which the id was made, and the newest, are looked at.
    pub is_complete: bool,
}

/// A place that knows a message.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Station {
    /// A record of an outbox.
    #[non_exhaustive]
    Record {
        /// The service that the outbox belongs to.
        service: String,
        /// The record.
        record: RecordInfo,
    },
    /// Among the log's messages that are not due yet.
    #[non_exhaustive]
    Scheduled {
        /// Its topic.
        topic: String,
        /// When it is due.
        due_at: SystemTime,
        /// How long until then.
        due_in: Duration,
        /// The only service that gets it; `None` if every subscriber does.
        recipient: Option<String>,
    },
    /// A row of the log.
    #[non_exhaustive]
    Logged {
        /// Its sequence number.
        seq: i64,
        /// Its lane.
        lane: u32,
        /// Its topic.
        topic: String,
        /// When it was written.
        written_at: SystemTime,
        /// The only service that gets it; `None` if every subscriber does.
        recipient: Option<String>,
    },
    /// A group that gets that row, and how far its lane is.
    #[non_exhaustive]
    Group {
        /// The group.
        group: String,
        /// The row.
        seq: i64,
        /// Its lane.
        lane: u32,
        /// How far the group is with it.
        position: GroupPosition,
        /// The running bus that has the lane, if one does.
        member: Option<Uuid>,
    },
    /// A dead letter.
    Dead(Letter),
    /// A bulk action that names the message.
    Operation(Operation),
}

/// How far a group is with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupPosition {
    /// The lane has not been read so far.
    #[non_exhaustive]
    Waiting {
        /// How far the lane has been read.
        read_to: i64,
    },
    /// It was read and is not settled: a handler has it, or it waits for one.
    Open,
    /// It is settled: handled, or dead-lettered.
    Settled,
}
