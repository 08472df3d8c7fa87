//! What a capture has done, and how far it is.

use std::time::Duration;

use super::CaptureState;
use crate::{engine::vitals::Vitals, position::Position};

/// What a capture has done since its start, and how far it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CaptureStats {
    /// How it is.
    pub state: CaptureState,
    /// Everything up to here is at the target, or parked.
    pub position: Option<Position>,
    /// How long after its commit the last transaction that is done was done. By two clocks: the source's, and this
    /// machine's.
    pub lag: Option<Duration>,
    /// How long the oldest message has been read and not proven. `None` if there is none.
    pub oldest_unsent: Option<Duration>,
    /// How many bytes the source keeps for us, if it tells.
    pub retained_bytes: Option<u64>,
    /// How many bytes lie between what was read and the source's newest, if it tells.
    pub unread_bytes: Option<u64>,
    /// Changes that were read.
    pub rows: u64,
    /// Messages that are at the target, parked ones included.
    pub messages: u64,
    /// Transactions that were read.
    pub transactions: u64,
    /// Messages that were read and are not proven.
    pub in_hand: u64,
    /// Messages that were sent again, because the broker lost or refused them.
    pub sent_again: u64,
    /// Messages that are parked now, as far as this process knows.
    pub parked: u64,
    /// Messages that this process has parked.
    pub parked_total: u64,
    /// How often the columns of a table were new.
    pub schema_changes: u64,
    /// How often the stream ended and was opened again.
    pub reconnects: u64,
    /// Counts up with each change of the reader.
    pub epoch: i64,
    /// What is wrong with the source now.
    pub source_trouble: Option<String>,
    /// What is wrong with the target or the position's place now.
    pub target_trouble: Option<String>,
}

pub(super) fn of(vitals: &Vitals) -> CaptureStats {
    let numbers = vitals.copy();
    CaptureStats {
        state: vitals.state().borrow().clone(),
        position: vitals.position().borrow().clone(),
        lag: numbers.lag(),
        oldest_unsent: numbers.oldest_unsent(),
        retained_bytes: numbers.source_lag.retained_bytes,
        unread_bytes: numbers.source_lag.unread_bytes,
        rows: numbers.rows,
        messages: numbers.messages,
        transactions: numbers.transactions,
        in_hand: numbers.in_hand,
        sent_again: numbers.sent_again,
        parked: numbers.parked,
        parked_total: numbers.parked_total,
        schema_changes: numbers.schema_changes,
        reconnects: numbers.reconnects,
        epoch: numbers.epoch,
        source_trouble: numbers.source_trouble,
        target_trouble: numbers.target_trouble,
    }
}
