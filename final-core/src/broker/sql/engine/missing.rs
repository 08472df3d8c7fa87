//! Numbers that are missing: looked at again, and filled when they have been missing for long.

use std::{sync::Arc, time::Instant};

use super::{Engine, PAGE};
use crate::{
    OutboxDatabase,
    broker::sql::{pages::LogRow, stream::Offer},
    outbox::DbResult,
};

/// Tries to fill gaps in one round.
const MOST_FILLS: usize = 40;

impl<DB: OutboxDatabase> Engine<DB> {
    /// Looks at gaps again, and fills those that have been open for long.
    pub(super) async fn watch_gaps(&mut self) -> DbResult<()> {
        let room = self.hand.room(self.member.tuning.prefetch);
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
            let (mut some, mut long) = (Vec::new(), Vec::new());
            for (start, end) in stream.gaps.take_due(now, 64) {
                if end - start < 64 && some.len() < 448 {
                    some.extend(start..=end);
                } else {
                    long.push((start, end));
                }
            }
            let rows = self.pick(id, &some).await?;
            self.offer_gaps(id, rows).await?;
            for (start, end) in long {
                let most = PAGE.min(room.max(100));
                let rows = self.page(id, start - 1, end, most).await?;
                self.offer_gaps(id, rows).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn fill(&mut self, id: i64, numbers: Vec<i64>) -> DbResult<()> {
        // Removed rows leave gaps as well, and need no filling.
        let member = Arc::clone(&self.member);
        self.trimmed = self
            .session
            .look(&member.group, member.id, member.hub.process)
            .await?
            .trimmed;
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

    pub(super) async fn offer_gaps(&mut self, id: i64, rows: Vec<LogRow>) -> DbResult<()> {
        for row in rows {
            let Some(stream) = self.streams.get_mut(&id) else {
                return Ok(());
            };
            if !stream.gaps.contains(row.seq) {
                continue;
            }
            let offer = stream.offer(&row, &self.member.group);
            if offer != Offer::Leave {
                stream.gaps.resolve(row.seq);
            }
            if offer == Offer::Take {
                self.take(id, row).await?;
            }
        }
        Ok(())
    }
}
