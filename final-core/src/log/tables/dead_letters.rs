//! Dead letters: listed, replayed, discarded.
//!
//! Input: a group, and a filter. Output: dead letters; or rows of the log for that group alone; or nothing,
//! because they are removed. Each batch is one transaction, so an error or a dropped future leaves some of the
//! letters done.

use uuid::Uuid;

use super::{
    Log,
    transfer::{Moved, Transfer},
};
use crate::{
    MessageId, OutboxDatabase,
    broker::{DeadLetter, DeadLetterFilter, LetterCursor},
    database::{
        DbResult, Value,
        batch::BatchSize,
        columns,
        fitting::{Fitting, SIZED},
        limits::duration,
        lists::{list, padded},
        stored::Stored,
    },
};

/// Letters that one transaction replays or discards.
const BATCH: u64 = 100;

/// The INSERT of letters into the log for their group alone, up to its condition, and the order of its rows.
pub(crate) const REPLAY: (&str, &str) = (
    "{limited} INSERT INTO {log} ({message}, recipient, created_at) SELECT {message}, group_name, {now} FROM {dead}",
    "ORDER BY seq",
);

impl<DB: OutboxDatabase> Log<DB> {
    /// The dead letters, oldest first: as many as [fit](Fitting).
    pub(crate) async fn letters(
        &self,
        group: &str,
        filter: &DeadLetterFilter,
        most: u64,
    ) -> DbResult<Vec<DeadLetter>> {
        let (condition, meant) = condition(filter, group);
        let sizes = format!(
            "SELECT {SIZED} FROM {{dead}} WHERE {condition} AND seq > ? ORDER BY seq LIMIT ?"
        );
        let mut behind = i64::MIN;
        loop {
            let mut fitting = Fitting::of(most, behind);
            while let Some((after, some)) = fitting.next() {
                let mut values = meant.clone();
                values.extend([after.into(), i64::try_from(some).unwrap_or(i64::MAX).into()]);
                fitting.take(self.rows(&sizes, values).await?);
            }
            let seqs = fitting.seqs();
            let rows = self.letter_rows(group, &seqs).await?;
            match seqs.last() {
                // Another session has taken all of them since, and an empty list would be the end.
                Some(last) if rows.is_empty() => behind = *last,
                _ => return Ok(rows.into_iter().map(|row| row.letter(group)).collect()),
            }
        }
    }

    /// The letters of these numbers that are still there.
    async fn letter_rows(&self, group: &str, seqs: &[i64]) -> DbResult<Vec<LetterRow>> {
        if seqs.is_empty() {
            return Ok(Vec::new());
        }
        let seqs = padded(seqs);
        let letters = format!(
            "SELECT seq, message_id, topic, message_key, headers, payload, content_type, \
                 CAST(durable AS {{int}}) AS is_durable, reason, attempts, {{now}} - died_at AS age \
             FROM {{dead}} WHERE group_name = ? AND seq IN ({}) ORDER BY seq",
            list(seqs.len())
        );
        let mut values = vec![group.into()];
        values.extend(seqs.into_iter().map(Value::from));
        self.rows(&letters, values).await
    }

    /// Puts letters back into the log, for that group alone. Returns how many.
    pub(crate) async fn replay(&self, group: &str, filter: &DeadLetterFilter) -> DbResult<u64> {
        self.take(group, filter, Some(REPLAY)).await
    }

    /// Removes letters for good. Returns how many.
    pub(crate) async fn discard(&self, group: &str, filter: &DeadLetterFilter) -> DbResult<u64> {
        self.take(group, filter, None).await
    }

