//! Sequence numbers that went back: the sequence was restarted, the table truncated, or another server took over
//! that counts on its own.
//!
//! Input: the sequence, the rows of the log, and the watermarks of this reader and of the table. Output: whether
//! anything is to be mended. [`renumber`](super::renumber) mends it.
//!
//! ```text
//!   the sequence is below a number that was used ──────────────┐
//!   a row at either end breaks a watermark (each refresh) ─────┼─▶ Log::mend
//!   a row anywhere breaks a watermark (a walk, every 10 min) ──┘
//! ```
//!
//! A group takes every message at or below its progress for done. So a message with a used sequence number would be
//! passed over in silence.
//!
//! One case is not noticed: the sequence goes back and passes the old numbers again between two refreshes (2.5 s),
//! and the process that had read the old ones dies before the second refresh.

use std::fmt;

use super::{Log, lists::padded};
use crate::log::progress::{
    knowledge::ReaderKnowledge,
    watermark::{MOST, Watermark, left_together},
};
use crate::{
    OutboxDatabase,
    database::{Column, DbResult, FromRow, Row, Value, columns},
};

/// Rows that one statement of a walk reads.
pub(crate) const STEP: i64 = 10_000;

/// Ids of watermarks in the table: the one that running members write, and the one of the last walk. Higher ids are
/// times at which the sequence went back. Ids below zero are the watermarks that the last member to end has left.
const NEWEST: i64 = 0;
const WALKED: i64 = 1;

/// The sequence numbers of the log went back, and the sequence could not be raised above those that were used.
///
/// `on_read_error` gets it inside [`sqlx::Error::Configuration`], and it is the cause of `start`'s error. Nothing is
/// read meanwhile, so nothing is lost. Reading goes on by itself once the sequence is raised.
#[derive(Debug)]
#[non_exhaustive]
pub struct NumbersWentBack {
    /// The highest sequence number that was used.
    pub highest: i64,
    /// The last sequence number that was allocated.
    pub last: i64,
    /// The error of the database.
    pub cause: sqlx::Error,
}

impl NumbersWentBack {
    /// Finds it in an error of the log.
    ///
    /// ```
    /// # use final_core::{SqlBroker, log::NumbersWentBack};
    /// # fn example(broker: SqlBroker<sqlx::Sqlite>) -> SqlBroker<sqlx::Sqlite> {
    /// broker.on_read_error(|error| {
    ///     if let Some(back) = NumbersWentBack::of(error) {
    ///         eprintln!("page somebody: {back}");
    ///     }
    /// })
    /// # }
    /// ```
    pub fn of(error: &sqlx::Error) -> Option<&Self> {
        match error {
            sqlx::Error::Configuration(cause) => cause.downcast_ref(),
            _ => None,
        }
    }
}

impl fmt::Display for NumbersWentBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            highest,
            last,
            cause,
        } = self;
        write!(
            f,
            "the sequence numbers of final_log went back: numbers up to {highest} were used, and the next \
             one is {}; raising the sequence failed: {cause}; let the role of the service use and update \
             the sequence of final_log.seq and insert into the table, or raise the sequence above \
             {highest} by hand",
            last.saturating_add(1)
        )
    }
}

impl std::error::Error for NumbersWentBack {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// A condition on rows `l`, and its values: the row breaks one of these watermarks, so its sequence number was
/// allocated twice.
pub(crate) fn breaks(marks: &[Watermark]) -> (String, Vec<Value<'static>>) {
    if marks.is_empty() {
        return ("1 = 0".to_owned(), Vec::new());
    }
    let marks = padded(marks);
    let one = "l.seq <= ? AND l.created_at > ?";
    let values = marks.iter();
    (
        format!("({})", vec![one; marks.len()].join(" OR ")),
        values
            .flat_map(|mark| [Value::from(mark.seq), mark.written_at.into()])
            .collect(),
    )
}

/// The same condition by the watermarks of the table.
pub(crate) const BREAKS_WRITTEN: &str = "EXISTS (SELECT 1 FROM {watermarks} w \
    WHERE w.seq >= l.seq AND w.written_at < l.created_at)";

/// A condition on rows `l`: a group has passed over the row. `by` is a condition on the group's lanes `k`.
pub(crate) fn passed(by: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM {{lanes}} k, {{topics}} t WHERE k.stream = 0 {by} \
         AND k.lane = l.lane AND k.read_to >= l.seq AND t.group_name = k.group_name AND t.stream = 0 \
         AND t.topic = l.topic AND (l.recipient IS NULL OR l.recipient = k.group_name))"
    )
}

