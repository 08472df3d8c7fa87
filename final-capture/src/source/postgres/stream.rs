//! The task that reads the stream.
//!
//! Input: the server's bytes, and what is saved. State: the socket, the [`Assembler`], how much was handed over and not
//! yet taken. Output: batches of events, and the final error.
//!
//! ```text
//!   decode what is there ─▶ hand over ─▶ wait for bytes, a timer, a newly saved point, the end ─┐
//!           ▲                  │ the reader is slow: wait, and go on telling the server         │
//!           └──────────────────┴────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A task of its own, because the server ends a connection that it does not hear of, also while the target takes
//! minutes for a message.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    assembler::Assembler,
    catalog::Catalog,
    fault,
    pgoutput::{Message, Relation},
    types::{Described, is_built_in},
    wire::{Frames, ServerError, SessionError, Socket, feedback},
};
use crate::source::{Event, SourceError};

/// About so many bytes of the stream go over at once.
const BATCH: usize = 128 << 10;
/// About so many bytes of the stream are handed over and not yet taken. One larger message goes over alone.
const IN_HAND: u32 = 4 << 20;
/// The server hears of us at least this often.
const STATUS: Duration = Duration::from_secs(1);
/// The server hears of newly saved points at most this often.
const CONFIRM: Duration = Duration::from_millis(100);
/// A point without a change is told at most this often, unless the server asks.
const QUIET: Duration = Duration::from_secs(1);
/// How long the catalog may take to tell of a table. The server hears nothing of us meanwhile.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the end may take.
const GOODBYE: Duration = Duration::from_secs(3);

/// Events, and the room that they take until they are taken.
pub(super) struct Batch {
    pub(super) events: Vec<Event>,
    pub(super) bytes: usize,
    pub(super) _room: OwnedSemaphorePermit,
}

/// What the task and the reader both see.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Everything up to here was received.
    pub(super) received: AtomicU64,
}

/// The task's state.
pub(super) struct Stream {
    pub(super) socket: Socket,
    pub(super) frames: Frames,
    pub(super) assembler: Assembler,
    pub(super) catalog: Catalog,
    pub(super) saved: watch::Receiver<u64>,
    pub(super) seen: Arc<Seen>,
    pub(super) out: mpsc::UnboundedSender<Result<Batch, SourceError>>,
    pub(super) room: Arc<Semaphore>,
    pub(super) stop: CancellationToken,
    /// A server that says nothing for so long, although it was asked, is gone.
    pub(super) silence: Duration,
    pub(super) clock: Clock,
}

/// When the stream has to say and to hear something.
pub(super) struct Clock {
    told: Instant,
    /// What was last told as saved.
    confirmed: u64,
    quiet: Instant,
    /// A point without a change that was not told yet.
    pending: Option<u64>,
}

impl Clock {
    pub(super) fn new(confirmed: u64) -> Self {
        let now = Instant::now();
        Self {
            // At once, so that a second reader sees that this one is alive.
            told: now.checked_sub(STATUS).unwrap_or(now),
            confirmed,
            quiet: now.checked_sub(QUIET).unwrap_or(now),
            pending: None,
        }
    }
}

/// Why the task ends.
enum End {
    /// It was told to.
    Stopped,
    /// The reader was dropped.
    Alone,
    Failed(SourceError),
    /// The session failed.
    Broken(SessionError),
}

impl From<SessionError> for End {
    fn from(error: SessionError) -> Self {
        Self::Broken(error)
    }
}

/// Room for what is handed over.
pub(super) fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(IN_HAND as usize))
}

impl Stream {
    /// Reads until the end.
    pub(super) async fn run(mut self) {
        let error = match self.work().await {
            Err(End::Failed(error)) => Some(error),
            Err(End::Broken(error)) => Some(fault::cut(self.assembler.point(), error)),
            Err(End::Stopped | End::Alone) | Ok(()) => None,
        };
        match error {
            // What was read before the error has gone over already.
            Some(error) => {
                let _ = self.out.send(Err(error));
            }
            None => self.say_goodbye().await,
        }
    }