    /// Removes letters batch by batch. If there is a `copy`, they are copied into the log first. Returns how
    /// many.
    ///
    /// A letter stays if the database does not let it go, or if the log does not take it. That is logged, and
    /// it is an error only if no other letter was taken.
    async fn take(
        &self,
        group: &str,
        filter: &DeadLetterFilter,
        copy: Option<(&'static str, &'static str)>,
    ) -> DbResult<u64> {
        let transfer = Transfer {
            from: "{dead}",
            copy,
            group: Some(group.to_owned()),
        };
        // Without this bound, letters that die again while others are replayed would be replayed again.
        let mut tx = self.begin().await?;
        let highest = "SELECT MAX(seq) FROM {dead} WHERE group_name = ?";
        let highest: Vec<Option<i64>> = tx.rows(highest, vec![group.into()]).await?;
        tx.roll_back().await?;
        let Some(last) = highest.into_iter().flatten().next() else {
            return Ok(0);
        };
        let (mut taken, mut after, mut size) = (0, i64::MIN, BatchSize::of(BATCH));
        let mut stays: Option<sqlx::Error> = None;
        loop {
            let most = size.rows().min(filter.at_most() - taken);
            let some = self.take_some(group, filter, (after, last), most, &transfer);
            let mut moved = some.await.unwrap_or_else(Moved::failed);
            let has_found = moved.moved > 0 || !moved.refused.is_empty();
            // Counted before the batch is tried again with fewer letters: some halves may be done.
            taken += moved.moved;
            for (seq, error) in moved.refused.drain(..) {
                tracing::error!(
                    target: "final::log",
                    service = group, seq, %error,
                    "a dead letter stays: the database refuses it"
                );
                stays.get_or_insert(error);
            }
            let Some(moved) = size.ended::<DB, _>(moved.whole(), |_| has_found)? else {
                continue;
            };
            let Some(at) = moved.last else {
                break;
            };
            after = at;
        }
        match stays {
            Some(error) if taken == 0 => Err(error),
            _ => Ok(taken),
        }
    }

    /// The next batch, after a sequence number and up to another one. A letter that another session has locked is left
    /// out.
    async fn take_some(
        &self,
        group: &str,
        filter: &DeadLetterFilter,
        (after, last): (i64, i64),
        most: u64,
        transfer: &Transfer,
    ) -> DbResult<Moved> {
        if most == 0 {
            return Ok(Moved::default());
        }
        let (condition, mut values) = condition(filter, group);
        let mut tx = self.begin().await?;
        let seqs = format!(
            "SELECT seq FROM {{dead}} WHERE {condition} AND seq > ? AND seq <= ? ORDER BY seq LIMIT ? {{skip_locked}}"
        );
        values.extend([
            after.into(),
            last.into(),
            i64::try_from(most).unwrap_or(i64::MAX).into(),
        ]);
        let seqs: Vec<i64> = tx.rows(&seqs, values).await?;
        if seqs.is_empty() {
            return tx.roll_back().await.map(|()| Moved::default());
        }
        let is_full = seqs.len() as u64 == most;
        let mut moved = transfer.run(self, tx, seqs).await;
        moved.last = moved.last.filter(|_| is_full);
        Ok(moved)
    }
}

/// The `WHERE` of the dead letters that a filter means, and its values.
fn condition<'a>(filter: &'a DeadLetterFilter, group: &'a str) -> (String, Vec<Value<'a>>) {
    let (narrower, narrowing) = filter.conditions();
    let mut text = format!("group_name = ?{narrower}");
    let mut values: Vec<Value<'a>> = std::iter::once(group.into()).chain(narrowing).collect();
    if let Some(after) = filter.after {
        // Letters that were collected from a broker come after all of the log's own.
        match after.is_collected {
            true => text.push_str(" AND 1 = 0"),
            false => {
                text.push_str(" AND seq > ?");
                values.push(after.number.into());
            }
        }
    }
    (text, values)
}

columns! {
    /// A dead letter as it is read.
    struct LetterRow {
        seq: i64,
        message_id: Uuid,
        topic: String,
        message_key: Option<String>,
        headers: Option<String>,
        payload: Vec<u8>,
        content_type: String,
        is_durable: i64,
        reason: String,
        attempts: i64,
        age: i64,
    }
}

impl LetterRow {
    fn letter(self, group: &str) -> DeadLetter {
        let row = self;
        let id = MessageId(row.message_id);
        let stored = Stored {
            topic: row.topic.clone(),
            key: row.message_key,
            headers: row.headers,
            payload: row.payload,
            content_type: row.content_type,
            durable: row.is_durable != 0,
        };
        DeadLetter {
            service: group.to_owned(),
            message: stored.into_message(id),
            id,
            topic: row.topic,
            reason: row.reason,
            attempts: u32::try_from(row.attempts).unwrap_or(0),
            age: duration(row.age),
            cursor: Some(LetterCursor::own(row.seq)),
        }
    }
}