impl<DB: OutboxDatabase> Log<DB> {
    /// How many messages a group would pass over because their sequence numbers were allocated twice, and how old the
    /// oldest is, in microseconds.
    pub(crate) async fn passed_over(&self, group: &str) -> DbResult<(i64, Option<i64>)> {
        let check = self.sequence_row().await?.check(&[]);
        if !check.is_suspect() {
            return Ok((0, None));
        }
        let written: Vec<Watermark> = self.rows(WRITTEN, Vec::new()).await?;
        let lost = check.last.filter(|last| *last < check.highest);
        let lost = lost.map(|seq| Watermark {
            seq,
            written_at: ReaderKnowledge::default().since(seq, &written).0,
        });
        let (by_lost, mut values) = breaks(lost.as_slice());
        let count = format!(
            "SELECT COUNT(*), {{now}} - MIN(l.created_at) FROM {{log}} l \
             WHERE l.topic <> '' AND ({BREAKS_WRITTEN} OR {by_lost}) AND {}",
            passed("AND k.group_name = ?")
        );
        values.push(group.to_owned().into());
        let counted = self.count(&count, values).await?;
        counted.ok_or(sqlx::Error::RowNotFound)
    }

    /// What one statement finds about the sequence, for one who has read nothing of the log.
    pub(crate) async fn sequence_row(&self) -> DbResult<SequenceRow> {
        let (columns, values) = columns(&[]);
        let row = self.first(&check(&columns), values).await?;
        row.ok_or(sqlx::Error::RowNotFound)
    }

    /// Raises the newest watermark of the table: this process has read so far.
    pub(crate) async fn write_watermark(&self, mark: Watermark) -> DbResult<()> {
        let raise = "UPDATE {watermarks} SET written_at = ?, seq = ? WHERE id = ? AND seq < ?";
        let values = vec![
            mark.written_at.into(),
            mark.seq.into(),
            NEWEST.into(),
            mark.seq.into(),
        ];
        self.run(raise, values).await.map(drop)
    }

    /// Writes down all watermarks of a reader that ends, for the processes that start next, beside what others have
    /// left. The newest alone is not enough: an open transaction may have used numbers, while visible rows have
    /// passed the old ones.
    pub(crate) async fn leave_watermarks(&self, marks: &[Watermark]) -> DbResult<()> {
        let mut tx = self.begin().await?;
        super::subscriptions::hold_trimming(&mut tx).await?;
        let left = "SELECT seq, written_at FROM {watermarks} WHERE id < 0";
        let left: Vec<(i64, i64)> = tx.rows(left, Vec::new()).await?;
        let left = left
            .into_iter()
            .map(|(seq, written_at)| Watermark { seq, written_at });
        tx.run("DELETE FROM {watermarks} WHERE id < 0", Vec::new())
            .await?;
        for (id, mark) in (1..).zip(left_together(left.collect(), marks)) {
            let insert = "INSERT INTO {watermarks} (id, seq, written_at) VALUES (?, ?, ?)";
            let id: i64 = id;
            let values = vec![(-id).into(), mark.seq.into(), mark.written_at.into()];
            tx.run(insert, values).await?;
        }
        tx.commit().await
    }

    /// The newest watermark of the table, and the time by the database's clock. Writes the first watermark if there is
    /// none.
    pub(crate) async fn watermark(&self) -> DbResult<(Watermark, i64)> {
        let first = "{insert} INTO {watermarks} (id, seq, written_at) \
            SELECT 0, COALESCE((SELECT MAX(seq) FROM {log}), 0), {now} FROM {state} WHERE id = 1 {nothing}";
        let newest = "SELECT seq, written_at, {now} FROM {watermarks} WHERE id = 0";
        for makes in [false, true] {
            if makes {
                self.run(first, Vec::new()).await?;
            }
            if let Some((seq, written_at, now)) = self.first(newest, Vec::new()).await? {
                return Ok((Watermark { seq, written_at }, now));
            }
        }
        Err(sqlx::Error::RowNotFound)
    }

    /// Walks on through the rows after a sequence number. Returns where to go on, or `None` at the end; and
    /// whether a row of this step has a sequence number that was allocated twice.
    pub(crate) async fn walk(&self, after: i64) -> DbResult<(Option<i64>, bool)> {
        let step = format!(
            "SELECT MAX(l.seq), COUNT(CASE WHEN l.topic <> '' AND {BREAKS_WRITTEN} THEN 1 END) \
             FROM (SELECT seq, topic, created_at FROM {{log}} \
                 WHERE seq > ? AND seq <= (SELECT MAX(seq) FROM {{watermarks}}) \
                 ORDER BY seq LIMIT ?) l"
        );
        let values = vec![after.into(), STEP.into()];
        let row: Option<(Option<i64>, i64)> = self.first(&step, values).await?;
        let (last, found) = row.ok_or(sqlx::Error::RowNotFound)?;
        if last.is_none() {
            // The next walk looks at rows that were written since this one.
            let walked = "DELETE FROM {watermarks} WHERE id = ?";
            self.run(walked, vec![WALKED.into()]).await?;
            let walked = "{insert} INTO {watermarks} (id, seq, written_at) \
                SELECT 1, w.seq, w.written_at FROM {watermarks} w WHERE w.id = 0 {nothing}";
            self.run(walked, Vec::new()).await?;
        }
        Ok((last, found > 0))
    }
}

