//! The future of a service that may panic. Input: its future. Output: its result, or [`Panicked`].

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::Panicked;
use crate::BoxError;

pin_project! {
    /// The future of a [`CatchPanic`](super::CatchPanic) service.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F> {
        Running {
            #[pin]
            future: F,
        },
        Panicked {
            // Taken when told.
            error: Option<Panicked>,
        },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn running(future: F) -> Self {
        Self {
            state: State::Running { future },
        }
    }

    pub(super) fn panicked(error: Panicked) -> Self {
        Self {
            state: State::Panicked { error: Some(error) },
        }
    }
}

impl<F, T, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = match self.project().state.project() {
            StateProjection::Running { future } => future,
            StateProjection::Panicked { error } => {
                let error = error
                    .take()
                    .map_or("polled after it was ready".into(), BoxError::from);
                return Poll::Ready(Err(error));
            }
        };
        // A future that panicked is finished, and is only dropped from then on.
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(poll) => poll.map_err(Into::into),
            Err(panic) => Poll::Ready(Err(Panicked::new(&*panic).into())),
        }
    }
}
