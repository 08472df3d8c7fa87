//! What is still to come into an answer.
//!
//! Input: the lot that a client asks for, and the messages that go into the answer. State: how many messages and bytes
//! still fit. Output: whether the next message goes into it.

use super::{Lot, entry::StockEntry};

/// How much room an answer has left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remaining {
    messages: usize,
    bytes: usize,
    is_empty: bool,
}

impl Remaining {
    pub(super) fn of(lot: &Lot) -> Self {
        Self {
            messages: lot.messages,
            bytes: lot.bytes,
            is_empty: true,
        }
    }

    /// Whether anything more may go into the answer.
    pub(super) fn is_open(&self) -> bool {
        self.messages > 0
    }

    /// Whether nothing is in the answer yet.
    pub(super) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Puts a message into the answer. False if it has to wait for the next one.
    ///
    /// The answer is complete then, because no later message goes before that one. The first message goes in whatever its
    /// size. A message whose clients have ended goes alone: it may be the reason, and the others should not be blamed for
    /// that.
    pub(super) fn add(&mut self, entry: &StockEntry) -> bool {
        let goes =
            self.is_open() && (self.is_empty || (entry.bytes <= self.bytes && !entry.goes_alone()));
        self.messages = match goes && !entry.goes_alone() {
            true => self.messages - 1,
            false => 0,
        };
        if goes {
            self.bytes = self.bytes.saturating_sub(entry.bytes);
            self.is_empty = false;
        }
        goes
    }
}
