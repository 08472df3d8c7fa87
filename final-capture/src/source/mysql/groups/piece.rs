//! What the stream is known to have, piece by piece.

use super::super::raw::RawEvent;
use crate::{position::SourcePoint, source::Transaction, table::TableName};

/// What is known of the stream.
#[derive(Debug)]
pub(in crate::source::mysql) enum Piece {
    /// A transaction that was committed begins.
    Begin(Transaction),
    /// An event of it. Rows that are `undone` are counted, and not told.
    Part {
        /// The event.
        event: RawEvent,
        /// Whether a savepoint has undone it.
        undone: bool,
        /// Whether the transaction is only prepared.
        prepared: bool,
    },
    /// A table of it was emptied.
    Truncate(TableName),
    /// Everything up to here is known.
    End(SourcePoint),
}

/// What the reader of the stream has to do after an event.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::source::mysql) enum Next {
    /// To go on.
    Read,
    /// To open the stream again after this point, which is before the transaction that was sought.
    Again(SourcePoint),
}
