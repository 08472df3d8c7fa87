//! Removing messages that every group has, or that are too old.
//!
//! Input: how long messages are kept, the progress of all groups, and what this reader knows of each row. State:
//! `trimmed` in `final_log_state`, up to where nothing is missing that was not removed. Output: fewer rows.
//!
//! ```text
//!   removed, or passed over: no group has the topic │ waits for a group, or is not read here
//!                                           trimmed ┘
//!   └ sweep removes here what may go by now
//! ```

use std::time::Duration;

use super::Log;
use crate::log::{progress::watermark::ReadState, tuning::Keep};
use crate::{
    OutboxDatabase,
    database::{DbResult, columns, limits::micros},
};

/// Rows of one transaction. Few, so that its locks are held for a short time.
const BATCH: i64 = 1_000;

/// How long the empty row of a filled gap stays. A transaction that took the sequence number and writes its row only
/// after that finds the place free again, and commits a message that may be passed over.
const TOMBSTONE: Duration = Duration::from_secs(24 * 3600);

columns! {
    /// A row that may be removed next.
    struct TrimRow {
        /// Its sequence number.
        seq: i64,
        /// Whether it is older than rows are kept that every group has.
        is_old: i64,
        /// Whether it is older than rows are kept that some group has not read.
        is_too_old: i64,
        /// Whether a group has subscribed its topic, or the message is for one group. Other rows are passed
        /// over.
        is_subscribed: i64,
        /// When it was written, in microseconds since 1970. 0 for the row of a filled gap.
        written_at: i64,
    }
}

impl<DB: OutboxDatabase> Log<DB> {
    /// Removes the next rows that all groups have, or that are too old. True if there may be more.
    ///
    /// The walk goes from row to row, and ends at the first row that must stay:
    ///
    /// | row | the walk |
    /// | --- | --- |
    /// | its sequence number was used before, by `read_state` | ends: the groups have settled another message |
    /// | this reader has read it, every group has it, and it is old enough | goes on |
    /// | it is too old, whether the groups have it or not | goes on |
    /// | any other | ends |
    ///
    /// The rows that the walk has passed are removed, except those of a topic that no group has subscribed:
    /// they wait for a group.
    pub(crate) async fn trim(
        &self,
        keep: Keep,
        read_state: impl Fn(i64, i64) -> ReadState + Send,
    ) -> DbResult<bool> {
        let mut tx = self.begin().await?;
        // One process trims at a time, and no group subscribes meanwhile.
        let state = "SELECT trimmed FROM {state} WHERE id = 1 {skip_locked}";
        let Some(trimmed) = tx.first::<i64>(state, Vec::new()).await? else {
            return tx.roll_back().await.map(|()| false);
        };
        let settled = "SELECT MIN(settled_to) FROM {lanes}";
        let settled: Option<Option<i64>> = tx.first(settled, Vec::new()).await?;
        let settled = settled.flatten();
        let next = "SELECT seq, \
                CASE WHEN created_at < {now} - ? THEN CAST(1 AS {int}) ELSE CAST(0 AS {int}) END AS is_old, \
                CASE WHEN created_at < {now} - ? THEN CAST(1 AS {int}) ELSE CAST(0 AS {int}) END AS is_too_old, \
                CASE WHEN topic IN (SELECT topic FROM {topics}) OR recipient IS NOT NULL \
                    THEN CAST(1 AS {int}) ELSE CAST(0 AS {int}) END AS is_subscribed, \
                CASE WHEN topic = '' THEN 0 ELSE created_at END AS written_at \
            FROM {log} WHERE seq > ? ORDER BY seq LIMIT ?";
        let unread = keep.unread.unwrap_or(Duration::MAX);
        let values = vec![
            micros(keep.after_read).into(),
            micros(unread).into(),
            trimmed.into(),
            BATCH.into(),
        ];
        let (mut end, mut seen, mut wanted) = (trimmed, 0, 0);
        for row in tx.rows::<TrimRow>(next, values).await? {
            let TrimRow {
                seq, written_at, ..
            } = row;
            let is_read = match read_state(seq, written_at) {
                ReadState::Reused => break,
                ReadState::Read => true,
                ReadState::Unread => false,
            };
            let every_group_has_it = is_read && settled.is_some_and(|settled| seq <= settled);
            let is_too_old = row.is_too_old > 0 && keep.unread.is_some();
            if !(every_group_has_it && row.is_old > 0 || is_too_old) {
                break;
            }
            (end, seen) = (seq, seen + 1);
            wanted += usize::from(row.is_subscribed > 0);
        }
        if seen == 0 {
            return tx.roll_back().await.map(|()| false);
        }
        let delete = "DELETE FROM {log} WHERE seq > ? AND seq <= ? \
            AND (topic IN (SELECT topic FROM {topics}) OR recipient IS NOT NULL)";
        let values = vec![trimmed.into(), end.into()];
        tx.delete_only(delete, values, wanted).await?;
        let update = "UPDATE {state} SET trimmed = ? WHERE id = 1";
        tx.run(update, vec![end.into()]).await?;
        tx.commit().await?;
        Ok(seen == BATCH)
    }

    /// Removes rows that trimming has passed over and that may go by now: one batch, after a sequence number.
    /// Returns the sequence number after which to go on. `None` at the end, and at a row whose sequence number
    /// was allocated twice: `is_second` says so, by the sequence number and the time at which the row was
    /// written.
    pub(crate) async fn sweep(
        &self,
        after: i64,
        keep: Keep,
        is_second: impl Fn(i64, i64) -> bool + Send,
    ) -> DbResult<Option<i64>> {
        let mut tx = self.begin().await?;
        let state = "SELECT trimmed FROM {state} WHERE id = 1 {skip_locked}";
        let Some(trimmed) = tx.first::<i64>(state, Vec::new()).await? else {
            return tx.roll_back().await.map(|()| None);
        };
        let next = "SELECT seq, CASE WHEN topic = '' THEN 0 ELSE created_at END \
            FROM {log} WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?";
        let values = vec![after.into(), trimmed.into(), BATCH.into()];
        let mut last = None;
        for (seq, written_at) in tx.rows(next, values).await? {
            if is_second(seq, written_at) {
                return tx.roll_back().await.map(|()| None);
            }
            last = Some(seq);
        }
        let Some(end) = last else {
            return tx.roll_back().await.map(|()| None);
        };
        // A topic that was subscribed since has been read by its stream, if every group's progress is above the row.
        let delete = "DELETE FROM {log} WHERE seq > ? AND seq <= ? AND (\
                topic = '' AND created_at < {now} - ? \
                OR topic <> '' AND created_at < {now} - ? \
                OR topic IN (SELECT topic FROM {topics}) AND created_at < {now} - ? \
                    AND seq <= (SELECT MIN(settled_to) FROM {lanes}))";
        let values = vec![
            after.into(),
            end.into(),
            micros(TOMBSTONE).into(),
            micros(keep.unread.unwrap_or(Duration::MAX)).into(),
            micros(keep.after_read).into(),
        ];
        tx.run(delete, values).await?;
        tx.commit().await?;
        Ok(Some(end))
    }
}
