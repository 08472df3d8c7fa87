//! What a reader of the log knows of its sequence numbers, when they may have gone back.
//!
//! Input: the reader's watermarks, its gaps, and the rows that became visible late. Output: since when rows can
//! have been written with a sequence number that was allocated before.

use std::collections::BTreeMap;

use super::{
    gaps::Gaps,
    watermark::{Watermark, written_by},
};

/// By how much the clocks of two servers may differ, in microseconds. A message that was written so long before a
/// watermark of another server may come twice.
const SKEW: i64 = 1_000_000;

/// What a reader knows of the sequence numbers.
#[derive(Debug, Default)]
pub(crate) struct ReaderKnowledge {
    /// Its watermarks.
    pub(crate) marks: Vec<Watermark>,
    /// Whether they are of the server that is asked now.
    pub(crate) same_server: bool,
    /// Its gaps: a row that becomes visible there was open for long, and was not allocated twice.
    pub(crate) open: Gaps,
    /// Rows that became visible late, and when they were written.
    pub(crate) late: BTreeMap<i64, i64>,
    /// Whether to go through the whole log even if nothing is suspect at its ends.
    pub(crate) thoroughly: bool,
}

impl ReaderKnowledge {
    /// When the sequence number `last` had been allocated for the first time: less the lead that the clock of
    /// another server may have, and exactly. A row up to it that was written later has a sequence number that
    /// was allocated twice.
    pub(crate) fn since(&self, last: i64, written: &[Watermark]) -> (i64, i64) {
        let exact = written_by(&self.marks, last).or_else(|| written_by(written, last));
        let exact = exact.unwrap_or(0);
        let skew = if self.same_server { 0 } else { SKEW };
        (exact.saturating_sub(skew), exact)
    }
}
