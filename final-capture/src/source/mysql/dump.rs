//! The task that reads the server's stream.
//!
//! Input: a connection that asks for the stream. State: the stream, and a window of bytes that nobody has taken yet.
//! Output: batches of checked events, and at the end why it has ended. The task never waits for anything but the
//! server and its taker, and it ends with the [`Dump`].

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    checksum::checked,
    ended::Ended,
    patience::Patience,
    raw::{Meaning, RawEvent},
};

/// How many bytes may wait for their taker. A larger event waits alone.
const WINDOW: usize = 4 << 20;
/// A batch is handed over when it has so many bytes.
const BATCH: usize = 128 << 10;
/// How many batches may wait. Their bytes are what limits them.
const BATCHES: usize = 1024;
/// How long the server may take to let the connection go.
const FAREWELL: Duration = Duration::from_secs(2);

/// Some events, with their share of the window.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) events: Vec<RawEvent>,
    share: OwnedSemaphorePermit,
}

impl Batch {
    /// Takes the events out. Their share of the window is free again.
    pub(super) fn take(self) -> Vec<RawEvent> {
        drop(self.share);
        self.events
    }
}

/// The task's end that events come out of.
#[derive(Debug)]
pub(super) struct Dump {
    batches: mpsc::Receiver<Result<Batch, Ended>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Dump {
    /// Asks for the stream from that place in a file (no name: by the GTIDs that were set), and reads it.
    pub(super) async fn start(
        conn: Conn,
        server_id: u32,
        file: &str,
        offset: u64,
        (heartbeat, patience): (Duration, Patience),
    ) -> Result<Self, Ended> {
        let request = BinlogStreamRequest::new(server_id)
            .with_filename(file.as_bytes())
            .with_pos(offset);
        let stream = conn.get_binlog_stream(request).await.map_err(Ended::of)?;
        let (sender, batches) = mpsc::channel(BATCHES);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut reading = Reading {
                stream,
                window: Arc::new(Semaphore::new(WINDOW)),
                heartbeat,
                patience,
            };
            let ended = tokio::select! {
                () = stopped.cancelled() => None,
                ended = reading.read(&sender) => ended,
            };
            if let Some(ended) = ended {
                // It may be that nobody takes it any more.
                let _ = sender.send(Err(ended)).await;
            } else {
                let _ = timeout(FAREWELL, reading.stream.close()).await;
            }
        });
        Ok(Self {
            batches,
            stop,
            task,
        })
    }

    /// Waits for the next batch. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Batch, Ended> {
        match self.batches.recv().await {
            Some(batch) => batch,
            // The task has ended without a word: the client library has panicked.
            None => Err(Ended::Unreadable(
                "the client library cannot read it. See the log for its panic".to_owned(),
            )),
        }
    }

    /// Ends the task and waits for its end.
    pub(super) async fn close(mut self) {
        self.stop.cancel();
        self.batches.close();
        // A task that panicked has told so in the log.
        let _ = timeout(2 * FAREWELL, &mut self.task).await;
    }
}

impl Drop for Dump {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Reading {
    stream: BinlogStream,
    window: Arc<Semaphore>,
    heartbeat: Duration,
    patience: Patience,
}

impl Reading {
    /// Reads until the stream ends or nobody takes its events.
    async fn read(&mut self, sender: &mpsc::Sender<Result<Batch, Ended>>) -> Option<Ended> {
        let mut events = Vec::new();
        let mut bytes = 0;
        loop {
            // What is there already joins the batch. Only an empty batch waits.
            let next = if events.is_empty() {
                let limit = self.patience.limit(self.heartbeat);
                match timeout(limit, self.stream.next()).await {
                    Ok(next) => next,
                    Err(_) => {
                        self.patience.is_at_its_end();
                        return Some(Ended::silent(limit));
                    }
                }
            } else if bytes < BATCH
                && let Some(next) = self.stream.next().now_or_never()
            {
                next
            } else {
                if !self.hand_over(&mut events, bytes, sender).await {
                    return None;
                }
                bytes = 0;
                continue;
            };
            let ended = match next {
                Some(Ok(event)) => match checked(&event) {
                    Ok(event) => {
                        if event.meaning() == Meaning::Commit {
                            self.patience.is_restored();
                        }
                        bytes += event.body.len() + size_of::<RawEvent>();
                        events.push(event);
                        continue;
                    }
                    Err(cannot) => Ended::Unreadable(format!(
                        "event of type {}: {}",
                        event.header().event_type_raw(),
                        cannot.0
                    )),
                },
                Some(Err(error)) => Ended::of(error),
                None => Ended::Away("the source has ended the stream".into()),
            };
            // What came before the end counts.
            if !events.is_empty() && !self.hand_over(&mut events, bytes, sender).await {
                return None;
            }
            return Some(ended);
        }
    }

    async fn hand_over(
        &self,
        events: &mut Vec<RawEvent>,
        bytes: usize,
        sender: &mpsc::Sender<Result<Batch, Ended>>,
    ) -> bool {
        let share = u32::try_from(bytes.min(WINDOW)).unwrap_or(u32::MAX);
        let Ok(share) = Arc::clone(&self.window).acquire_many_owned(share).await else {
            return false;
        };
        let batch = Batch {
            events: std::mem::take(events),
            share,
        };
        sender.send(Ok(batch)).await.is_ok()
    }
}
