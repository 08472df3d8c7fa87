//! The open stream, as the engine sees it.
//!
//! Input: batches of the task that reads. State: the tasks, and what is known of the server. Output: events.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use futures::future::BoxFuture;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::stream::Batch;
use crate::{
    position::SourcePoint,
    source::{Event, Reader, SourceError, SourceLag},
};

/// An open stream.
pub(super) struct PgReader {
    pub(super) batches: mpsc::UnboundedReceiver<Result<Batch, SourceError>>,
    pub(super) saved: watch::Sender<u64>,
    pub(super) lag: Arc<Lag>,
    pub(super) stop: CancellationToken,
    /// The task that reads, and the one that watches the server.
    pub(super) tasks: Vec<JoinHandle<()>>,
}

/// What the last look at the server said. Negative where it said nothing.
#[derive(Debug)]
pub(super) struct Lag {
    pub(super) retained: AtomicI64,
    pub(super) unread: AtomicI64,
}

impl Default for Lag {
    fn default() -> Self {
        Self {
            retained: AtomicI64::new(-1),
            unread: AtomicI64::new(-1),
        }
    }
}

impl Reader for PgReader {
    fn read<'a>(
        &'a mut self,
        events: &'a mut Vec<Event>,
        most: usize,
    ) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            let ended = || SourceError::Away("the stream has ended".into());
            let mut batch = self.batches.recv().await.ok_or_else(ended)??;
            let mut bytes = 0;
            loop {
                bytes += batch.bytes;
                events.append(&mut batch.events);
                if bytes >= most {
                    return Ok(());
                }
                match self.batches.try_recv() {
                    Ok(Ok(next)) => batch = next,
                    Ok(Err(error)) => return Err(error),
                    Err(_) => return Ok(()),
                }
            }
        })
    }

    fn saved(&mut self, point: &SourcePoint) {
        if let &SourcePoint::Lsn(point) = point {
            self.saved.send_if_modified(|saved| {
                let is_news = point > *saved;
                *saved = point.max(*saved);
                is_news
            });
        }
    }

    fn lag(&self) -> SourceLag {
        let known = |it: &AtomicI64| u64::try_from(it.load(Ordering::Relaxed)).ok();
        SourceLag {
            retained_bytes: known(&self.lag.retained),
            unread_bytes: known(&self.lag.unread),
        }
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        let tasks = std::mem::take(&mut self.tasks);
        self.stop.cancel();
        Box::pin(async move {
            // What was read and not taken is of no use, and would keep the task waiting for room.
            self.batches.close();
            for task in tasks {
                if let Err(error) = task.await
                    && error.is_panic()
                {
                    tracing::error!(target: "final::capture", %error, "a task of the source has panicked");
                }
            }
        })
    }
}

impl Drop for PgReader {
    /// The tasks end by themselves, and say goodbye to the server.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
