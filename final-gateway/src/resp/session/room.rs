//! Memory for requests that have not come in full: all connections share it.
//!
//! Input: how much memory the buffer of a connection has, or needs. State: how much is left for all. Output: whether it
//! may have that much.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// So much has each connection for itself. It is enough for what a client sends before its login, and for small messages
/// after it: a client that takes all of the shared memory stops no such request.
pub(super) const OWN: usize = 64 * 1024;

/// The memory that all connections share. Clones are the same memory.
#[derive(Clone, Debug)]
pub(in crate::resp) struct InputRoom(Arc<Semaphore>);

impl InputRoom {
    pub(in crate::resp) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// What a new connection has of it: nothing.
    pub(super) fn share(self) -> InputShare {
        InputShare {
            room: self,
            bytes: 0,
        }
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.0.available_permits()
    }
}

/// What one connection has of the shared memory, until it is dropped.
#[derive(Debug)]
pub(super) struct InputShare {
    room: InputRoom,
    bytes: usize,
}

impl InputShare {
    /// The buffer of the connection has so many bytes from now on. If there is not so much left, the share stays as it was
    /// and the answer is `false`. It never waits: a client that stalls must not hold up another.
    #[must_use]
    pub(super) fn resize(&mut self, buffer: usize) -> bool {
        let bytes = buffer.saturating_sub(OWN);
        if bytes <= self.bytes {
            self.give_back(self.bytes - bytes);
            return true;
        }
        let Ok(more) = u32::try_from(bytes - self.bytes) else {
            return false;
        };
        let Ok(permit) = self.room.0.try_acquire_many(more) else {
            return false;
        };
        permit.forget();
        self.bytes = bytes;
        true
    }

    fn give_back(&mut self, bytes: usize) {
        if bytes > 0 {
            self.room.0.add_permits(bytes);
            self.bytes -= bytes;
        }
    }
}

impl Drop for InputShare {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}
