//! The state of the service.

use crate::{FromMessage, HandlerError, Message};

/// Extracts something of the service, given to [`Router::with_state`](crate::Router::with_state).
///
/// It is the state itself, or whatever can be made of it: a handler that only sends mail takes
/// `State<Mailer>` and need not know the rest. [`FromRef`] says how.
///
/// ```
/// use final_core::{FromRef, Router, State};
///
/// #[derive(Clone)]
/// struct Mailer;
///
/// struct App {
///     mailer: Mailer,
/// }
///
/// impl FromRef<App> for Mailer {
///     fn from_ref(app: &App) -> Self {
///         app.mailer.clone()
///     }
/// }
///
/// async fn send_receipt(State(mailer): State<Mailer>) {}
///
/// let router: Router = Router::new()
///     .route("order.placed", send_receipt)
///     .with_state(App { mailer: Mailer });
/// # let _ = router;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State<T>(pub T);

/// How a part of the state is taken from the whole.
///
/// Every type that is `Clone` can be taken from itself.
#[diagnostic::on_unimplemented(
    message = "a router with state `{T}` has no `{Self}` for its handlers",
    label = "`State<{Self}>` needs a router with such a state",
    note = "give it to the router with `.with_state(..)`, or implement `FromRef<{T}>` for `{Self}`"
)]
pub trait FromRef<T> {
    /// Takes it.
    fn from_ref(state: &T) -> Self;
}

impl<T: Clone> FromRef<T> for T {
    fn from_ref(state: &T) -> Self {
        state.clone()
    }
}

impl<S: Sync, T: FromRef<S>> FromMessage<S> for State<T> {
    async fn from_message(_: &Message, state: &S) -> Result<Self, HandlerError> {
        Ok(Self(T::from_ref(state)))
    }
}
