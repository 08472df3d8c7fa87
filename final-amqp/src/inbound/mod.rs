//! Checks what the broker sends before lapin reads it.
//!
//! Input: the bytes of one connection. State: the frame that is not complete yet, and the agreed frame size.
//! Output: the same bytes, with frames changed that lapin cannot read or that would end the connection.
//!
//! ```text
//! socket (TLS) ─▶ Guarded: whole frames ─▶ mend: texts, depth ─▶ shrink: size ─▶ lapin
//! ```

mod handshake;
mod kit;
mod mend;
mod shrink;
#[cfg(test)]
mod tests;

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

use self::handshake::Tune;
pub(crate) use self::{handshake::Handshake, kit::Kit, mend::SUBSTITUTE, shrink::LEFT_OUT};

/// Frame type, channel and length.
const FRAME_HEAD: usize = 7;
/// The byte after a frame's payload.
const FRAME_END: usize = 1;
const METHOD: u8 = 1;
const CONTENT_HEADER: u8 = 2;

/// How much is read from the socket at once.
const CHUNK: usize = 64 * 1024;
/// The smallest limit that AMQP allows, and lapin takes.
const MIN_FRAME_MAX: usize = 4096;
/// The longest frame that is read. RabbitMQ's own limit is 128 KiB unless set higher.
const MAX_FRAME: usize = 16 * 1024 * 1024;

/// A connection whose incoming frames are checked. Outgoing bytes pass unchanged.
#[derive(Debug)]
pub(crate) struct Guarded<S> {
    stream: S,
    buffer: Vec<u8>,
    /// How much of the buffer lapin has been given.
    given: usize,
    /// How much of the buffer lapin may be given: checked frames, and payloads of messages.
    clear: usize,
    /// How much of the buffer is filled from the stream.
    filled: usize,
    /// How many more bytes pass unchecked, as the rest of a frame.
    passing: usize,
    /// The largest frame that lapin takes, in bytes with its head and end.
    frame_max: usize,
    /// Hears how the connection is made, until it is.
    handshake: Option<Arc<Handshake>>,
    /// Cancels the token when lapin drops the stream.
    gone: Option<DropGuard>,
    /// Ends reading once the token is cancelled.
    end: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl<S> Guarded<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            handshake: None,
            gone: None,
            end: None,
            buffer: vec![0; CHUNK],
            given: 0,
            clear: 0,
            filled: 0,
            passing: 0,
            frame_max: usize::MAX,
        }
    }

    /// Ties the stream to a token. Dropping the stream cancels the token. Once the token is cancelled, reading
    /// fails, also a read that waits already.
    pub(crate) fn tied_to(mut self, token: &CancellationToken) -> Self {
        self.gone = Some(token.clone().drop_guard());
        self.end = Some(Box::pin(token.clone().cancelled_owned()));
        self
    }

    /// Tells how far the connection comes while it is being made.
    pub(crate) fn heard_by(mut self, handshake: &Arc<Handshake>) -> Self {
        self.handshake = Some(Arc::clone(handshake));
        self
    }

    /// Says which frame size this side asks for; the broker's answer may lower it. 0 asks for none.
    pub(crate) fn limited_to(mut self, frame_max: u32) -> Self {
        if frame_max > 0 {
            self.frame_max = frame_max as usize;
        }
        self
    }

    /// Checks the frames that have arrived completely.
    fn look(&mut self) -> io::Result<()> {
        loop {
            let passed = self.passing.min(self.filled - self.clear);
            self.passing -= passed;
            self.clear += passed;
            let unseen = &mut self.buffer[self.clear..self.filled];
            let Some((head, rest)) = unseen.split_first_chunk_mut::<FRAME_HEAD>() else {
                return Ok(());
            };
            let [kind, _, _, length @ ..] = *head;
            let length = u32::from_be_bytes(length) as usize;
            self.passing = FRAME_HEAD + length + FRAME_END;
            // A broker that speaks another version sends its protocol header, which is not a frame either.
            if kind != METHOD && kind != CONTENT_HEADER {
                continue;
            }
            if length > MAX_FRAME {
                let what = format!("a frame of {length} bytes, more than {MAX_FRAME}");
                return Err(io::Error::new(io::ErrorKind::OutOfMemory, what));
            }
            let Some(payload) = rest.get_mut(..length) else {
                self.passing = 0;
                return Ok(());
            };
            if kind == METHOD {
                mend::method(payload);
                // 0 sets no limit.
                if let Some(theirs) = Tune::read(payload).map(|tune| tune.frame_max)
                    && theirs > 0
                {
                    self.frame_max = self.frame_max.min(theirs as usize).max(MIN_FRAME_MAX);
                }
                if self
                    .handshake
                    .as_ref()
                    .is_some_and(|shake| !shake.hear(payload))
                {
                    self.handshake = None;
                }
                continue;
            }
            mend::content_header(payload);
            let limit = self.frame_max.saturating_sub(FRAME_HEAD + FRAME_END);
            if length > limit
                && let Some(shrunk) = shrink::shrink(payload, limit)
            {
                self.replace_payload(length, &shrunk);
            }
        }
    }

    /// Puts a shorter payload into the frame that comes next.
    fn replace_payload(&mut self, length: usize, shorter: &[u8]) {
        let from = self.clear + FRAME_HEAD;
        // Both are at most the length that was read from four bytes.
        let counted = u32::try_from(shorter.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes();
        self.buffer[from - counted.len()..from].copy_from_slice(&counted);
        self.buffer[from..][..shorter.len()].copy_from_slice(shorter);
        let rest = from + length..self.filled;
        self.buffer.copy_within(rest, from + shorter.len());
        self.filled -= length - shorter.len();
        self.passing = FRAME_HEAD + shorter.len() + FRAME_END;
    }

    /// Makes room to read more, if a frame is not complete or lapin has been given everything.
    fn make_room(&mut self) {
        if self.given > 0 {
            self.buffer.copy_within(self.given..self.filled, 0);
            self.clear -= self.given;
            self.filled -= self.given;
            self.given = 0;
        }
        if self.filled == self.buffer.len() {
            self.buffer.resize(self.filled + CHUNK, 0);
        } else if self.filled == 0 && self.buffer.len() > CHUNK {
            // The room of a single large frame is given back.
            self.buffer.truncate(CHUNK);
            self.buffer.shrink_to_fit();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(end) = &mut this.end
            && end.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        while this.given == this.clear {
            this.make_room();
            let room = &mut this.buffer[this.filled..];
            let read = ready!(Pin::new(&mut this.stream).poll_read(cx, room))?;
            if read == 0 {
                // The stream has ended. Half a frame is of no use.
                return Poll::Ready(Ok(0));
            }
            this.filled += read;
            this.look()?;
        }
        let count = buf.len().min(this.clear - this.given);
        buf[..count].copy_from_slice(&this.buffer[this.given..][..count]);
        this.given += count;
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_close(cx)
    }
}
