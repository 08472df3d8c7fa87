//! Open sequence numbers: allocated but not visible, because their transaction is open, or was rolled back.
//!
//! Input: the end of the log. Output: the highest visible sequence number, and the missing ones below it.
//!
//! A new group starts after the highest visible sequence number. The open ones lie below it and may still become
//! visible. So the group records them as open where it starts, and watches them like any gap.

use super::Tx;
use super::dialect::words;
use crate::log::progress::spans::Spans;
use crate::{OutboxDatabase, database::DbResult};

/// How many of the last sequence numbers are looked through. Trimming, and other services that subscribe, wait
/// meanwhile.
const MOST: i64 = 100_000;
/// How many of them one statement counts.
const STEP: i64 = 10_000;

/// How many ranges are recorded, the newest ones. The sequence numbers of an open transaction are seldom old, and
/// numbers that were rolled back while no member was reading may be many.
const RANGES: usize = 500;

/// The visible end of the log.
///
/// An example: rows 1 to 7 and 9 are visible, and 8 is in an open transaction. Then `last` is 9 and `open` is
/// 8: a new group starts after 9, and waits for 8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// The highest visible sequence number. 0 if the log is empty.
    pub(crate) last: i64,
    /// Sequence numbers below it that are missing, the newest [`RANGES`] of them.
    pub(crate) open: Spans,
}

impl End {
    /// Reads the end of the log, which was trimmed up to `trimmed`.
    ///
    /// The caller holds the locks of the group and of trimming. Otherwise members of the group could read past this
    /// end meanwhile, and the new topic would miss the messages between.
    pub(crate) async fn read<DB: OutboxDatabase>(
        tx: &mut Tx<'_, DB>,
        trimmed: i64,
    ) -> DbResult<Self> {
        let last = "SELECT MAX(seq) FROM {log}";
        let last: Option<i64> = tx.first(last, Vec::new()).await?;
        let last = last.unwrap_or_default().max(trimmed);
        let mut open = Spans::default();
        if words::<DB>().gapless {
            return Ok(Self { last, open });
        }
        let begin = trimmed.max(last.saturating_sub(MOST));
        let mut end = last;
        while end > begin && open.iter().count() < RANGES {
            let after = begin.max(end - STEP);
            let place = || vec![after.into(), end.into()];
            let count = "SELECT COUNT(*) FROM {log} WHERE seq > ? AND seq <= ?";
            let visible: Option<i64> = tx.first(count, place()).await?;
            if visible.is_none_or(|visible| visible < end - after) {
                let list = "SELECT seq FROM {log} WHERE seq > ? AND seq <= ? ORDER BY seq";
                let visible: Vec<i64> = tx.rows(list, place()).await?;
                between(&mut open, after, &visible, end);
            }
            end = after;
        }
        Ok(Self {
            last,
            open: newest(open),
        })
    }

    /// The last sequence number whose row was written before a time, whatever its topic.
    pub(crate) async fn before<DB: OutboxDatabase>(
        &self,
        tx: &mut Tx<'_, DB>,
        time: i64,
    ) -> DbResult<i64> {
        let begin = self.last.saturating_sub(MOST);
        let older = "SELECT seq FROM {log} WHERE seq > ? AND seq <= ? AND created_at < ? \
            ORDER BY seq DESC LIMIT 1";
        let values = vec![begin.into(), self.last.into(), time.into()];
        Ok(tx.first(older, values).await?.unwrap_or(begin.max(0)))
    }

    /// The sequence number up to which nothing is missing.
    pub(crate) fn settled_to(&self) -> i64 {
        self.open.first().map_or(self.last, |first| first - 1)
    }
}

/// Adds the sequence numbers after `after`, up to `end`, that are not visible.
fn between(open: &mut Spans, after: i64, visible: &[i64], end: i64) {
    let mut next = after + 1;
    for seq in visible.iter().copied().chain([end + 1]) {
        open.insert(next, seq - 1);
        next = seq + 1;
    }
}

/// The newest ranges.
fn newest(spans: Spans) -> Spans {
    let more = spans.iter().count().saturating_sub(RANGES);
    let mut newest = Spans::default();
    for (start, end) in spans.iter().skip(more) {
        newest.insert(start, end);
    }
    newest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_not_visible_is_missing(
            visible in prop::collection::btree_set(1..40_i64, 0..40),
            after in 0..20_i64,
        ) {
            let visible: Vec<i64> = visible.into_iter().filter(|seq| *seq > after).collect();
            let mut open = Spans::default();
            between(&mut open, after, &visible, 39);

            let end = End { last: 39, open };

            for seq in 0..60 {
                let is_missing = (after + 1..=39).contains(&seq) && !visible.contains(&seq);
                prop_assert_eq!(end.open.contains(seq), is_missing, "{}", seq);
                prop_assert!(!is_missing || seq > end.settled_to());
            }
            prop_assert!(end.settled_to() <= end.last);
        }
    }

    #[test]
    fn of_very_many_ranges_the_newest_are_kept() {
        let mut spans = Spans::default();
        for seq in 1..=700 {
            spans.insert(seq * 2, seq * 2);
        }

        let newest = newest(spans);

        assert_eq!(newest.iter().count(), RANGES);
        assert!(newest.contains(1_400) && newest.contains(402) && !newest.contains(400));
    }
}
