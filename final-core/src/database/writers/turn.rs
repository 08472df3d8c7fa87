//! What a writer has in its hand: its turn, and then its transaction.
//!
//! Input: a place at the head of the line. Output: the line hears of the beginning and of the end, in any case.

use std::{fmt, sync::Arc};

use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{holder::Holder, line::Line};

/// Leave to begin. Dropped without a beginning, the next writer has it.
#[must_use]
pub(crate) struct Turn {
    /// `None` once it is begun.
    line: Option<Arc<Line>>,
    /// Whether the lock was free, so that the line counts this one as the holder.
    is_holder: bool,
    _places: Places,
}

/// The places of a writer in line.
pub(super) type Places = (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>);

/// A transaction that writes. Dropped when it has ended.
#[derive(Default)]
pub(crate) struct Writing(Option<Arc<Line>>);

impl Turn {
    pub(super) const fn free() -> Self {
        Self {
            line: None,
            is_holder: false,
            _places: (None, None),
        }
    }

    pub(super) const fn on(line: Arc<Line>, is_holder: bool, places: Places) -> Self {
        Self {
            line: Some(line),
            is_holder,
            _places: places,
        }
    }

    /// The transaction is begun, and the bus will see its end.
    pub(crate) fn begun(mut self) -> Writing {
        let line = self.line.take();
        if let Some(line) = &line {
            line.hold(Holder::InHand(Instant::now()));
        }
        Writing(line)
    }

    /// The transaction is begun, and goes to its caller.
    pub(super) fn begun_loose(mut self) {
        if let Some(line) = self.line.take() {
            line.hold(Holder::Loose(Instant::now()));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(line) = self.line.take()
            && self.is_holder
        {
            line.end();
        }
    }
}

impl Writing {
    pub(super) const fn on(line: Option<Arc<Line>>) -> Self {
        Self(line)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if let Some(line) = &self.0 {
            line.end();
        }
    }
}

impl fmt::Debug for Writing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writing")
    }
}
