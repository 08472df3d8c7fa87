//! Work that goes on after its caller has stopped waiting.
//!
//! Input: a future that must not stop half-way, such as a COMMIT. Output: its result for the caller who waits,
//! and its end in any case, once it was begun.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tokio::runtime::Handle;

/// Work that must not stop half-way. The caller who awaits it drives it; dropped, it goes on in a task.
///
/// ```text
///   new ── first poll ──▶ driven by its caller ── ready ──▶ done
///    │                          └── dropped ──▶ driven by a task ──▶ done, the result is dropped
///    └── dropped ──▶ nothing was begun
/// ```
///
/// A task from the start would do as well, but it would cost every transaction two more hops between threads,
/// and only few transactions are dropped half-way.
pub(crate) struct Finishing<T: Send + 'static> {
    /// `None` once the work is done.
    work: Option<BoxFuture<'static, T>>,
    /// Where the work goes on if it is dropped. Known from the first poll on.
    runtime: Option<Handle>,
}

/// The work panicked.
#[derive(Debug)]
pub(crate) struct WorkPanicked;

impl<T: Send + 'static> Finishing<T> {
    #[inline]
    pub(crate) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self {
            // Boxed first, because the future is large and would be copied at every move.
            work: Some(Box::pin(work)),
            runtime: None,
        }
    }
}

impl<T: Send + 'static> Future for Finishing<T> {
    type Output = Result<T, WorkPanicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.runtime.is_none() {
            self.runtime = Some(Handle::current());
        }
        let Some(work) = &mut self.work else {
            return Poll::Ready(Err(WorkPanicked));
        };
        // A panic in the database driver must not unwind into the caller.
        let result = match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => Ok(result),
            Err(_) => Err(WorkPanicked),
        };
        self.work = None;
        Poll::Ready(result)
    }
}

impl<T: Send + 'static> Drop for Finishing<T> {
    fn drop(&mut self) {
        if let (Some(work), Some(runtime)) = (self.work.take(), &self.runtime) {
            drop(runtime.spawn(work));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use tokio::sync::{Notify, oneshot};

    use super::*;

    /// Work that waits to be told, and then says that it is done.
    fn work() -> (
        Finishing<()>,
        Arc<Notify>,
        Arc<AtomicBool>,
        oneshot::Receiver<()>,
    ) {
        let (go, begun) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let (done, is_done) = oneshot::channel();
        let (waiting, beginning) = (Arc::clone(&go), Arc::clone(&begun));
        let work = Finishing::new(async move {
            beginning.store(true, Ordering::Relaxed);
            waiting.notified().await;
            done.send(()).unwrap();
        });
        (work, go, begun, is_done)
    }

    #[tokio::test]
    async fn work_that_was_begun_goes_on_when_it_is_dropped() {
        let (mut work, go, begun, is_done) = work();
        assert!(futures::poll!(&mut work).is_pending());
        assert!(begun.load(Ordering::Relaxed));
        drop(work);
        go.notify_one();
        is_done.await.unwrap();
    }

    #[tokio::test]
    async fn work_that_was_not_begun_never_is() {
        let (work, _, begun, is_done) = work();
        drop(work);
        is_done.await.unwrap_err();
        assert!(!begun.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_panic_is_told_and_not_passed_on() {
        let work = Finishing::new(async { panic!("the driver") });
        let Err(WorkPanicked): Result<(), _> = work.await else {
            panic!("it did not panic");
        };
    }
}
