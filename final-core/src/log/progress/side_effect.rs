//! What is written for a settled message besides the progress that says that it is settled.
//!
//! Input: a settlement. Output: a dead letter, or a copy of the message for another member or for later. An ack has no
//! side effect.

use std::time::Duration;

use super::letter::LetterDraft;

/// What is written for one message, in the transaction of the progress. Each variant begins with the
/// message's sequence number.
#[derive(Clone, Debug)]
pub(crate) enum SideEffect {
    /// A dead letter of the group.
    DeadLetter(i64, LetterDraft),
    /// The message once more for the group, at the end of that lane.
    Requeue(i64, usize),
    /// The message once more for the group, after that time.
    Postpone(i64, LaterCopy),
}

/// The columns in which the copy of a postponed message differs from the message.
#[derive(Clone, Debug)]
pub(crate) struct LaterCopy {
    /// Its lane. It is another member's if there is one, which may have the handler that is missing here.
    pub(crate) lane: usize,
    /// How long until it is due.
    pub(crate) delay: Duration,
    /// The message's headers, with the notes about its attempts.
    pub(crate) headers: Option<String>,
}

impl SideEffect {
    /// The message's sequence number.
    pub(crate) fn seq(&self) -> i64 {
        match self {
            Self::DeadLetter(seq, _) | Self::Requeue(seq, _) | Self::Postpone(seq, _) => *seq,
        }
    }
}