/// The watermarks of the table that members and walks have written.
pub(crate) const WRITTEN: &str = "SELECT seq, written_at FROM {watermarks} WHERE id <= 1";

/// What [`Session::refresh`](super::session::Session::refresh) finds about the sequence.
#[derive(Debug, Default)]
pub(crate) struct SequenceCheck {
    /// The last sequence number that was allocated. `None` if the role may not read the sequence.
    pub(crate) last: Option<i64>,
    /// The highest sequence number that was used.
    pub(crate) highest: i64,
    /// Whether a row at either end of the log has a sequence number that was allocated twice.
    pub(crate) has_second: bool,
    /// Whether the next scheduled message would get a number that another scheduled message has.
    pub(crate) scheduled_is_back: bool,
    /// The database's clock, in microseconds since 1970.
    pub(crate) now: i64,
}

impl SequenceCheck {
    /// Whether the sequence is to be mended, as far as one statement can tell.
    pub(crate) fn is_suspect(&self) -> bool {
        self.has_second
            || self.scheduled_is_back
            || self.last.is_some_and(|last| last < self.highest)
    }
}

/// How many rows at either end are read.
const END: i64 = 100;

/// The columns of a check, and their values. They compare the last number that was allocated with all that was
/// used: by a row, by a lane, by a watermark of the table, and by trimming. And they look for rows that break a
/// watermark, at both ends of the log: the oldest rows, and the newest of those that trimming has passed over.
pub(crate) fn columns(marks: &[Watermark]) -> (String, Vec<Value<'static>>) {
    let (by_ours, ours) = breaks(marks);
    let second = |rows: &str| {
        format!(
            "(SELECT COUNT(*) FROM (SELECT seq, topic, created_at FROM {{log}} {rows} LIMIT {END}) l \
             WHERE l.topic <> '' AND ({by_ours} OR {BREAKS_WRITTEN}))"
        )
    };
    let text = format!(
        "{{last_number}} AS last_number, (SELECT MAX(seq) FROM {{log}}) AS highest_row, \
         (SELECT MAX(read_to) FROM {{lanes}}) AS highest_read, \
         (SELECT MAX(seq) FROM {{watermarks}} WHERE id <= 1) AS highest_told, \
         (SELECT trimmed FROM {{state}} WHERE id = 1) AS highest_trimmed, \
         {} AS second_at_begin, {} AS second_at_trimmed, \
         {{last_scheduled}} AS last_scheduled, (SELECT MAX(seq) FROM {{scheduled}}) AS highest_scheduled, \
         {{now}} AS clock",
        second("ORDER BY seq"),
        second("WHERE seq <= (SELECT trimmed FROM {state} WHERE id = 1) ORDER BY seq DESC"),
    );
    (text, [ours.clone(), ours].concat())
}

/// The columns of a check as a statement of its own.
pub(crate) fn check(columns: &str) -> String {
    format!("SELECT {columns}")
}

columns! {
    /// What a check finds.
    pub(crate) struct SequenceRow {
        /// The last sequence number that was allocated. `None` if the role may not read the sequence.
        pub(crate) last_number: Option<i64>,
        /// The highest sequence number of a row.
        pub(crate) highest_row: i64,
        /// How far the lane that was read furthest has come.
        pub(crate) highest_read: i64,
        /// The highest watermark of the table.
        pub(crate) highest_told: i64,
        /// Up to where the log was trimmed.
        pub(crate) highest_trimmed: i64,
        /// How many of the oldest rows have a number that was allocated twice.
        pub(crate) second_at_begin: i64,
        /// The same of the newest rows that trimming has passed over.
        pub(crate) second_at_trimmed: i64,
        /// The last number that the table of scheduled messages has allocated.
        pub(crate) last_scheduled: Option<i64>,
        /// The highest number of a scheduled message.
        pub(crate) highest_scheduled: Option<i64>,
        /// The database's clock, in microseconds since 1970.
        pub(crate) clock: i64,
    }
}

impl SequenceRow {
    /// The check of a reader with these watermarks.
    pub(crate) fn check(&self, marks: &[Watermark]) -> SequenceCheck {
        let used = [
            self.highest_row,
            self.highest_read,
            self.highest_told,
            self.highest_trimmed,
        ];
        let ours = marks.iter().map(|mark| mark.seq);
        SequenceCheck {
            last: self.last_number,
            highest: used.into_iter().chain(ours).max().unwrap_or(0),
            has_second: self.second_at_begin + self.second_at_trimmed > 0,
            scheduled_is_back: match (self.last_scheduled, self.highest_scheduled) {
                (Some(last), Some(highest)) => last < highest,
                _ => false,
            },
            now: self.clock,
        }
    }
}

impl FromRow for Watermark {
    const COLUMNS: &'static [Column] = <(i64, i64)>::COLUMNS;

    fn from_row(row: &mut Row) -> DbResult<Self> {
        let (seq, written_at) = FromRow::from_row(row)?;
        Ok(Self { seq, written_at })
    }
}

const _: () = assert!(MOST == 16, "a list of marks is padded to 16");
