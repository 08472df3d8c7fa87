//! Messages of the server, cut out of its bytes.
//!
//! Input: what the socket gives. State: the bytes that were read and not yet taken. Output: one message after the
//! other, borrowed, so that a message costs no memory of its own.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::SessionError;

/// How many bytes are asked for at once.
const READ: usize = 128 << 10;
/// How far the memory grows at once for a large message, whatever length the message claims.
const GROWTH: usize = 4 << 20;
/// The memory of a message that is longer than this is given back.
const KEPT: usize = 1 << 20;
/// The kind of a message and its length.
const HEAD: usize = 5;

/// The bytes of a server.
#[derive(Debug)]
pub(in super::super) struct Frames {
    buffer: BytesMut,
    most: usize,
}

/// One message of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Frame<'a> {
    /// Its kind.
    pub(in super::super) tag: u8,
    /// What it says.
    pub(in super::super) body: &'a [u8],
}

impl Frames {
    /// Refuses a message of more than so many bytes.
    pub(in super::super) fn new(most: usize) -> Self {
        Self {
            buffer: BytesMut::with_capacity(READ),
            most,
        }
    }

    /// The first message, if it is complete. It stays until [`pop`](Self::pop).
    pub(in super::super) fn first(&self) -> Result<Option<Frame<'_>>, SessionError> {
        let Some(length) = self.length()? else {
            return Ok(None);
        };
        let (Some(&tag), Some(body)) = (self.buffer.first(), self.buffer.get(HEAD..length)) else {
            return Ok(None);
        };
        Ok(Some(Frame { tag, body }))
    }

    /// Forgets the first message. The memory of a large one goes with it.
    pub(in super::super) fn pop(&mut self) {
        if let Ok(Some(length)) = self.length() {
            self.buffer.advance(length.min(self.buffer.len()));
            if length > KEPT {
                let mut rest = BytesMut::with_capacity(READ.max(self.buffer.len()));
                rest.extend_from_slice(&self.buffer);
                self.buffer = rest;
            }
        }
    }

    /// Reads what is there, and waits if there is nothing. 0 is the end of the stream.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub(in super::super) async fn fill(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<usize, SessionError> {
        let missing = self
            .length()?
            .map_or(0, |length| length.saturating_sub(self.buffer.len()));
        self.buffer.reserve(missing.clamp(READ / 2, GROWTH));
        Ok(stream.read_buf(&mut self.buffer).await?)
    }

    /// The length of the first message with its head, once the head is there.
    fn length(&self) -> Result<Option<usize>, SessionError> {
        let Some(head) = self.buffer.first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let [_, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        if length < 4 {
            return Err(SessionError::Protocol(format!(
                "the server sent a message with the impossible length {length}"
            )));
        }
        if length - 4 > self.most {
            return Err(SessionError::TooLarge {
                bytes: length - 4,
                most: self.most,
            });
        }
        Ok(Some(length + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(mut bytes: &[u8], most: usize) -> Result<Vec<(u8, Vec<u8>)>, SessionError> {
        let mut frames = Frames::new(most);
        let mut seen = Vec::new();
        loop {
            while let Some(frame) = frames.first()? {
                seen.push((frame.tag, frame.body.to_vec()));
                frames.pop();
            }
            if frames.fill(&mut bytes).await? == 0 {
                return Ok(seen);
            }
        }
    }

    #[tokio::test]
    async fn messages_are_cut_at_their_lengths() {
        let seen = all(b"d\0\0\0\x06hiZ\0\0\0\x05Ic\0\0\0\x04", 100).await;
        let expected = [
            (b'd', b"hi".to_vec()),
            (b'Z', b"I".to_vec()),
            (b'c', Vec::new()),
        ];
        assert_eq!(seen.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_message_that_is_cut_off_is_not_given_out() {
        assert_eq!(all(b"d\0\0\0\x06h", 100).await.unwrap(), []);
        assert_eq!(all(b"d\0\0", 100).await.unwrap(), []);
    }

    #[tokio::test]
    async fn the_memory_of_a_large_message_is_given_back() {
        let large = 8 << 20;
        let mut bytes = vec![b'd', 0, 0x80, 0, 4];
        bytes.resize(large + 5, 0);
        bytes.extend_from_slice(b"Z\0\0\0\x05I");
        let mut bytes = bytes.as_slice();
        let mut frames = Frames::new(large);
        while frames.first().unwrap().is_none() {
            frames.fill(&mut bytes).await.unwrap();
        }
        frames.pop();
        while frames.first().unwrap().is_none() {
            frames.fill(&mut bytes).await.unwrap();
        }
        assert_eq!(frames.first().unwrap().unwrap().tag, b'Z');
        frames.pop();
        // What is free in front is used again before more is taken, which shows how much there is.
        frames.buffer.reserve(large / 2);
        assert!(frames.buffer.capacity() < large);
    }

    #[tokio::test]
    async fn a_message_over_the_limit_is_refused_before_it_takes_memory() {
        let error = all(b"d\x7f\xff\xff\xff", 1 << 20).await.unwrap_err();
        assert!(matches!(error, SessionError::TooLarge { .. }), "{error}");
        let error = all(b"d\xff\xff\xff\xff", 1 << 20).await.unwrap_err();
        assert!(matches!(error, SessionError::TooLarge { .. }), "{error}");
        let error = all(b"d\0\0\0\x03", 1 << 20).await.unwrap_err();
        assert!(matches!(error, SessionError::Protocol(_)), "{error}");
    }
}
