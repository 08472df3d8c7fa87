//! Why a handler failed, whether to try again, and when.

use std::{fmt, time::Duration};

use crate::{
    BoxError,
    handler::{Permanent, RetryIn},
};

/// The error of a handler: any error, and whether a retry may help.
///
/// Every error that can be boxed becomes one with `?`: those of the standard library, of `thiserror`
/// and `anyhow`, boxed ones, and plain text. Such a failure is retried. Say
/// [`permanent`](Self::permanent) where trying again is useless; the message is then dead-lettered at once.
///
/// ```
/// use final_core::{HandlerError, Payload};
///
/// async fn charge(Payload(amount): Payload<String>) -> Result<(), HandlerError> {
///     let cents: u64 = amount.parse().map_err(HandlerError::permanent)?; // never retried
///     if cents == 0 {
///         return Err(HandlerError::permanent("nothing to charge"));
///     }
///     std::fs::read("card-terminal")?; // retried
///     Ok(())
/// }
/// # let _ = charge;
/// ```
///
/// It is not a [`std::error::Error`] itself; that is what allows `?` on all of those.
/// [`into_source`](Self::into_source) gives the error inside.
///
/// An `anyhow::Error` hides its type once it is boxed. A handler that has permanent failures therefore
/// returns `Result<(), HandlerError>`, and uses `?` on its `anyhow::Result`s.
#[derive(Debug)]
pub struct HandlerError {
    source: BoxError,
    permanent: bool,
    /// When to try again, if the handler says so.
    retry_in: Option<Duration>,
}

impl HandlerError {
    /// A failure that no retry can repair.
    pub fn permanent(error: impl Into<BoxError>) -> Self {
        Self {
            source: bare(error.into()),
            permanent: true,
            retry_in: None,
        }
    }

    /// A failure that is worth another attempt, even where `error` is [`Permanent`].
    pub fn retry(error: impl Into<BoxError>) -> Self {
        Self {
            source: bare(error.into()),
            permanent: false,
            retry_in: None,
        }
    }

    /// A failure whose next attempt comes after `pause`, in place of the pause that the options say.
    ///
    /// It counts as one of the retries of [`retry_count`](crate::Options::retry_count) and
    /// [`later_retries`](crate::Options::later_retries): when none is left, the message is dead-lettered. A message
    /// that waits for longer than some seconds leaves the queue meanwhile, so `pause` may be hours, and the service
    /// may be restarted.
    ///
    /// ```
    /// use std::time::Duration;
    /// use final_core::{HandlerError, Payload};
    ///
    /// async fn call(Payload(number): Payload<u64>) -> Result<(), HandlerError> {
    ///     if number == 0 {
    ///         // The answer had `Retry-After: 120`.
    ///         return Err(HandlerError::retry_in(Duration::from_secs(120), "too many requests"));
    ///     }
    ///     Ok(())
    /// }
    /// # let _ = call;
    /// ```
    ///
    /// Where a message cannot leave (a key in the key order of the log, the in-process broker), it waits in memory
    /// and at most 20 min.
    pub fn retry_in(pause: Duration, error: impl Into<BoxError>) -> Self {
        Self {
            source: bare(error.into()),
            permanent: false,
            retry_in: Some(pause),
        }
    }

    /// Whether no retry can repair it.
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// The error inside.
    pub fn source(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.source
    }

    /// The error inside, owned.
    pub fn into_source(self) -> BoxError {
        self.source
    }

    /// As layers see it: boxed, and in a [`Permanent`] or a [`RetryIn`] if it is one.
    pub fn into_boxed(self) -> BoxError {
        match (self.permanent, self.retry_in) {
            (true, _) => Box::new(Permanent(self.source)),
            (false, Some(pause)) => Box::new(RetryIn {
                pause,
                error: self.source,
            }),
            (false, None) => self.source,
        }
    }
}

/// The error without the mark, so that it is neither marked twice nor marked against its will.
fn bare(error: BoxError) -> BoxError {
    let error = match error.downcast::<Permanent>() {
        Ok(permanent) => return permanent.0,
        Err(error) => error,
    };
    match error.downcast::<RetryIn>() {
        Ok(retry) => retry.error,
        Err(error) => error,
    }
}

impl<E: Into<BoxError>> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let source = error.into();
        let permanent = Permanent::is_in(&*source);
        let retry_in = RetryIn::find(&*source);
        Self {
            source: bare(source),
            permanent,
            retry_in,
        }
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn any_error_is_retried() {
        #[track_caller]
        fn check(error: impl Into<HandlerError>, text: &str) {
            let error = error.into();
            assert!(!error.is_permanent());
            assert_eq!(error.to_string(), text);
        }

        check("text", "text");
        check(String::from("owned"), "owned");
        check(io::Error::other("typed"), "typed");
        check(BoxError::from("boxed"), "boxed");
        check(HandlerError::retry("itself"), "itself");
    }

    #[test]
    fn permanent_stays_permanent_through_boxes_and_sources() {
        #[derive(Debug, thiserror::Error)]
        #[error("layer")]
        struct Wrapped(#[source] BoxError);

        let boxed = HandlerError::permanent("never").into_boxed();
        assert!(boxed.is::<Permanent>());
        let again = HandlerError::from(Wrapped(boxed));
        assert!(again.is_permanent());
        assert_eq!(again.to_string(), "layer");
        assert!(Permanent::is_in(&*again.into_boxed()));
    }

    #[test]
    fn the_time_of_the_next_attempt_stays_through_boxes_and_sources() {
        #[derive(Debug, thiserror::Error)]
        #[error("layer")]
        struct Wrapped(#[source] BoxError);

        let pause = Duration::from_secs(3600);
        let boxed = HandlerError::retry_in(pause, "closed").into_boxed();
        assert_eq!(boxed.to_string(), "closed");
        let again = HandlerError::from(Wrapped(boxed)).into_boxed();
        assert_eq!(RetryIn::find(&*again), Some(pause));
        let boxed = HandlerError::retry_in(pause, "closed").into_boxed();
        let off = HandlerError::retry(boxed).into_boxed();
        assert_eq!(RetryIn::find(&*off), None);
    }

    #[test]
    fn retry_takes_the_mark_off() {
        let permanent = HandlerError::permanent("never").into_boxed();
        let boxed = HandlerError::retry(permanent).into_boxed();
        assert!(!Permanent::is_in(&*boxed));
        assert_eq!(boxed.to_string(), "never");
    }
}
