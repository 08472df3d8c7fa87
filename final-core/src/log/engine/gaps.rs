//! Gaps: looked for again, and filled when they have been missing for long.
//!
//! Input: the gaps of a stream that are due. Output: rows that have become visible, offered to their lanes, and
//! empty rows in place of transactions that were rolled back. When a gap is due is decided in
//! [`progress::gaps`](crate::log::progress::gaps).
//!
//! Without key order each gap is looked for at its own pace, short ones together in one statement. With key order
//! all gaps below the position are looked for at once, from the last to the first, before anything above them is
//! offered.

use std::time::Instant;

use super::{Engine, PAGE, read::StreamReader};
use crate::{
    OutboxDatabase,
    database::DbResult,
    log::progress::{
        rows::LogRow,
        stream::{Offer, Stream},
    },
};

/// Attempts to fill gaps in one round.
const MOST_FILLS: usize = 40;
/// Sequence numbers that one round fills.
const FILLED: usize = 500;
/// Ranges that one round looks for.
const LOOKED_FOR: usize = 64;

/// A range shorter than this is looked for by its single sequence numbers.
const SHORT: i64 = 64;
/// Single sequence numbers of one statement: another short range is added as long as there are fewer.
const AT_ONCE: usize = 448;

/// What one statement looks for: single sequence numbers, or one range with both its ends.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// Single sequence numbers.
    Some(Vec<i64>),
    /// All from the first to the last.
    Long(i64, i64),
}

/// Gaps in parts for one statement each, in order.
fn parts(gaps: impl IntoIterator<Item = (i64, i64)>) -> Vec<Part> {
    let mut parts = Vec::new();
    for (start, end) in gaps {
        if end - start >= SHORT {
            parts.push(Part::Long(start, end));
            continue;
        }
        match parts.last_mut() {
            Some(Part::Some(seqs)) if seqs.len() < AT_ONCE => seqs.extend(start..=end),
            _ => parts.push(Part::Some((start..=end).collect())),
        }
    }
    parts
}

impl<DB: OutboxDatabase> Engine<DB> {
    /// Looks for gaps again, and fills gaps that have been open for long.
    pub(super) async fn watch_gaps(&mut self) -> DbResult<()> {
        let (mut reader, streams) = self.reader();
        let room = reader.room();
        let now = Instant::now();
        for stream in streams.iter_mut() {
            reader.watch_gaps(stream, now, room).await?;
        }
        Ok(())
    }
}

