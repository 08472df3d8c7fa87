//! The result of one attempt, and the types that can be turned into it.

use std::{error::Error as StdError, fmt, time::Duration};

use crate::{BoxError, HandlerError};

/// The result of one attempt.
///
/// An `Err` of the service means the same as [`Retry`](Self::Retry), with a reason; an `Err` that is
/// [`Permanent`] means the same as [`Reject`](Self::Reject).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Done: the broker may forget the message.
    Done,
    /// Failed: try again, and dead-letter the message when the retries are used up.
    Retry,
    /// Failed for good: dead-letter the message now.
    Reject,
}

/// A failure that no retry can repair, as layers see it.
///
/// Handlers say [`HandlerError::permanent`]; between layers, where every error is a [`BoxError`], such
/// a failure is one of this type, or has one among its sources.
///
/// ```
/// use final_core::{BoxError, handler::Permanent};
///
/// let error: BoxError = Permanent("no such customer".into()).into();
///
/// assert_eq!(error.to_string(), "no such customer");
/// assert!(Permanent::is_in(&*error));
/// ```
#[derive(Debug)]
pub struct Permanent(pub BoxError);

impl Permanent {
    /// Whether `error` is permanent, or was caused by an error that is.
    ///
    /// Layers that wrap errors in their own therefore do not turn a permanent failure into one that
    /// is retried, as long as they keep it as their `source`.
    pub fn is_in(error: &(dyn StdError + 'static)) -> bool {
        chain(error).any(|error| error.is::<Self>())
    }
}

/// The error and its causes.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    // Sources are not nested deeper on purpose, and an error that is its own source must not hang the bus.
    const DEEPEST: usize = 32;
    std::iter::successors(Some(error), |&error| error.source()).take(DEEPEST)
}

/// A failure whose next attempt comes after a given time, as layers see it.
///
/// Handlers say [`HandlerError::retry_in`]; between layers, where every error is a [`BoxError`], such a failure is
/// one of this type, or has one among its sources.
///
/// ```
/// use std::time::Duration;
/// use final_core::{BoxError, handler::RetryIn};
///
/// let hour = Duration::from_secs(3600);
/// let error: BoxError = RetryIn { pause: hour, error: "the shop is closed".into() }.into();
///
/// assert_eq!(error.to_string(), "the shop is closed");
/// assert_eq!(RetryIn::find(&*error), Some(hour));
/// ```
#[derive(Debug)]
pub struct RetryIn {
    /// How long to wait.
    pub pause: Duration,
    /// What went wrong.
    pub error: BoxError,
}

impl RetryIn {
    /// The pause that `error` asks for, or an error that caused it. The outermost counts.
    pub fn find(error: &(dyn StdError + 'static)) -> Option<Duration> {
        chain(error).find_map(|error| error.downcast_ref::<Self>().map(|this| this.pause))
    }
}

impl fmt::Display for RetryIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl StdError for RetryIn {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

impl fmt::Display for Permanent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Permanent {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

/// What a handler may return: `()`, [`Outcome`], or a `Result` of these whose error is
/// [`Into<HandlerError>`](HandlerError), which every error is.
///
/// ```
/// use final_core::{Outcome, handler::IntoOutcome};
///
/// assert_eq!(().into_outcome()?, Outcome::Done);
/// assert_eq!(Ok::<_, std::io::Error>(Outcome::Reject).into_outcome()?, Outcome::Reject);
/// assert!(Err::<(), _>("mail server is away").into_outcome().is_err());
/// # Ok::<_, final_core::BoxError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what a handler may return",
    label = "not the result of a handler",
    note = "return `()`, `Outcome`, `Result<(), E>` or `Result<Outcome, E>`, where `E` is any error"
)]
pub trait IntoOutcome {
    /// The outcome, or the error boxed; one that is permanent as a [`Permanent`].
    fn into_outcome(self) -> Result<Outcome, BoxError>;
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Result<Outcome, BoxError> {
        Ok(Outcome::Done)
    }
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Result<Outcome, BoxError> {
        Ok(self)
    }
}

impl<T: IntoOutcome, E: Into<HandlerError>> IntoOutcome for Result<T, E> {
    fn into_outcome(self) -> Result<Outcome, BoxError> {
        match self {
            Ok(value) => value.into_outcome(),
            Err(error) => Err(error.into().into_boxed()),
        }
    }
}
