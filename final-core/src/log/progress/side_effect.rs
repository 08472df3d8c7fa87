//! What is done with one settled message besides counting it.

use super::letter::LetterDraft;

/// What is to be done with one message, together with the progress that says it is settled.
#[derive(Clone, Debug)]
pub(crate) enum SideEffect {
    /// Put it to the group's dead letters.
    DeadLetter(i64, LetterDraft),
    /// Give it to the group again, at the end of another lane.
    Requeue(i64, usize),
}

impl SideEffect {
    pub(crate) fn seq(&self) -> i64 {
        match self {
            Self::DeadLetter(seq, _) | Self::Requeue(seq, _) => *seq,
        }
    }
}