    async fn work(&mut self) -> Result<(), End> {
        let mut events = Vec::new();
        loop {
            let mut bytes = 0;
            let failed = loop {
                match self.next(&mut events).await {
                    Ok(0) => break None,
                    Ok(length) => bytes += length,
                    Err(error) => break Some(error),
                }
                if bytes >= BATCH {
                    self.hand_over(&mut events, &mut bytes).await?;
                }
            };
            self.hand_over(&mut events, &mut bytes).await?;
            if let Some(error) = failed {
                return Err(error);
            }
            self.wait(&mut events).await?;
        }
    }

    /// Takes the next message that is there, and says how long it was; 0 if there is none.
    async fn next(&mut self, events: &mut Vec<Event>) -> Result<usize, End> {
        let Some(frame) = self.frames.first()? else {
            return Ok(0);
        };
        let length = frame.body.len() + 5;
        match frame.tag {
            b'd' => match frame.body.split_first() {
                Some((b'w', rest)) => {
                    let (Some(end), Some(body)) = (number(rest, 8), rest.get(24..)) else {
                        return Err(malformed("a part of the stream is cut off").into());
                    };
                    let unreadable =
                        |error| End::Failed(fault::unreadable(self.assembler.point(), error));
                    let message = Message::decode(body).map_err(unreadable)?;
                    let known = match &message {
                        Message::Relation(relation) => {
                            describe(&self.assembler, &self.catalog, relation).await?
                        }
                        _ => Described::default(),
                    };
                    let taken = self.assembler.take(&message, &known, events);
                    let point = self.assembler.point();
                    taken.map_err(|error| End::Failed(fault::unreadable(point, error)))?;
                    self.seen.received.fetch_max(end, Ordering::Relaxed);
                }
                Some((b'k', rest)) => {
                    let (Some(end), Some(&asks)) = (number(rest, 0), rest.get(16)) else {
                        return Err(malformed("a sign of life is cut off").into());
                    };
                    self.seen.received.fetch_max(end, Ordering::Relaxed);
                    self.clock.pending = Some(end);
                    let is_asked = asks != 0;
                    self.tell_quiet(is_asked, events);
                    if is_asked {
                        self.tell(false).await?;
                    }
                }
                _ => return Err(malformed("a part of the stream is of an unknown kind").into()),
            },
            b'E' => {
                let error = ServerError::parse(frame.body);
                return Err(End::Failed(fault::streaming(self.assembler.point(), error)));
            }
            b'N' => {
                let notice = ServerError::parse(frame.body);
                if let Some(error) = fault::warned(self.assembler.point(), &notice) {
                    return Err(End::Failed(error));
                }
            }
            b'S' => {}
            // The server ends the stream, as it does when it is shut down.
            b'c' | b'C' | b'Z' => return Err(SessionError::Closed.into()),
            other => {
                return Err(malformed(&format!(
                    "a message is of the unknown kind `{}`",
                    other.escape_ascii()
                ))
                .into());
            }
        }
        self.frames.pop();
        Ok(length)
    }

