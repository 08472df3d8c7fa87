//! What a writer has in its hand: its turn, and then its transaction.
//!
//! Input: a place at the head of the line. Output: the line hears of the beginning and of the end, in any case.

use std::{fmt, sync::Arc};

use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::holder::{Holder, SeenLock};

/// Leave to begin. Dropped without a beginning, the next writer has it.
#[must_use]
pub(crate) struct Turn {
    /// `None` once it is begun.
    lock: Option<Arc<SeenLock>>,
    /// Whether the lock was free, so that the line counts this one as the holder.
    is_holder: bool,
    _places: Places,
}

/// The places of a writer in line.
pub(super) type Places = (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>);

/// A transaction that writes. Dropped when it has ended.
#[derive(Default)]
pub(crate) struct Writing(Option<Arc<SeenLock>>);

impl Turn {
    pub(super) const fn free() -> Self {
        Self {
            lock: None,
            is_holder: false,
            _places: (None, None),
        }
    }

    pub(super) const fn on(lock: Arc<SeenLock>, is_holder: bool, places: Places) -> Self {
        Self {
            lock: Some(lock),
            is_holder,
            _places: places,
        }
    }

    /// The transaction is begun, and the bus will see its end.
    pub(crate) fn begun(mut self) -> Writing {
        let lock = self.lock.take();
        if let Some(lock) = &lock {
            lock.hold(Holder::InHand(Instant::now()));
        }
        Writing(lock)
    }

    /// The transaction is begun, and goes to its caller.
    pub(super) fn begun_loose(mut self) {
        if let Some(lock) = self.lock.take() {
            lock.hold(Holder::Loose(Instant::now()));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take()
            && self.is_holder
        {
            lock.end();
        }
    }
}

impl Writing {
    pub(super) const fn on(lock: Option<Arc<SeenLock>>) -> Self {
        Self(lock)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if let Some(lock) = &self.0 {
            lock.end();
        }
    }
}

impl fmt::Debug for Writing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writing")
    }
}
