//! What the relay counts, for `Bus::stats`.
//!
//! Input: an addition for each record and each statement. State and output: the counts since the bus started.

use crate::runtime::counter::Counter;

/// What the relay has done since the bus started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Records the broker has proven to hold.
    pub(crate) acked: Counter,
    /// Records whose time to live was over before they were sent.
    pub(crate) expired: Counter,
    /// Statements the relay has sent to the database, transactions counted as one.
    pub(crate) statements: Counter,
}
