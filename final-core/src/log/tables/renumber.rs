//! Mending a sequence that went back: it is raised again, and messages whose sequence numbers were allocated twice
//! get new ones, so every group reads them like any other.
//!
//! Input: what a reader knows of the sequence, and the watermarks of the table. State: how far the log was gone
//! through. Output: a raised sequence, and renumbered messages.
//!
//! ```text
//!   raise the sequence, remember when ─▶ go through the log in steps: renumber ─▶ remember, if any was found
//! ```
//!
//! Nothing is lost, whatever crashes in between: the sequence is raised first, and a message that is not renumbered
//! yet still breaks the watermarks of the table. A message that is renumbered while it is in flight comes twice.

use super::{
    Log, Tx,
    lists::{list, padded},
    sequence::{
        BREAKS_WRITTEN, NumbersWentBack, STEP, SequenceRow, WRITTEN, breaks, check, columns, passed,
    },
    subscriptions::hold_trimming,
    transfer::{Moved, Transfer},
};
use crate::log::progress::{
    knowledge::ReaderKnowledge,
    watermark::{Watermark, written_by},
};
use crate::{
    OutboxDatabase,
    database::{DbResult, Value, batch::BatchSize},
};

/// Rows that one transaction renumbers.
const BATCH: u64 = 500;
/// How long it is remembered that the sequence went back. The messages of a transaction that was open then are found
/// for as long.
const REMEMBERED: i64 = 7 * 24 * 3600 * 1_000_000;

/// The result of mending.
#[derive(Debug, Default)]
pub(crate) struct Mended {
    /// From where to where the sequence was raised.
    pub(crate) raised: Option<(i64, i64)>,
    /// Messages that have new sequence numbers.
    pub(crate) moved: u64,
    /// The sequence numbers of messages that the log refuses to take a second time, and why. They stay where they
    /// are, and are tried again.
    pub(crate) refused: Vec<(i64, sqlx::Error)>,
}

/// A mending that goes through the log, step by step.
struct Round {
    mended: Mended,
    /// The sequence number after which the next step begins.
    after: i64,
    /// The last sequence number to look at.
    until: i64,
    /// All watermarks, of this reader and of the table.
    marks: Vec<Watermark>,
    /// Set if this round has raised the sequence: a watermark that every row breaks that was written since the
    /// sequence went back.
    lost: Option<Watermark>,
    /// The highest sequence number that this round has found allocated twice.
    second: Option<i64>,
    /// How many rows the next transaction renumbers.
    size: BatchSize,
}

impl<DB: OutboxDatabase> Log<DB> {
    /// Raises the sequence above all sequence numbers that were used, and gives new ones to messages whose
    /// number was allocated twice.
    ///
    /// ```text
    ///   a group has read to 500; the sequence is restarted at 1, and messages are written: 1, 2, 3
    ///   the group would pass over them: everything up to 500 counts as done
    ///   mend: the sequence goes on above 500, and 1, 2, 3 get numbers above 500, in this order
    /// ```
    ///
    /// Its transactions hold the lock that trimming and subscribing take.
    pub(crate) async fn mend(&self, known: &ReaderKnowledge) -> DbResult<Mended> {
        let Some(mut round) = self.raise_numbers(known).await? else {
            return Ok(Mended::default());
        };
        while self.move_next(&mut round, known).await? {}
        Ok(round.mended)
    }

    /// Raises the sequence. `None` if nothing is to be mended.
    async fn raise_numbers(&self, known: &ReaderKnowledge) -> DbResult<Option<Round>> {
        let mut tx = self.begin().await?;
        hold_trimming(&mut tx).await?;
        let (columns, values) = columns(&known.marks);
        let row: Option<SequenceRow> = tx.first(&check(&columns), values).await?;
        let check = row.ok_or(sqlx::Error::RowNotFound)?.check(&known.marks);
        if !check.is_suspect() && !known.thoroughly {
            return tx.roll_back().await.map(|()| None);
        }
        raise_scheduled(&mut tx).await?;
        let written: Vec<Watermark> = tx.rows(WRITTEN, Vec::new()).await?;
        let marks: Vec<_> = written.iter().chain(&known.marks).copied().collect();
        let told = marks.iter().map(|mark| mark.seq).max().unwrap_or(0);
        let mut round = Round {
            mended: Mended::default(),
            after: 0,
            until: told,
            marks,
            lost: None,
            second: None,
            size: BatchSize::of(BATCH),
        };
        // Asked once more, now that the numbers that were used are known.
        let last = match last(&mut tx, "").await? {
            Some(last) => last,
            None => take_one(&mut tx).await?,
        };
        if last < check.highest {
            raise(&mut tx, "", last, check.highest).await?;
            round.mended.raised = Some((last, check.highest));
            let (since, exact) = known.since(last, &written);
            let sure = Watermark {
                seq: told.min(last),
                written_at: exact,
            };
            remember(&mut tx, sure).await?;
            round.until = told.max(last);
            round.lost = Some(Watermark {
                seq: last,
                written_at: since,
            });
        }
        tx.commit().await?;
        Ok(Some(round))
    }

