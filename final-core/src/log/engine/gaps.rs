//! Numbers that are missing: looked at again, and filled when they have been missing for long.

use std::{sync::Arc, time::Instant};

use super::{Engine, PAGE};
use crate::{
    OutboxDatabase,
    database::DbResult,
    log::progress::{rows::LogRow, stream::Offer},
};

/// Tries to fill gaps in one round.
const MOST_FILLS: usize = 40;

/// Up to this length gaps are looked at number by number, so many numbers at once.
const SHORT: i64 = 64;
const AT_ONCE: usize = 448;

/// What one statement looks at.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Some(Vec<i64>),
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
            Some(Part::Some(numbers)) if numbers.len() < AT_ONCE => numbers.extend(start..=end),
            _ => parts.push(Part::Some((start..=end).collect())),
        }
    }
    parts
}

impl<DB: OutboxDatabase> Engine<DB> {
    /// Looks at gaps again, and fills those that have been open for long.
    pub(super) async fn watch_gaps(&mut self) -> DbResult<()> {
        let room = self.in_flight.room(self.member.tuning.prefetch);
        if room == 0 {
            return Ok(());
        }
        let now = Instant::now();
        let ids: Vec<i64> = self.streams.keys().copied().collect();
        for id in ids {
            if !self.inherit(id).await? {
                continue;
            }
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            let numbers = stream.gaps.take_overdue(now, 500);
            if !numbers.is_empty() {
                self.fill(id, numbers).await?;
            }
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            if self.member.tuning.key_order {
                if stream.gaps.all_are_due(now) {
                    self.offer_late(id).await?;
                }
                continue;
            }
            for part in parts(stream.gaps.take_due(now, 64)) {
                let rows = match part {
                    Part::Some(numbers) => self.pick(id, &numbers).await?,
                    Part::Long(start, end) => {
                        let most = PAGE.min(room.max(100));
                        self.page(id, start - 1, end, most).await?
                    }
                };
                self.offer_gaps(id, rows).await?;
            }
        }
        Ok(())
    }

    /// Takes what shows by now of the gaps in what was read, in order. True if there was any.
    ///
    /// What a transaction has written shows when everything does that was committed before it began. So
    /// of the same keys nothing may be offered that was read before the gaps below it were looked at, and
    /// they are looked at from the last to the first. What is missing further on, for a lane that is
    /// ahead, comes with its page.
    pub(super) async fn offer_late(&mut self, id: i64) -> DbResult<bool> {
        let Some(stream) = self.streams.get(&id) else {
            return Ok(false);
        };
        let mut late: Vec<LogRow> = Vec::new();
        for part in parts(stream.gaps.within(0, stream.read)).into_iter().rev() {
            let (mut rows, all_of_it) = self.look_at(id, part).await?;
            // Of more than can be held those that come first; the others show again.
            if rows.is_empty() || all_of_it && rows.len() + late.len() <= PAGE {
                rows.append(&mut late);
            }
            late = rows;
        }
        self.offer_gaps(id, late).await
    }

    /// What of a part shows and is not left to whoever gets its lane, and whether that is all of it.
    async fn look_at(&mut self, id: i64, part: Part) -> DbResult<(Vec<LogRow>, bool)> {
        let (mut after, end) = match part {
            Part::Some(numbers) => {
                let mut rows = self.pick(id, &numbers).await?;
                self.keep_taken(id, &mut rows);
                return Ok((rows, true));
            }
            Part::Long(start, end) => (start - 1, end),
        };
        loop {
            let mut rows = self.page(id, after, end, PAGE).await?;
            let is_full = rows.len() >= PAGE;
            after = rows.last().map_or(end, |row| row.seq);
            self.keep_taken(id, &mut rows);
            if !is_full || !rows.is_empty() {
                return Ok((rows, !is_full));
            }
        }
    }

    /// Without the rows whose lanes are being given away.
    fn keep_taken(&self, id: i64, rows: &mut Vec<LogRow>) {
        if let Some(stream) = self.streams.get(&id) {
            rows.retain(|row| !stream.is_draining(row.lane));
        }
    }

    pub(super) async fn fill(&mut self, id: i64, numbers: Vec<i64>) -> DbResult<()> {
        // Removed rows leave gaps as well, and need no filling.
        let member = Arc::clone(&self.member);
        self.trimmed = self.session.trimmed().await?;
        let first = numbers.first().copied().unwrap_or(0);
        if first <= self.trimmed {
            // What shows at or below it is read before the rest is given up.
            let rows = self.page(id, first - 1, self.trimmed, PAGE).await?;
            let end = if rows.len() < PAGE {
                self.trimmed
            } else {
                rows.last().map_or(self.trimmed, |row| row.seq)
            };
            let shown: Vec<i64> = rows.iter().map(|row| row.seq).collect();
            self.offer_gaps(id, rows).await?;
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.give_up(end, &shown);
            }
            return Ok(());
        }
        // Where a transaction has one of them, the others are tried by halves.
        let mut parts = vec![numbers];
        for _ in 0..MOST_FILLS {
            let Some(mut part) = parts.pop() else {
                break;
            };
            if let Err(error) = member.log.fill(&part).await {
                tracing::debug!(first = part.first(), %error, "a number is still a transaction's");
                if part.len() > 1 {
                    let half = part.split_off(part.len() / 2);
                    parts.extend([half, part]);
                }
            }
        }
        Ok(())
    }

    /// Takes what is ours of rows that were missing. True if any is not missing any more.
    pub(super) async fn offer_gaps(&mut self, id: i64, rows: Vec<LogRow>) -> DbResult<bool> {
        let mut any = false;
        for row in rows {
            let Some(stream) = self.streams.get_mut(&id) else {
                return Ok(any);
            };
            // With an order, what lies before it in its lane comes first.
            let is_ahead = self.member.tuning.key_order && row.seq > stream.read;
            if !stream.gaps.contains(row.seq) || is_ahead {
                continue;
            }
            let offer = stream.offer(&row, &self.member.group);
            if offer != Offer::Leave {
                stream.gaps.resolve(row.seq);
                any = true;
            }
            if offer == Offer::Take {
                self.take(id, row).await?;
            }
        }
        Ok(any)
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
            assert!(matches!(part, Part::Some(numbers) if numbers.len() <= 512));
        }
    }
}
