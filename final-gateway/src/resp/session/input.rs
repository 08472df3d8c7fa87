//! Requests as they come from a connection.
//!
//! Input: bytes. State: what has come of the next request, and since when. Output: requests, or why there are no more.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{Instant, timeout_at},
};

use super::{
    super::wire::{RequestReader, WireError, WireLimits},
    room::{InputShare, OWN},
};
use crate::memory::Budget;

/// How much is read at once, at least and at most. It grows while a client sends more than that.
const LEAST: usize = 2 * 1024;
const MOST: usize = 64 * 1024;

/// A connection that was busy keeps its memory for so long.
const SOON_IDLE: Duration = Duration::from_secs(1);

/// Reads requests from a connection.
pub(super) struct Input<R> {
    read: R,
    buffer: BytesMut,
    /// What the buffer, and the request that was read last, have of the memory of all connections.
    share: InputShare,
    reader: RequestReader,
    /// How long a request may take from its first byte to its last.
    patience: Duration,
    /// When the first byte of the next request was there.
    begun: Option<Instant>,
    /// How much to read at once.
    portion: usize,
    /// Whether the client sends no more.
    is_ended: bool,
}

/// Why there is no further request.
#[derive(Debug)]
pub(super) enum InputEnd {
    /// The client has closed its side, or the connection broke.
    Closed,
    /// Nothing came in time, or not all of a request.
    Late,
    /// What came is no request.
    Wire(WireError),
    /// There is no memory for the rest of the request.
    Full,
}

impl<R: AsyncRead + Unpin> Input<R> {
    pub(super) fn new(read: R, limits: WireLimits, patience: Duration, room: Budget) -> Self {
        Self {
            read,
            buffer: BytesMut::new(),
            share: InputShare::new(room),
            reader: RequestReader::new(limits),
            patience,
            begun: None,
            portion: LEAST,
            is_ended: false,
        }
    }

    /// The client is this app from now on, or one that has not logged in, and may send so much.
    pub(super) fn belongs_to(&mut self, app: Option<&str>, limits: WireLimits) {
        self.share.belongs_to(app);
        self.reader.set_limits(limits);
    }

    pub(super) fn into_read(self) -> R {
        self.read
    }

    /// The next request, if all of it has come. The one before must be dropped, or be counted elsewhere: its memory is
    /// given back.
    pub(super) fn read(&mut self) -> Option<Result<Vec<Bytes>, InputEnd>> {
        // An allocator may have given more than was asked for. It stays uncounted if there is no more.
        let _ = self.share.resize(self.buffer.capacity());
        let read = self.reader.next(&mut self.buffer);
        match read.map_err(InputEnd::Wire).transpose() {
            Some(request) => {
                self.begun = None;
                Some(request)
            }
            None if self.is_ended => Some(Err(InputEnd::Closed)),
            None => None,
        }
    }

    /// The next request. It must begin before `idle_until`, and be complete before `at_most`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it has lost nothing.
    pub(super) async fn next(
        &mut self,
        idle_until: Instant,
        at_most: Option<Instant>,
    ) -> Result<Vec<Bytes>, InputEnd> {
        loop {
            if let Some(request) = self.read() {
                return request;
            }
            let until = if self.buffer.is_empty() {
                self.begun = None;
                idle_until
            } else {
                *self.begun.get_or_insert_with(Instant::now) + self.patience
            };
            let until = at_most.map_or(until, |at_most| until.min(at_most));
            if self.buffer.is_empty() && self.buffer.capacity() > LEAST {
                let soon = until.min(Instant::now() + SOON_IDLE);
                if let Ok(filled) = timeout_at(soon, self.fill()).await {
                    filled?;
                    continue;
                }
                self.buffer = BytesMut::new();
                self.portion = LEAST;
            }
            let filled = timeout_at(until, self.fill()).await;
            filled.map_err(|_| InputEnd::Late)??;
        }
    }

    /// Reads ahead, and ends when the client is gone. Reads no more than a bound, or than there is memory for; then it
    /// never ends.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it has lost nothing.
    pub(super) async fn gone(&mut self) {
        while !self.is_ended {
            if self.buffer.len() >= MOST || self.fill().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Reads what there is. Takes no memory that the connections together must not have.
    async fn fill(&mut self) -> Result<(), InputEnd> {
        // What is left of a long request would be copied each time that the buffer grows by a portion.
        let portion = self.portion.max(self.buffer.len());
        if self.buffer.is_empty() && self.buffer.capacity() > 2 * MOST {
            self.buffer = BytesMut::new();
        }
        if self.buffer.capacity() == self.buffer.len() {
            let portion = match self.share.resize(self.buffer.len() + portion) {
                true => portion,
                false => OWN.saturating_sub(self.buffer.len()),
            };
            if portion == 0 {
                return Err(InputEnd::Full);
            }
            self.buffer.reserve(portion);
        }
        let room = self.buffer.capacity() - self.buffer.len();
        match self.read.read_buf(&mut self.buffer).await {
            Ok(0) | Err(_) => self.is_ended = true,
            Ok(read) if read == room => self.portion = (self.portion * 2).min(MOST),
            Ok(read) if read < self.portion / 4 => self.portion = (self.portion / 2).max(LEAST),
            Ok(_) => {}
        }
        Ok(())
    }
}