    /// Gives events over. While there is no room, the server goes on hearing of us.
    async fn hand_over(&mut self, events: &mut Vec<Event>, bytes: &mut usize) -> Result<(), End> {
        let size = std::mem::take(bytes);
        if events.is_empty() {
            return Ok(());
        }
        let permits = u32::try_from(size).unwrap_or(IN_HAND).clamp(1, IN_HAND);
        let room = Arc::clone(&self.room).acquire_many_owned(permits);
        tokio::pin!(room);
        let room = loop {
            let due = self.clock.told + STATUS;
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(End::Stopped),
                room = &mut room => match room {
                    Ok(room) => break room,
                    Err(_) => return Err(End::Alone),
                },
                () = self.out.closed() => return Err(End::Alone),
                () = sleep_until(due) => self.tell(false).await?,
            }
        };
        let batch = Batch {
            events: std::mem::take(events),
            bytes: size,
            _room: room,
        };
        self.out.send(Ok(batch)).map_err(|_| End::Alone)
    }

    /// Waits for bytes, and does what the clock says meanwhile.
    async fn wait(&mut self, events: &mut Vec<Event>) -> Result<(), End> {
        // Counted from here: while the reader was slow nothing was listened for.
        let begun = Instant::now();
        loop {
            let saved = *self.saved.borrow_and_update();
            let is_news = saved > self.clock.confirmed;
            let due = self.clock.told + if is_news { CONFIRM } else { STATUS };
            let quiet = self.clock.quiet + QUIET;
            let is_quiet = self.clock.pending.is_some();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(End::Stopped),
                () = self.out.closed() => return Err(End::Alone),
                () = sleep_until(due) => {
                    let silent = begun.elapsed();
                    if silent >= self.silence {
                        return Err(SessionError::Silent(silent).into());
                    }
                    // An answer is asked for when nothing came since we last said something.
                    self.tell(silent >= STATUS).await?;
                }
                () = sleep_until(quiet), if is_quiet => {
                    self.tell_quiet(true, events);
                    return Ok(());
                }
                Ok(()) = self.saved.changed(), if !is_news => {}
                read = self.frames.fill(&mut self.socket) => {
                    return match read? {
                        0 => Err(SessionError::Closed.into()),
                        _ => Ok(()),
                    };
                }
            }
        }
    }

    fn tell_quiet(&mut self, is_asked: bool, events: &mut Vec<Event>) {
        if !is_asked && self.clock.quiet.elapsed() < QUIET {
            return;
        }
        if let Some(point) = self.clock.pending.take() {
            self.clock.quiet = Instant::now();
            self.assembler.quiet(point, events);
        }
    }

    /// Tells the server what was received and what is saved.
    async fn tell(&mut self, asks: bool) -> Result<(), SessionError> {
        let saved = (*self.saved.borrow()).max(self.clock.confirmed);
        let received = self.seen.received.load(Ordering::Relaxed);
        let told = feedback(&mut self.socket, received, saved, asks);
        timeout(self.silence, told)
            .await
            .map_err(|_| SessionError::Silent(self.silence))??;
        self.clock.told = Instant::now();
        self.clock.confirmed = saved;
        Ok(())
    }

    /// Tells what is saved for the last time, and ends the connection.
    async fn say_goodbye(mut self) {
        let goodbye = async {
            self.tell(false).await?;
            // CopyDone. The server sends what it has begun, and then its own.
            self.socket.write_all(b"c\0\0\0\x04").await?;
            self.socket.flush().await?;
            loop {
                while let Some(frame) = self.frames.first()? {
                    let is_ready = frame.tag == b'Z' || frame.tag == b'E';
                    self.frames.pop();
                    if is_ready {
                        self.socket.write_all(b"X\0\0\0\x04").await?;
                        self.socket.shutdown().await?;
                        return Ok(());
                    }
                }
                if self.frames.fill(&mut self.socket).await? == 0 {
                    return Ok(());
                }
            }
        };
        let ended: Result<Result<(), SessionError>, _> = timeout(GOODBYE, goodbye).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::debug!(target: "final::capture", "the stream did not end in good order");
        }
    }
}

/// Asks the catalog about what the stream does not say of a table.
async fn describe(
    assembler: &Assembler,
    catalog: &Catalog,
    relation: &Relation<'_>,
) -> Result<Described, End> {
    if !assembler.wants(relation) {
        return Ok(Described::default());
    }
    let mut types: Vec<_> = relation
        .columns
        .iter()
        .filter(|column| !is_built_in(column.kind))
        .map(|column| (column.kind, column.modifier))
        .collect();
    types.sort_unstable();
    types.dedup();
    let table = relation.is_full.then_some(relation.oid);
    if types.is_empty() && table.is_none() {
        return Ok(Described::default());
    }
    let described = timeout(PATIENCE, catalog.describe(table, &types)).await;
    described
        .map_err(|_| End::Broken(SessionError::Silent(PATIENCE)))?
        .map_err(|error| End::Failed(fault::catalog(error)))
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_be_bytes(*bytes))
}

fn malformed(what: &str) -> SessionError {
    SessionError::Protocol(what.to_owned())
}
