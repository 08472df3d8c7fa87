//! One handler with all its layers.

use std::{
    fmt,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

use crate::{
    BoxError, Message, Outcome,
    handler::{Hold, OnFailure},
    middleware::catch_panic::CatchPanic,
};

/// A handler within the layers added so far: the service that a [`Layer`](tower::Layer) wraps.
///
/// Readiness passes through it, so that load shedding outside sees a concurrency limit inside.
#[derive(Clone)]
pub struct Route {
    service: BoxCloneSyncService<Message, Outcome, BoxError>,
    on_failure: OnFailure,
}

impl Route {
    pub(crate) fn new<T>(service: T) -> Self
    where
        T: Service<Message, Response = Outcome> + Clone + Send + Sync + 'static,
        T::Error: Into<BoxError> + 'static,
        T::Future: Send + 'static,
    {
        Self {
            service: BoxCloneSyncService::new(service.map_err(Into::into)),
            on_failure: OnFailure::default(),
        }
    }

    /// Says what happens to messages that fail. A layer makes a route anew, so this comes last.
    pub(crate) fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// What waits behind a message that has failed. `None` if such a message goes to the dead letters.
    pub(crate) fn hold(&self) -> Option<Hold> {
        self.on_failure.hold()
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
        self.service.poll_ready(cx)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        self.service.call(message)
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").finish_non_exhaustive()
    }
}
