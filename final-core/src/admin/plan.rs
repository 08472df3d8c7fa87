//! Plans: what a bulk action would do, before it does it.
//!
//! Input: an [`Action`] and a filter. Output: a [`Plan`]: a count, samples, and a cut-off. It is written down as an
//! operation, which [`Admin::carry_out`](super::Admin::carry_out) carries out later, perhaps in another process.

use std::{fmt, time::SystemTime};

use super::{Count, Letter, RecordFilter, RecordInfo};
use crate::broker::DeadLetterFilter;

/// What is done with many letters or records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Dead letters go back to their service, which alone gets them again, with the same ids.
    Replay,
    /// Failed or unroutable records become pending and due, attempts forgotten.
    Retry,
    /// Dead letters, or failed or unroutable records, are deleted for good.
    Discard,
}

/// `replay`, `retry` or `discard`.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replay => "replay",
            Self::Retry => "retry",
            Self::Discard => "discard",
        })
    }
}

/// What a plan is about: dead letters, or records.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Selection {
    /// Dead letters, of the log and collected ones.
    Letters(DeadLetterFilter),
    /// Records of the outbox: failed ones, unless the filter names [`Unroutable`](super::RecordState::Unroutable).
    Records(RecordFilter),
}

impl From<DeadLetterFilter> for Selection {
    fn from(filter: DeadLetterFilter) -> Self {
        Self::Letters(filter)
    }
}

impl From<&DeadLetterFilter> for Selection {
    fn from(filter: &DeadLetterFilter) -> Self {
        Self::Letters(filter.clone())
    }
}

impl From<RecordFilter> for Selection {
    fn from(filter: RecordFilter) -> Self {
        Self::Records(filter)
    }
}

impl From<&RecordFilter> for Selection {
    fn from(filter: &RecordFilter) -> Self {
        Self::Records(filter.clone())
    }
}

/// One of those that a plan means.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Sample {
    /// A dead letter.
    Letter(Letter),
    /// A record.
    Record(RecordInfo),
}

/// What a bulk action would do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// The number of its operation. 0 if nothing is meant: an empty plan is not written down.
    pub id: i64,
    /// The service.
    pub service: String,
    /// The action.
    pub action: Action,
    /// The filter, as a person reads it.
    pub filter: String,
    /// How many letters or records are meant.
    pub count: Count,
    /// Up to five of them, the first ones.
    pub sample: Vec<Sample>,
    /// What dies or fails after this moment of the database's clock is not touched.
    pub cut_off: SystemTime,
}

/// How quickly a plan is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace(pub(super) u32);

impl Pace {
    /// As quickly as the database can.
    #[must_use]
    pub fn unlimited() -> Self {
        Self(u32::MAX)
    }

    /// So many letters or records in a second at most; 1 at least.
    #[must_use]
    pub fn per_second(number: u32) -> Self {
        Self(number.max(1))
    }
}
