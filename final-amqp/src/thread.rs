//! The link's own thread.
//!
//! Input: the tasks of one link. State: a runtime on a thread named `final-amqp`. Output: heartbeats, confirms and
//! acks that go on while a handler blocks every thread of the service's runtime.
//!
//! ```text
//! running ── close, or link and tasks are dropped ──▶ ended: what is left is dropped, the thread ends
//! ```
//!
//! The runtime lives and ends on that thread, so a link can be dropped anywhere, also where blocking is not
//! allowed.

use std::{
    io,
    sync::{Arc, Mutex},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use final_core::broker::{BrokerError, BrokerErrorKind};
use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
    time::timeout,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::AbortOnDropHandle,
};

use crate::lock::lock;

/// The thread's name, as debuggers and `ps -T` show it.
const NAME: &str = "final-amqp";

/// How long closing waits for the thread. Its tasks have ended before.
const END_LIMIT: Duration = Duration::from_secs(2);

/// A thread that runs the tasks of one link.
#[derive(Debug)]
pub(crate) struct LinkThread {
    handle: Handle,
    end: CancellationToken,
    /// `None` once it is joined.
    thread: Mutex<Option<RunningThread>>,
}

#[derive(Debug)]
struct RunningThread {
    join: JoinHandle<()>,
    /// Dropped as the last thing that the thread does.
    ended: oneshot::Receiver<()>,
}

/// Keeps the thread alive: held by the link and by each of its tasks. The thread ends with the last of them.
#[derive(Clone, Debug)]
pub(crate) struct ThreadInUse {
    _end: Arc<DropGuard>,
}

impl LinkThread {
    /// Starts a thread. It ends when the last [`ThreadInUse`] is dropped.
    pub(crate) fn start() -> Result<(Self, ThreadInUse), BrokerError> {
        let failed = |error: io::Error| {
            let text = format!(
                "the thread of the RabbitMQ link cannot be started: {error}; raise the limit of threads or of open files of this process"
            );
            BrokerError::new(BrokerErrorKind::Unreachable, text)
        };
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name(NAME)
            .build()
            .map_err(failed)?;
        let (end, handle) = (CancellationToken::new(), runtime.handle().clone());
        let (ending, ended) = oneshot::channel::<()>();
        let until = end.clone();
        let join = Builder::new().name(NAME.into()).spawn(move || {
            let _ending = ending;
            runtime.block_on(until.cancelled());
            // A lookup of a name can take longer than anything waits for it.
            runtime.shutdown_background();
        });
        let join = join.map_err(failed)?;
        let in_use = ThreadInUse {
            _end: Arc::new(end.clone().drop_guard()),
        };
        let this = Self {
            handle,
            end,
            thread: Mutex::new(Some(RunningThread { join, ended })),
        };
        Ok((this, in_use))
    }

    /// Runs a future there. Dropping the returned one ends it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let running = AbortOnDropHandle::new(self.handle.spawn(future));
        running.await.map_err(|error| {
            let text = format!("a task of the RabbitMQ link failed: {error}");
            BrokerError::new(BrokerErrorKind::Unreachable, text)
        })
    }

    /// Ends the thread, and waits for its end.
    pub(crate) async fn close(&self) {
        self.end.cancel();
        let Some(thread) = lock(&self.thread).take() else {
            return;
        };
        if timeout(END_LIMIT, thread.ended).await.is_ok() {
            // It has nothing left to do. A panic of it was logged by the panic hook.
            let _ = thread.join.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_thread_goes_on_while_the_callers_runtime_is_blocked() {
        let (thread, _in_use) = LinkThread::start().unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let ticking = thread.handle.spawn(async move {
            for n in 0..3 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let name = std::thread::current().name().map(str::to_owned);
                sender.send((n, name)).unwrap();
            }
        });

        // The only thread of the test's runtime waits here.
        for n in 0..3 {
            let tick = receiver.recv_timeout(Duration::from_secs(60)).unwrap();
            assert_eq!(tick, (n, Some(NAME.to_owned())));
        }
        ticking.await.unwrap();
        thread.close().await;
        assert!(thread.thread.lock().unwrap().is_none());
    }

    #[tokio::test]
    async fn the_thread_ends_with_the_last_of_its_users() {
        let (thread, in_use) = LinkThread::start().unwrap();
        let task = in_use.clone();
        let (held, release) = oneshot::channel::<()>();
        thread.handle.spawn(async move {
            let _task = task;
            let _ = release.await;
        });
        let ended = thread.thread.lock().unwrap().take().unwrap().ended;

        drop((thread, in_use));
        held.send(()).unwrap();

        assert!(ended.await.is_err(), "it ended");
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_thread_goes_on() {
        let (thread, _in_use) = LinkThread::start().unwrap();
        let error = thread.run(async { panic!("a bug, on purpose") }).await;
        let error: Result<(), _> = error;
        assert!(error.unwrap_err().to_string().contains("failed"));
        assert_eq!(thread.run(async { 7 }).await.unwrap(), 7);
    }
}
