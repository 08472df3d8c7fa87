//! Numbers that are taken and do not show: those of transactions that are open, or were rolled back.
//!
//! Who begins behind the last number that shows begins behind these as well, and they show later. So they
//! are written down as open where it begins, and then looked after like any gap.

use super::Tx;
use super::dialect::words;
use crate::log::progress::spans::Spans;
use crate::{OutboxDatabase, database::DbResult};

/// How many of the last numbers are looked through, and how many one statement counts. Trimming waits, and
/// others who subscribe.
const MOST: i64 = 100_000;
const STEP: i64 = 10_000;

/// How many ranges are written down, the newest: what a transaction has open is seldom old, and what was
/// rolled back while nobody read may be much.
const RANGES: usize = 500;

/// The end of the log, as far as it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// The last number that shows; 0 where the log is empty.
    pub(crate) last: i64,
    /// What is missing up to there.
    pub(crate) unseen: Spans,
}

impl End {
    /// Looks at the end of the log, of which everything up to `trimmed` has been removed.
    ///
    /// Under the locks: what members of the group read meanwhile would lie behind the end and before where
    /// they are.
    pub(crate) async fn look<DB: OutboxDatabase>(
        tx: &mut Tx<'_, DB>,
        trimmed: i64,
    ) -> DbResult<Self> {
        let last = "SELECT MAX(seq) FROM {log}";
        let last: Option<i64> = tx.first(last, Vec::new()).await?;
        let last = last.unwrap_or_default().max(trimmed);
        let mut unseen = Spans::default();
        if words::<DB>().gapless {
            return Ok(Self { last, unseen });
        }
        let begin = trimmed.max(last.saturating_sub(MOST));
        let mut end = last;
        while end > begin && unseen.iter().count() < RANGES {
            let after = begin.max(end - STEP);
            let place = || vec![after.into(), end.into()];
            let count = "SELECT COUNT(*) FROM {log} WHERE seq > ? AND seq <= ?";
            let shown: Option<i64> = tx.first(count, place()).await?;
            if shown.is_none_or(|shown| shown < end - after) {
                let list = "SELECT seq FROM {log} WHERE seq > ? AND seq <= ? ORDER BY seq";
                let shown: Vec<i64> = tx.rows(list, place()).await?;
                between(&mut unseen, after, &shown, end);
            }
            end = after;
        }
        Ok(Self {
            last,
            unseen: newest(unseen),
        })
    }

    /// The last number of the end that was written before a time, whatever its topic.
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

    /// Up to where nothing is missing.
    pub(crate) fn settled_to(&self) -> i64 {
        self.unseen.first().map_or(self.last, |first| first - 1)
    }
}

/// Adds what is missing in a list of numbers that should have all after one and up to another.
fn between(unseen: &mut Spans, after: i64, shown: &[i64], end: i64) {
    let mut next = after + 1;
    for number in shown.iter().copied().chain([end + 1]) {
        unseen.insert(next, number - 1);
        next = number + 1;
    }
}

/// The last ranges.
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
        fn what_is_not_shown_is_missing(
            shown in prop::collection::btree_set(1..40_i64, 0..40),
            after in 0..20_i64,
        ) {
            let shown: Vec<i64> = shown.into_iter().filter(|number| *number > after).collect();
            let mut unseen = Spans::default();
            between(&mut unseen, after, &shown, 39);

            let end = End { last: 39, unseen };

            for number in 0..60 {
                let is_missing = (after + 1..=39).contains(&number) && !shown.contains(&number);
                prop_assert_eq!(end.unseen.contains(number), is_missing, "{}", number);
                prop_assert!(!is_missing || number > end.settled_to());
            }
            prop_assert!(end.settled_to() <= end.last);
        }
    }

    #[test]
    fn of_very_many_ranges_the_newest_are_kept() {
        let mut spans = Spans::default();
        for number in 1..=700 {
            spans.insert(number * 2, number * 2);
        }

        let newest = newest(spans);

        assert_eq!(newest.iter().count(), RANGES);
        assert!(newest.contains(1_400) && newest.contains(402) && !newest.contains(400));
    }
}