    /// Renumbers the next messages. False at the end.
    async fn move_next(&self, round: &mut Round, known: &ReaderKnowledge) -> DbResult<bool> {
        let mut tx = self.begin().await?;
        hold_trimming(&mut tx).await?;
        let Some(end) = step(&mut tx, round.after, round.until).await? else {
            if let (Some(seq), None) = (round.second, round.lost) {
                let written_at = written_by(&round.marks, seq).unwrap_or(0);
                remember(&mut tx, Watermark { seq, written_at }).await?;
            }
            tx.commit().await?;
            return Ok(false);
        };
        let most = round.size.rows();
        let range = (round.after, end);
        let rows = second(&mut tx, range, &known.marks, round.lost, most).await?;
        let after = match rows.last() {
            Some((last, _)) if rows.len() as u64 >= most => *last,
            _ => end,
        };
        let is_second = |(seq, written_at): &(i64, i64)| {
            !known.open.contains(*seq) && known.late.get(seq) != Some(written_at)
        };
        let rows: Vec<i64> = rows
            .into_iter()
            .filter(is_second)
            .map(|row| row.0)
            .collect();
        if let Some(seq) = rows.last().copied() {
            round.size.found(rows.len());
            let moved = self.renumber(tx, rows).await;
            let found = |moved: &Moved| moved.moved > 0 || !moved.refused.is_empty();
            let Some(moved) = round.size.ended::<DB, _>(moved, found)? else {
                return Ok(true);
            };
            round.second = Some(seq);
            round.mended.moved += moved.moved;
            round.mended.refused.extend(moved.refused);
        } else {
            tx.commit().await?;
        }
        round.after = after;
        Ok(true)
    }

    /// Gives rows the next sequence numbers, in their order, and commits.
    async fn renumber(&self, mut tx: Tx<'_, DB>, seqs: Vec<i64>) -> DbResult<Moved> {
        // Another member may be renumbering halves of these rows, without the lock that trimming takes.
        let some = padded(&seqs);
        let lock = format!(
            "SELECT seq FROM {{log}} WHERE seq IN ({}) ORDER BY seq {{skip_locked}}",
            list(some.len())
        );
        let values = some.into_iter().map(Value::from).collect();
        let seqs: Vec<i64> = tx.rows(&lock, values).await?;
        if seqs.is_empty() {
            return tx.commit().await.map(|()| Moved::default());
        }
        let transfer = Transfer {
            from: "{log}",
            copy: Some((
                "{limited} INSERT INTO {log} ({message}, recipient, expires_at, created_at) \
                 SELECT {message}, recipient, expires_at, created_at FROM {log}",
                "ORDER BY seq",
            )),
            group: None,
        };
        transfer.run(self, tx, seqs).await.whole()
    }
}

/// The last sequence number that a table has allocated. `None` if the role may not read the sequence.
async fn last<DB: OutboxDatabase>(tx: &mut Tx<'_, DB>, table: &str) -> DbResult<Option<i64>> {
    let last = match table {
        "" => "SELECT {last_number}",
        _ => "SELECT {last_scheduled}",
    };
    let last: Option<Option<i64>> = tx.first(last, Vec::new()).await?;
    Ok(last.flatten())
}

/// Allocates a sequence number to learn the last one, for a role that may not ask the sequence.
async fn take_one<DB: OutboxDatabase>(tx: &mut Tx<'_, DB>) -> DbResult<i64> {
    let take = "INSERT INTO {log} (message_id, topic, payload, content_type, durable, lane, weight, \
        created_at) VALUES (?, '', ?, '', 0, 0, 0, {now}) RETURNING seq";
    let values = vec![uuid::Uuid::nil().into(), Vec::new().into()];
    let taken = tx.first(take, values).await?;
    taken.ok_or(sqlx::Error::RowNotFound)
}

