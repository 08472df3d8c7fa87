//! A handler as a tower service.

use std::{
    fmt,
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tower::Service;

use crate::{BoxError, Message, Outcome, handler::Handler};

/// A [`Handler`] with its state, as a [`Service`] of messages; made by [`Handler::with_state`].
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use final_core::{Message, Outcome, State, handler::Handler};
/// use tower::ServiceExt;
///
/// async fn greet(State(greeting): State<String>) {
///     println!("{greeting}");
/// }
///
/// let service = greet.with_state(String::from("hello"));
/// let outcome = service.oneshot(Message::new("greet", "")).await.unwrap();
/// assert_eq!(outcome, Outcome::Done);
/// # });
/// ```
pub struct HandlerService<H, M, S> {
    handler: H,
    /// Shared, so that a message costs no clone of the whole state.
    state: Arc<S>,
    marker: PhantomData<fn() -> M>,
}

impl<H, M, S> HandlerService<H, M, S> {
    pub(crate) fn new(handler: H, state: Arc<S>) -> Self {
        Self {
            handler,
            state,
            marker: PhantomData,
        }
    }
}

impl<H, M, S> Service<Message> for HandlerService<H, M, S>
where
    H: Handler<M, S>,
    M: 'static,
    S: Send + Sync + 'static,
{
    type Response = Outcome;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Outcome, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, message: Message) -> Self::Future {
        let handler = self.handler.clone();
        let state = Arc::clone(&self.state);
        Box::pin(async move { handler.call(message, &state).await })
    }
}

impl<H: Clone, M, S> Clone for HandlerService<H, M, S> {
    fn clone(&self) -> Self {
        Self::new(self.handler.clone(), Arc::clone(&self.state))
    }
}

impl<H, M, S> fmt::Debug for HandlerService<H, M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerService")
            .field("handler", &std::any::type_name::<H>())
            .finish_non_exhaustive()
    }
}
