//! The future of a traced service. Input: its future and a span. Output: its result, and one event that tells
//! how the attempt ended.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use pin_project_lite::pin_project;
use tracing::Span;

use crate::{BoxError, Outcome, handler::Permanent};

pin_project! {
    /// The future of a [`Trace`](super::Trace) service.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct ResponseFuture<F> {
        #[pin]
        future: F,
        attempt: AttemptSpan,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn new(future: F, span: Span) -> Self {
        let attempt = AttemptSpan {
            span,
            started: Instant::now(),
            ended: false,
        };
        Self { future, attempt }
    }
}

impl<F, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Outcome, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Outcome, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let span = this.attempt.span.clone();
        let _entered = span.enter();
        let result = ready!(this.future.poll(cx)).map_err(Into::into);
        this.attempt.end(&result);
        Poll::Ready(result)
    }
}

/// One attempt, and whether its end has been told.
#[derive(Debug)]
struct AttemptSpan {
    span: Span,
    started: Instant,
    ended: bool,
}

impl AttemptSpan {
    /// Tells the end, inside the span.
    fn end(&mut self, result: &Result<Outcome, BoxError>) {
        self.ended = true;
        let elapsed = self.started.elapsed();
        match result {
            Ok(outcome @ Outcome::Done) => {
                tracing::debug!(target: "final::consume", ?outcome, ?elapsed, "handled");
            }
            Ok(outcome) => {
                tracing::warn!(target: "final::consume", ?outcome, ?elapsed, "not handled");
            }
            Err(error) => {
                let permanent = Permanent::is_in(&**error);
                tracing::warn!(target: "final::consume", %error, permanent, ?elapsed, "failed");
            }
        }
    }
}

impl Drop for AttemptSpan {
    fn drop(&mut self) {
        if !self.ended {
            let elapsed = self.started.elapsed();
            self.span.in_scope(|| {
                tracing::warn!(target: "final::consume", ?elapsed, "dropped before its end");
            });
        }
    }
}
