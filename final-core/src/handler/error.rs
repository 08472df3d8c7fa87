//! Why a handler failed, and whether to try again.

use std::fmt;

use crate::{BoxError, handler::Permanent};

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
}

impl HandlerError {
    /// A failure that no retry can repair.
    pub fn permanent(error: impl Into<BoxError>) -> Self {
        Self {
            source: bare(error.into()),
            permanent: true,
        }
    }

    /// A failure that is worth another attempt, even where `error` is [`Permanent`].
    pub fn retry(error: impl Into<BoxError>) -> Self {
        Self {
            source: bare(error.into()),
            permanent: false,
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

    /// As layers see it: boxed, and in a [`Permanent`] if it is one.
    pub fn into_boxed(self) -> BoxError {
        if self.permanent {
            Box::new(Permanent(self.source))
        } else {
            self.source
        }
    }
}

/// The error without the mark, so that it is neither marked twice nor marked against its will.
fn bare(error: BoxError) -> BoxError {
    match error.downcast::<Permanent>() {
        Ok(permanent) => permanent.0,
        Err(error) => error,
    }
}

impl<E: Into<BoxError>> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let source = error.into();
        let permanent = Permanent::is_in(&*source);
        Self {
            source: bare(source),
            permanent,
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
    fn retry_takes_the_mark_off() {
        let permanent = HandlerError::permanent("never").into_boxed();
        let boxed = HandlerError::retry(permanent).into_boxed();
        assert!(!Permanent::is_in(&*boxed));
        assert_eq!(boxed.to_string(), "never");
    }
}
