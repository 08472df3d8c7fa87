//! What does not move and why, in words.
//!
//! Input: the parts of an overview. Output: [`NotMoving`]s, the most important first.

use std::{fmt, time::Duration};

use uuid::Uuid;

use super::{Count, LetterSource};

/// Something that does not move, and why. Its `Display` says it in one or two sentences.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum NotMoving {
    /// The tables are older than this release, or missing.
    Schema(super::Schema),
    /// Records that no process will ever send as they are.
    #[non_exhaustive]
    Failed {
        /// How many.
        count: Count,
        /// The error of the first.
        error: String,
    },
    /// A topic to which nothing can be sent.
    #[non_exhaustive]
    Parked {
        /// The topic.
        topic: String,
        /// How many records wait.
        count: Count,
        /// How long the oldest has been due.
        oldest: Duration,
        /// The last answer of the broker, if one is written down.
        reason: Option<String>,
    },
    /// Records are due, and no process has them.
    #[non_exhaustive]
    Due {
        /// How many are pending.
        count: Count,
        /// How long the oldest has been due.
        oldest: Duration,
        /// The last answer of the broker to the oldest, if one is written down.
        error: Option<String>,
    },
    /// A process is gone that had leased records.
    #[non_exhaustive]
    OwnerGone {
        /// The owner of the leases.
        owner: Uuid,
        /// How many records it left.
        records: Count,
    },
    /// Lanes of the group belong to no live member, so their messages wait.
    #[non_exhaustive]
    LanesWithoutMember {
        /// How many lanes.
        lanes: u32,
        /// Of how many.
        of: u32,
        /// How many messages wait.
        waiting: Count,
    },
    /// Messages of the log have waited for long.
    #[non_exhaustive]
    Lag {
        /// How many wait.
        waiting: Count,
        /// How old the oldest unsettled one is.
        oldest: Duration,
    },
    /// Messages that no handler could handle.
    #[non_exhaustive]
    DeadLetters {
        /// Where they are.
        source: LetterSource,
        /// How many.
        count: Count,
        /// How long the oldest has been dead.
        oldest: Option<Duration>,
    },
}

impl fmt::Display for NotMoving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
