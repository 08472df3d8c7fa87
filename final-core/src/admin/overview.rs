//! The overview of a service: what waits, who has it, and what does not move.
//!
//! Input: the outbox and its claims, the log, the dead letters. Output: an [`Overview`].

use std::time::Duration;

use uuid::Uuid;

use super::{Count, LetterSource, LogGroup, NotMoving, Schema};

/// What there is of one service.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Overview {
    /// The service.
    pub service: String,
    /// Its outbox; `None` if it has none.
    pub outbox: Option<OutboxOverview>,
    /// Its group of the log; `None` if it does not read the log.
    pub group: Option<LogGroup>,
    /// Its dead letters, by where they are. Sources without letters are left out.
    pub dead: Vec<DeadCount>,
    /// What does not move and why, the most important first.
    pub not_moving: Vec<NotMoving>,
}

/// What is in an outbox.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OutboxOverview {
    /// The version of its tables.
    pub schema: Schema,
    /// Records that are not yet proven to be with the broker, those in hand included, unroutable ones left out.
    pub pending: Count,
    /// How many of the pending records a process has leased.
    pub in_hand: Count,
    /// Records whose topic has no queue, or is parked for another reason.
    pub unroutable: Count,
    /// Records that can never be sent as they are.
    pub failed: Count,
    /// How long the oldest pending or unroutable record has been due, among the first 10,000 of each.
    pub oldest_due: Option<Duration>,
    /// The topics that have unroutable records: 100 at most.
    pub parked: Vec<ParkedTopic>,
    /// The processes that have leased records, or that are gone and had leased them.
    pub owners: Vec<RecordOwner>,
}

/// A topic to which nothing can be sent now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ParkedTopic {
    /// The topic.
    pub topic: String,
    /// How many of its records wait.
    pub count: Count,
    /// How long the oldest of them has been due.
    pub oldest: Duration,
    /// The last answer of the broker, if one is written down.
    pub reason: Option<String>,
}

/// A process that has leased records.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordOwner {
    /// The owner of the leases. It is new for each bus of each process.
    pub owner: Uuid,
    /// How many records it has.
    pub records: Count,
    /// How long its longest lease lasts. `None` if its leases have run out without a renewal: the process is gone or
    /// stands still, and its records are due again.
    pub left: Option<Duration>,
}

/// How many dead letters there are of one source.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct DeadCount {
    /// Where they are.
    pub source: LetterSource,
    /// How many there are.
    pub count: Count,
    /// How long the oldest of them has been dead, among the first 10,000.
    pub oldest: Option<Duration>,
}