/// Raises the sequence of a table above `highest`. `""` is the log itself. An error is the one that tells an
/// operator what to do, [`NumbersWentBack`].
async fn raise<DB: OutboxDatabase>(
    tx: &mut Tx<'_, DB>,
    table: &str,
    last: i64,
    highest: i64,
) -> DbResult<()> {
    let raised = match tx.texts.raise_number(table, last, highest) {
        Some(raise) => tx.rows::<i64>(&raise, Vec::new()).await.map(drop),
        None => insert_above(tx, table, highest).await,
    };
    raised.map_err(|cause| {
        sqlx::Error::Configuration(Box::new(NumbersWentBack {
            highest,
            last,
            cause,
        }))
    })
}

/// Inserts an empty row above `highest`: a database that counts by the rows goes on from it.
async fn insert_above<DB: OutboxDatabase>(
    tx: &mut Tx<'_, DB>,
    table: &str,
    highest: i64,
) -> DbResult<()> {
    let (due, at) = match table {
        "" => ("", ""),
        _ => (", due_at", ", {now}"),
    };
    let name = if table.is_empty() { "log" } else { table };
    let row = format!(
        "{{insert}} INTO {{{name}}} (seq, message_id, topic, payload, content_type, durable, lane, weight, \
             created_at{due}) VALUES (?, ?, '', ?, '', 0, 0, 0, {{now}}{at}) {{nothing}}"
    );
    let above = highest.saturating_add(1);
    let values = vec![above.into(), uuid::Uuid::nil().into(), Vec::new().into()];
    tx.run(&row, values).await?;
    if !table.is_empty() {
        // The counter stays above the row that was there.
        let delete = format!("DELETE FROM {{{name}}} WHERE seq = ?");
        tx.run(&delete, vec![above.into()]).await?;
    }
    Ok(())
}

/// Raises the sequence of scheduled messages. Their numbers are only keys: an INSERT with a used one fails.
async fn raise_scheduled<DB: OutboxDatabase>(tx: &mut Tx<'_, DB>) -> DbResult<()> {
    let used = "SELECT MAX(seq) FROM {scheduled}";
    let highest: Option<i64> = tx.first(used, Vec::new()).await?;
    let highest = highest.unwrap_or_default();
    match last(tx, "scheduled").await? {
        Some(last) if last < highest => raise(tx, "scheduled", last, highest).await,
        _ => Ok(()),
    }
}

/// Remembers that the sequence went back: transactions that were open then commit later.
async fn remember<DB: OutboxDatabase>(tx: &mut Tx<'_, DB>, mark: Watermark) -> DbResult<()> {
    let forget = "DELETE FROM {watermarks} WHERE id > 1 AND id < {now} - ?";
    tx.run(forget, vec![REMEMBERED.into()]).await?;
    // The time is a unique id, because menders wait for each other.
    let insert = "{insert} INTO {watermarks} (id, seq, written_at) VALUES ({now}, ?, ?) {nothing}";
    let values = vec![mark.seq.into(), mark.written_at.into()];
    tx.run(insert, values).await.map(drop)
}

/// The last sequence number of the next rows. `None` at the end.
async fn step<DB: OutboxDatabase>(
    tx: &mut Tx<'_, DB>,
    after: i64,
    until: i64,
) -> DbResult<Option<i64>> {
    let end = "SELECT MAX(l.seq) FROM (SELECT seq FROM {log} WHERE seq > ? AND seq <= ? \
        ORDER BY seq LIMIT ?) l";
    let values = vec![after.into(), until.into(), STEP.into()];
    let end: Option<Option<i64>> = tx.first(end, values).await?;
    Ok(end.flatten())
}

/// Rows whose sequence numbers were allocated twice, after one and up to another, in order: the sequence number, and
/// when the row was written.
async fn second<DB: OutboxDatabase>(
    tx: &mut Tx<'_, DB>,
    (after, end): (i64, i64),
    marks: &[Watermark],
    lost: Option<Watermark>,
    most: u64,
) -> DbResult<Vec<(i64, i64)>> {
    let (by_ours, mut values) = breaks(marks);
    let (by_lost, lost) = breaks(lost.as_slice());
    let rows = format!(
        "SELECT l.seq, l.created_at FROM {{log}} l \
         WHERE l.topic <> '' AND ({by_ours} OR {BREAKS_WRITTEN} OR {by_lost} AND {}) \
             AND l.seq > ? AND l.seq <= ? ORDER BY l.seq LIMIT ?",
        passed("")
    );
    values.extend(lost);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    values.extend([after.into(), end.into(), Value::from(most)]);
    tx.rows(&rows, values).await
}
