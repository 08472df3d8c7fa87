//! One handler with all its layers.

use std::{
    fmt,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

use crate::{BoxError, Message, Outcome, middleware::catch_panic::CatchPanic};

/// A handler within the layers added so far: the service that a [`Layer`](tower::Layer) wraps.
///
/// Readiness passes through it, so that load shedding outside sees a concurrency limit inside.
#[derive(Clone)]
pub struct Route(BoxCloneSyncService<Message, Outcome, BoxError>);

impl Route {
    pub(crate) fn new<T>(service: T) -> Self
    where
        T: Service<Message, Response = Outcome> + Clone + Send + Sync + 'static,
        T::Error: Into<BoxError> + 'static,
        T::Future: Send + 'static,
    {
        Self(BoxCloneSyncService::new(service.map_err(Into::into)))
    }

    /// Runs one attempt: every layer and the handler, once. A panic is an error like others.
    pub(crate) async fn attempt(&self, message: Message) -> Result<Outcome, BoxError> {
        // The handler's panics are caught inside; this catches the panics of layers.
        CatchPanic::new(self.clone()).oneshot(message).await
    }
}

impl Service<Message> for Route {
    type Response = Outcome;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Outcome, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        self.0.call(message)
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").finish_non_exhaustive()
    }
}
