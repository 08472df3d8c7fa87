//! One attempt: the whole chain of layers and the handler, once.
//!
//! Input: a route and a message. Output: the [`Outcome`], and a reason where it is not done. Every kind of
//! failure ends in one of the three outcomes, also an error, a panic, and a panic while an error is shown.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;

use crate::{
    BoxError, Message, Outcome,
    broker::Cause,
    error::{AnyError, chain, with_causes},
    handler::{Permanent, RetryIn},
    middleware::catch_panic::Panicked,
    router::Route,
    runtime::crew::panic_text,
};

/// How an attempt ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attempted {
    pub(super) outcome: Outcome,
    /// Why it is not done; empty if it is. At most [`Cause::MAX_REASON`] bytes, except for a panic.
    pub(super) reason: String,
    /// The pause before the next attempt, if the handler asks for one.
    pub(super) pause: Option<Duration>,
    /// Whether a layer or the handler panicked.
    pub(super) is_panic: bool,
}

/// Runs the route once. A panic anywhere in it is a failure like any other.
pub(super) async fn attempt(route: &Route, message: Message) -> Attempted {
    // The route catches panics of layers and handlers. This catches what panics while the future or the error
    // is dropped, or while the error is shown.
    let attempted = AssertUnwindSafe(async { Attempted::from(route.attempt(message).await) });
    attempted
        .catch_unwind()
        .await
        .unwrap_or_else(|panic| Attempted {
            is_panic: true,
            ..Attempted::retry(format!("panicked: {}", panic_text(panic.as_ref())))
        })
}

impl Attempted {
    fn retry(reason: String) -> Self {
        Self {
            outcome: Outcome::Retry,
            reason,
            pause: None,
            is_panic: false,
        }
    }

    fn reject(reason: String) -> Self {
        Self {
            outcome: Outcome::Reject,
            reason,
            pause: None,
            is_panic: false,
        }
    }
}

impl From<Result<Outcome, BoxError>> for Attempted {
    fn from(result: Result<Outcome, BoxError>) -> Self {
        match result {
            Ok(Outcome::Done) => Self {
                outcome: Outcome::Done,
                reason: String::new(),
                pause: None,
                is_panic: false,
            },
            Ok(Outcome::Retry) => Self::retry("the handler asked for a retry".to_owned()),
            Ok(Outcome::Reject) => Self::reject("the handler rejected the message".to_owned()),
            Err(error) if Permanent::is_in(error.as_ref()) => Self {
                is_panic: is_panic(error.as_ref()),
                ..Self::reject(reason(error.as_ref()))
            },
            Err(error) => Self {
                pause: RetryIn::find(error.as_ref()),
                is_panic: is_panic(error.as_ref()),
                ..Self::retry(reason(error.as_ref()))
            },
        }
    }
}

/// Whether an error comes from a panic.
fn is_panic(error: &AnyError) -> bool {
    chain(error).any(|error| error.is::<Panicked>())
}

/// The texts of an error and its causes, as far as they fit beside a dead letter.
fn reason(error: &AnyError) -> String {
    Cause::new(with_causes(error, Cause::MAX_REASON), 0).reason
}

#[cfg(test)]
mod tests {
    use std::{fmt, future::ready};

    use tower::{Service, service_fn};

    use super::*;

    /// Runs a route that answers with what `make` makes.
    async fn run(
        make: impl Fn() -> Result<Outcome, BoxError> + Clone + Send + Sync + 'static,
    ) -> Attempted {
        let route = Route::new(service_fn(move |_: Message| ready(make())));
        attempt(&route, Message::new("topic", "payload")).await
    }

    fn done() -> Attempted {
        Ok(Outcome::Done).into()
    }

    fn failed(reason: &str) -> Attempted {
        Attempted::retry(reason.to_owned())
    }

    fn panicked(reason: &str) -> Attempted {
        Attempted {
            is_panic: true,
            ..failed(reason)
        }
    }

    fn rejected(reason: &str) -> Attempted {
        Attempted::reject(reason.to_owned())
    }

    #[derive(Debug, thiserror::Error)]
    #[error("could not send the receipt")]
    struct Outer(#[source] BoxError);

    #[tokio::test]
    async fn outcomes_get_a_reason() {
        assert_eq!(run(|| Ok(Outcome::Done)).await, done());
        assert_eq!(
            run(|| Ok(Outcome::Retry)).await,
            failed("the handler asked for a retry")
        );
        assert_eq!(
            run(|| Ok(Outcome::Reject)).await,
            rejected("the handler rejected the message")
        );
        assert_eq!(run(|| Err("broken".into())).await, failed("broken"));
    }

    #[tokio::test]
    async fn permanent_error_is_rejected() {
        let permanent = || Err(Permanent("never".into()).into());

        assert_eq!(run(permanent).await, rejected("never"));
    }

    #[tokio::test]
    async fn permanent_error_is_found_inside_the_error_of_a_layer() {
        let wrapped = || Err(Outer(Permanent("never".into()).into()).into());

        assert_eq!(
            run(wrapped).await,
            rejected("could not send the receipt: never")
        );
    }

    #[tokio::test]
    async fn reason_tells_the_causes_once() {
        let error = || Err(Outer(Outer("no connection".into()).into()).into());

        assert_eq!(
            run(error).await,
            failed("could not send the receipt: no connection")
        );
    }

    #[tokio::test]
    async fn reason_is_cut_at_a_character() {
        let long = || Err("ä".repeat(2_000).into());

        let attempted = run(long).await;

        assert_eq!(attempted.outcome, Outcome::Retry);
        assert_eq!(attempted.reason.len(), Cause::MAX_REASON);
    }

    #[tokio::test]
    async fn panic_of_a_handler_is_a_failure() {
        let panics = || panic!("out of cheese");

        assert_eq!(run(panics).await, panicked("panicked: out of cheese"));
    }

    #[tokio::test]
    async fn panic_of_a_layer_that_gets_ready_is_a_failure() {
        #[derive(Clone)]
        struct Unready;

        impl Service<Message> for Unready {
            type Response = Outcome;
            type Error = BoxError;
            type Future = std::future::Ready<Result<Outcome, BoxError>>;

            fn poll_ready(
                &mut self,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Result<(), BoxError>> {
                panic!("never ready")
            }

            fn call(&mut self, _: Message) -> Self::Future {
                ready(Ok(Outcome::Done))
            }
        }

        let route = Route::new(Unready);

        assert_eq!(
            attempt(&route, Message::new("topic", "payload")).await,
            panicked("panicked: never ready")
        );
    }

    #[tokio::test]
    async fn panic_while_an_error_is_shown_is_a_failure() {
        #[derive(Debug)]
        struct Unspeakable;

        impl fmt::Display for Unspeakable {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                panic!("no words")
            }
        }

        impl std::error::Error for Unspeakable {}

        assert_eq!(
            run(|| Err(Unspeakable.into())).await,
            panicked("panicked: no words")
        );
    }

    #[tokio::test]
    async fn panic_while_the_handlers_future_is_dropped_is_a_failure() {
        struct Bomb;

        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("on the way out");
            }
        }

        let route = Route::new(service_fn(|_: Message| {
            let bomb = Bomb;
            async move {
                let _bomb = bomb;
                Ok::<_, BoxError>(Outcome::Done)
            }
        }));

        assert_eq!(
            attempt(&route, Message::new("topic", "payload")).await,
            panicked("panicked: on the way out")
        );
    }
}
