//! Handlers: async functions that take what they need from a message.
//!
//! [`Handler`] is what a router takes; [`IntoOutcome`] is what a handler may return; [`HandlerError`] and
//! [`Permanent`] and [`RetryIn`] say whether a failure is retried, and when; [`OnFailure`] says what happens then. [`SubscribeFn`], [`Subscribed`] and [`SubscribedTopic`]
//! are what [`#[subscribe]`](macro@crate::subscribe) makes of a function.

mod error;
mod on_failure;
mod outcome;
mod service;
mod subscribed;

pub use self::{
    error::HandlerError,
    on_failure::{Hold, OnFailure},
    outcome::{IntoOutcome, Outcome, Permanent, RetryIn},
    service::HandlerService,
    subscribed::{SubscribeFn, Subscribed, SubscribedTopic},
};

use crate::{BoxError, FromMessage, Message};

/// An async function that handles messages.
///
/// It is implemented for every `async fn`, and every closure that returns a future, that
///
/// * takes up to 8 arguments, each an [extractor](FromMessage),
/// * returns `()`, an [`Outcome`], or a `Result` of these with any error (see [`IntoOutcome`]),
/// * and whose future is `Send`.
///
/// `M` is a marker made of the arguments, which the compiler finds; `S` is the state of the router.
///
/// ```
/// use final_core::{Key, Payload, Router};
///
/// async fn cancelled(Payload(order): Payload<i64>, Key(key): Key) -> Result<(), std::io::Error> {
///     println!("order {order} of {key:?} was cancelled");
///     Ok(())
/// }
///
/// let router: Router = Router::new().route("order.cancelled", cancelled);
/// # let _ = router;
/// ```
///
/// Arguments are extracted in their order, and the first that fails ends the attempt.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a message handler",
    label = "not a handler for a router with state `{S}`",
    note = "a handler is an `async fn` of up to 8 extractors that returns `()`, `Outcome` or `Result<(), E>`",
    note = "put `#[subscribe(\"topic\")]` on the function and use `Router::subscribe` to learn which argument \
            or result is at fault"
)]
pub trait Handler<M, S>: Clone + Send + Sync + Sized + 'static {
    /// What happens to messages that it cannot handle, where its route says nothing: what the first of its arguments
    /// asks for. `None` if none asks for anything.
    const ON_FAILURE: Option<OnFailure> = None;

    /// Handles one message.
    fn call(
        self,
        message: Message,
        state: &S,
    ) -> impl Future<Output = Result<Outcome, BoxError>> + Send;

    /// Makes a [`tower::Service`] of the handler and its state.
    fn with_state(self, state: S) -> HandlerService<Self, M, S> {
        HandlerService::new(self, state.into())
    }
}

/// Implements `Handler` and `SubscribeFn` for functions with these arguments.
macro_rules! impl_handler {
    ($($arg:ident),*) => {
        // Each argument is named like its type, and a function without arguments needs no message.
        #[allow(non_snake_case, unused_variables)]
        impl<F, Fut, R, S, $($arg,)*> Handler<($($arg,)*), S> for F
        where
            F: FnOnce($($arg,)*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = R> + Send,
            R: IntoOutcome,
            S: Send + Sync + 'static,
            $($arg: FromMessage<S> + Send,)*
        {
            const ON_FAILURE: Option<OnFailure> = {
                let asked = None;
                $(let asked = OnFailure::first(asked, $arg::ON_FAILURE);)*
                asked
            };

            async fn call(self, message: Message, state: &S) -> Result<Outcome, BoxError> {
                $(
                    let $arg = $arg::from_message(&message, state)
                        .await
                        .map_err(HandlerError::into_boxed)?;
                )*
                self($($arg,)*).await.into_outcome()
            }
        }

        impl<F, T, Fut, $($arg,)*> SubscribeFn<($($arg,)*)> for F
        where
            F: Fn($($arg,)*) -> Subscribed<T, Fut>,
            T: SubscribedTopic,
        {
            type Topic = T;
        }
    };
}

impl_handler!();
impl_handler!(T1);
impl_handler!(T1, T2);
impl_handler!(T1, T2, T3);
impl_handler!(T1, T2, T3, T4);
impl_handler!(T1, T2, T3, T4, T5);
impl_handler!(T1, T2, T3, T4, T5, T6);
impl_handler!(T1, T2, T3, T4, T5, T6, T7);
impl_handler!(T1, T2, T3, T4, T5, T6, T7, T8);
