//! The reader of requests alone, for benchmarks.

use bytes::BytesMut;

use crate::resp::{RequestReader, SessionLimits};

/// Reads requests as a session does whose client has logged in, and counts them.
#[derive(Debug)]
pub struct RequestCounter {
    reader: RequestReader,
    buffer: BytesMut,
    count: u64,
}

impl Default for RequestCounter {
    fn default() -> Self {
        Self {
            reader: RequestReader::new(SessionLimits::default().wire()),
            buffer: BytesMut::new(),
            count: 0,
        }
    }
}

impl RequestCounter {
    /// Appends bytes, and reads every request that is complete.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are no requests.
    pub fn feed(
        &mut self,
        bytes: &[u8],
    ) -> Result<(), impl std::error::Error + Send + Sync + 'static> {
        self.buffer.extend_from_slice(bytes);
        loop {
            match self.reader.next(&mut self.buffer) {
                Ok(Some(request)) => {
                    std::hint::black_box(request);
                    self.count += 1;
                }
                Ok(None) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// How many requests there were.
    pub fn count(&self) -> u64 {
        self.count
    }
}
