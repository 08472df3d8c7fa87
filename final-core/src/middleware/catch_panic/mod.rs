//! Middleware that makes a panic a failure.
//!
//! The attempt then ends with the error [`Panicked`], which has the panic's text, and the message is
//! retried like after any other failure. The panic hook has run by then, so the usual text with file
//! and line is on standard error, or where the service's own hook puts it.
//!
//! The [`Router`](crate::Router) has it around each handler, and the bus around all layers. Adding it
//! makes sense between two layers only, where the outer one should see the failure of the inner one:
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use final_core::{BoxError, Message, Outcome, middleware::CatchPanicLayer};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! let service = ServiceBuilder::new()
//!     .layer(CatchPanicLayer::new())
//!     .service(service_fn(async |message: Message| -> Result<Outcome, BoxError> {
//!         panic!("no handler for {}", message.topic())
//!     }));
//!
//! let error = service.oneshot(Message::new("order.placed", "")).await.unwrap_err();
//! assert_eq!(error.to_string(), "panicked: no handler for order.placed");
//! # });
//! ```
//!
//! Where panics abort (`panic = "abort"` in the profile) nothing can be caught, and the process ends.

mod error;
mod future;
mod layer;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll},
};

use tower::Service;

pub use self::{error::Panicked, future::ResponseFuture, layer::CatchPanicLayer};
use crate::BoxError;

/// A service whose panics are failures; made by [`CatchPanicLayer`].
#[derive(Clone, Copy, Debug)]
pub struct CatchPanic<S> {
    inner: S,
}

impl<S> CatchPanic<S> {
    /// Wraps a service.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, R> Service<R> for CatchPanic<S>
where
    S: Service<R, Error: Into<BoxError>>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // The bus drops a service that failed to become ready; nobody sees a half-changed one.
        match catch_unwind(AssertUnwindSafe(|| self.inner.poll_ready(cx))) {
            Ok(ready) => ready.map_err(Into::into),
            Err(panic) => Poll::Ready(Err(Panicked::new(&*panic).into())),
        }
    }

    fn call(&mut self, request: R) -> Self::Future {
        match catch_unwind(AssertUnwindSafe(|| self.inner.call(request))) {
            Ok(future) => ResponseFuture::running(future),
            Err(panic) => ResponseFuture::panicked(Panicked::new(&*panic)),
        }
    }
}
