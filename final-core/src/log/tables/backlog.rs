//! The backlog: how far a group is behind.
//!
//! Input: the lanes of a group, and the rows of the log above their progress. Output: [`LogBacklog`].

use std::time::Duration;

use super::Log;
use crate::{
    OutboxDatabase,
    database::{
        DbResult, Value, columns,
        limits::{count, duration},
    },
};

/// What waits for a service in the log. [`SqlBroker::backlog`](crate::log::SqlBroker::backlog) counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogBacklog {
    /// Messages that no instance of the service has read yet.
    pub waiting: u64,
    /// The age of the oldest message that is not settled: waiting, or in flight. Alert on this.
    pub oldest: Option<Duration>,
    /// Messages that are not due yet, of all services of the database.
    pub scheduled: u64,
    /// The service's dead letters.
    pub dead_letters: u64,
}

columns! {
    /// The counts, before messages are added that would be passed over because the sequence went back.
    struct BacklogRow {
        waiting: i64,
        oldest: Option<i64>,
        scheduled: i64,
        dead_letters: i64,
    }
}

/// The `FROM` and `WHERE` of the rows that are for a group, above a column of its lanes. The name of the group is given
/// four times.
pub(crate) fn unread(number: &str) -> String {
    format!(
        "FROM {{log}} l WHERE l.seq > \
             (SELECT MIN({number}) FROM {{lanes}} WHERE group_name = ? AND stream = 0) \
         AND (l.recipient IS NULL OR l.recipient = ?) \
         AND EXISTS (SELECT 1 FROM {{lanes}} k WHERE k.group_name = ? AND k.stream = 0 \
             AND k.lane = l.lane AND k.{number} < l.seq) \
         AND EXISTS (SELECT 1 FROM {{topics}} t WHERE t.group_name = ? AND t.stream = 0 \
             AND t.topic = l.topic AND t.after_seq < l.seq)"
    )
}

impl<DB: OutboxDatabase> Log<DB> {
    /// Counts the backlog of a group, row by row.
    pub(crate) async fn backlog(&self, group: &str) -> DbResult<LogBacklog> {
        let backlog = format!(
            "SELECT (SELECT COUNT(*) {}) AS waiting, {{now}} - (SELECT MIN(l.created_at) {}) AS oldest, \
                 (SELECT COUNT(*) FROM {{scheduled}}) AS scheduled, \
                 (SELECT COUNT(*) FROM {{dead}} WHERE group_name = ?) AS dead_letters",
            unread("read_to"),
            unread("settled_to")
        );
        let values = vec![Value::from(group.to_owned()); 9];
        let row: Option<BacklogRow> = self.count(&backlog, values).await?;
        let row = row.ok_or(sqlx::Error::RowNotFound)?;
        let (second, oldest_second) = self.passed_over(group).await?;
        Ok(LogBacklog {
            waiting: count(row.waiting) + count(second),
            oldest: row.oldest.max(oldest_second).map(duration),
            scheduled: count(row.scheduled),
            dead_letters: count(row.dead_letters),
        })
    }
}
