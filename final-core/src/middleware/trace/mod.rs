//! Middleware that gives every attempt a [`tracing`] span and tells how it ended.
//!
//! The span is called `consume`, has the target `final::consume` and the level INFO, and has the fields
//! `topic`, `message_id`, `attempt`, and `traceparent` if the message has that header in the form of the W3C.
//! Everything that the handler logs lies inside it. At the end of the attempt comes one event of the same
//! target, with `elapsed` and
//!
//! | Attempt | Level | Message | Fields |
//! | --- | --- | --- | --- |
//! | done | DEBUG | `handled` | `outcome = Done` |
//! | asked for a retry, or was rejected | WARN | `not handled` | `outcome = Retry` or `Reject` |
//! | failed | WARN | `failed` | `error`, and `permanent` |
//! | was dropped before its end, by a timeout for example | WARN | `dropped before its end` | |
//!
//! Neither payloads nor headers are logged, apart from `traceparent`. Errors are, so a handler should
//! not put a payload into its own.
//!
//! ```
//! use final_core::{Router, middleware::TraceLayer};
//!
//! # async fn send_receipt() {}
//! let router: Router = Router::new()
//!     .route("order.placed", send_receipt)
//!     .layer(TraceLayer::new());
//! # let _ = router;
//! ```

mod future;
mod layer;

use std::task::{Context, Poll};

use tower::Service;
use tracing::{Span, field};

pub use self::{future::ResponseFuture, layer::TraceLayer};
use crate::{BoxError, Message, Outcome};

/// A service whose attempts are traced; made by [`TraceLayer`].
#[derive(Clone, Copy, Debug)]
pub struct Trace<S> {
    inner: S,
}

impl<S> Trace<S> {
    /// Wraps a service.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S> Service<Message> for Trace<S>
where
    S: Service<Message, Response = Outcome, Error: Into<BoxError>>,
{
    type Response = Outcome;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        let span = span(&message);
        let future = span.in_scope(|| self.inner.call(message));
        ResponseFuture::new(future, span)
    }
}

fn span(message: &Message) -> Span {
    let span = tracing::info_span!(
        target: "final::consume",
        "consume",
        topic = message.topic(),
        message_id = %message.id(),
        attempt = message.attempt(),
        traceparent = field::Empty,
    );
    if let Some(parent) = message
        .headers()
        .get("traceparent")
        .filter(|text| is_traceparent(text))
    {
        span.record("traceparent", parent);
    }
    span
}

/// Whether it is `00-<32 hex>-<16 hex>-<2 hex>`. Anything else a publisher may send is not logged.
fn is_traceparent(text: &str) -> bool {
    text.len() == 55
        && text.bytes().enumerate().all(|(at, byte)| match at {
            2 | 35 | 52 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