impl<DB: OutboxDatabase> StreamReader<'_, DB> {
    /// Looks for the gaps of one stream that are due. What predecessors left open comes first.
    async fn watch_gaps(&mut self, stream: &mut Stream, now: Instant, room: usize) -> DbResult<()> {
        if !self.take_inherited(stream).await? || room == 0 {
            return Ok(());
        }
        let overdue = stream.gaps.take_overdue(now, FILLED);
        if !overdue.is_empty() {
            self.fill(stream, overdue).await?;
        }
        if self.member.tuning.key_order {
            if stream.gaps.take_all_if_due(now) {
                self.offer_late(stream).await?;
            }
            return Ok(());
        }
        for part in parts(stream.gaps.take_due(now, LOOKED_FOR)) {
            let rows = match part {
                Part::Some(seqs) => self.pick(stream, &seqs).await?,
                Part::Long(start, end) => {
                    let most = PAGE.min(room.max(100));
                    self.page(stream, start - 1, end, most).await?
                }
            };
            self.offer_missing(stream, rows).await?;
        }
        Ok(())
    }

    /// Takes rows of gaps below the position that have become visible, in order. True if there was any.
    ///
    /// When a row of a transaction becomes visible, everything that was committed before the transaction began
    /// is visible too. So with key order nothing of a page may be offered before the gaps below it have been
    /// looked for, and they are looked for from the last to the first.
    ///
    /// An example: 3 and 5 are gaps and have the same key. If 3 is looked for first, in vain, then 3 and after
    /// it 5 can be committed, and the look for 5 finds it: 5 is delivered before 3. If 5 is looked for first
    /// and found, the look for 3 finds that as well.
    ///
    /// Gaps above the position, of a lane that is ahead, come with their page.
    pub(super) async fn offer_late(&mut self, stream: &mut Stream) -> DbResult<bool> {
        let mut late: Vec<LogRow> = Vec::new();
        let below = parts(stream.gaps.within(0, stream.position));
        for part in below.into_iter().rev() {
            let (mut rows, is_all) = self.visible_of(stream, part).await?;
            // Of more rows than can be kept the first ones count. The others are found again.
            if rows.is_empty() || is_all && rows.len() + late.len() <= PAGE {
                rows.append(&mut late);
            }
            late = rows;
        }
        self.offer_missing(stream, late).await
    }

    /// The visible rows of a part, without rows that are left to the next owner of their lane. The flag says
    /// whether these are all of them.
    async fn visible_of(&mut self, stream: &Stream, part: Part) -> DbResult<(Vec<LogRow>, bool)> {
        let without_left = |mut rows: Vec<LogRow>| {
            rows.retain(|row| !stream.is_draining(row.lane));
            rows
        };
        let (mut after, end) = match part {
            Part::Some(seqs) => {
                let rows = self.pick(stream, &seqs).await?;
                return Ok((without_left(rows), true));
            }
            Part::Long(start, end) => (start - 1, end),
        };
        loop {
            let rows = self.page(stream, after, end, PAGE).await?;
            let is_full = rows.len() >= PAGE;
            after = rows.last().map_or(end, |row| row.seq);
            let rows = without_left(rows);
            if !is_full || !rows.is_empty() {
                return Ok((rows, !is_full));
            }
        }
    }

    /// Fills overdue gaps with empty rows, as far as no transaction has them.
    ///
    /// The primary key decides. A transaction that has inserted one of these rows and is open makes the statement
    /// fail, at once or soon. A row that is filled is visible, so the next look for the gap closes it.
    async fn fill(&mut self, stream: &mut Stream, seqs: Vec<i64>) -> DbResult<()> {
        // A removed row leaves a gap as well, which needs no filling.
        *self.trimmed = self.session.trimmed().await?;
        let trimmed = *self.trimmed;
        let first = seqs.first().copied().unwrap_or(0);
        if first <= trimmed {
            // Rows at or below it that are visible are read before the rest of the gaps closes.
            let rows = self.page(stream, first - 1, trimmed, PAGE).await?;
            let end = if rows.len() < PAGE {
                trimmed
            } else {
                rows.last().map_or(trimmed, |row| row.seq)
            };
            let visible: Vec<i64> = rows.iter().map(|row| row.seq).collect();
            self.offer_missing(stream, rows).await?;
            stream.close_removed(end, &visible);
            return Ok(());
        }
        // If a transaction has one of these numbers, the others are tried by halves.
        let mut parts = vec![seqs];
        for _ in 0..MOST_FILLS {
            let Some(mut part) = parts.pop() else {
                break;
            };
            if let Err(error) = self.member.log.fill(&part).await {
                tracing::debug!(
                    target: "final::log",
                    first = part.first(), %error,
                    "a gap was not filled: a transaction still has a sequence number of it"
                );
                if part.len() > 1 {
                    let half = part.split_off(part.len() / 2);
                    parts.extend([half, part]);
                }
            }
        }
        Ok(())
    }

    /// Offers rows of gaps. True if any gap has closed. A row that is not missing was read meanwhile, and is
    /// passed over.
    pub(super) async fn offer_missing(
        &mut self,
        stream: &mut Stream,
        rows: Vec<LogRow>,
    ) -> DbResult<bool> {
        let mut has_closed = false;
        for row in rows {
            // In key order, the rows before a row in its lane come first.
            let is_ahead = self.member.tuning.key_order && row.seq > stream.position;
            if !stream.gaps.contains(row.seq) || is_ahead {
                continue;
            }
            has_closed |= self.offer(stream, row).await? != Offer::Leave;
        }
        Ok(has_closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_gaps_are_looked_at_together_and_long_ones_alone() {
        let gaps = [(1, 2), (5, 5), (10, 90), (95, 95)];
        let expected = [
            Part::Some(vec![1, 2, 5]),
            Part::Long(10, 90),
            Part::Some(vec![95]),
        ];

        assert_eq!(parts(gaps), expected);
    }

    #[test]
    fn no_statement_looks_at_more_numbers_than_it_has_room_for() {
        let parts = parts((0..2_000).map(|n| (n * 100, n * 100 + n % SHORT)));

        for part in parts {
            assert!(matches!(part, Part::Some(seqs) if seqs.len() <= 512));
        }
    }
}
