//! What a handler, or the layers around it, made of a message.

use std::fmt;

use crate::BoxError;

/// The result of one attempt.
///
/// An `Err` of the service means the same as [`Retry`](Self::Retry), with a reason; an `Err` that is
/// [`Permanent`] means the same as [`Reject`](Self::Reject).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done: the broker may forget the message.
    Done,
    /// Failed: try again, and put it away when the retries are used up.
    Retry,
    /// Failed for good: put it away now.
    Reject,
}

/// A failure that no retry can mend, as layers see it.
#[derive(Debug)]
pub struct Permanent(pub BoxError);

impl fmt::Display for Permanent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Permanent {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}
