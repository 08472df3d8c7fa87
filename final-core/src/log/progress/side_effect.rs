//! What is done with one settled message besides counting it.

use super::letter::Letter;

/// What is to be done with one message, together with the progress that says it is settled.
#[derive(Clone, Debug)]
pub(crate) enum Extra {
    /// Put it to the group's dead letters.
    Bury(i64, Letter),
    /// Give it to the group again, at the end of another lane.
    Again(i64, usize),
}

impl Extra {
    pub(crate) fn seq(&self) -> i64 {
        match self {
            Self::Bury(seq, _) | Self::Again(seq, _) => *seq,
        }
    }
}
