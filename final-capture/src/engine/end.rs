//! Why a term has ended.
//!
//! Input: an error of the source or of the position. Output: whether the next term may help, or only a person.

use crate::{
    capture::StopReason, position::PositionError, source::SourceError, target::lots::causes,
};

/// Why a term has ended.
#[derive(Debug)]
pub(super) enum TermEnd {
    /// It was told to.
    Told,
    /// Trying again may help: the source or the position is away.
    Away(String),
    /// Another reader has taken over, or the lease ran out.
    Deposed,
    /// Only a person helps.
    Stopped(StopReason),
}

impl From<PositionError> for TermEnd {
    fn from(error: PositionError) -> Self {
        match error {
            PositionError::Deposed => Self::Deposed,
            PositionError::Unreadable(text) => Self::Stopped(StopReason::Position(text)),
            error => Self::Away(causes(&error)),
        }
    }
}

impl From<SourceError> for TermEnd {
    fn from(error: SourceError) -> Self {
        match StopReason::of(error) {
            Ok(reason) => Self::Stopped(reason),
            Err(error) => Self::Away(causes(&error)),
        }
    }
}
