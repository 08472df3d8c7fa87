//! Moving rows from one table to another, or removing them.
//!
//! Input: the sequence numbers of rows that are locked. Output: the rows are moved, except those that the database
//! refuses. A refused row stays where it is, and holds up no other: the rest is tried by halves.

use super::{
    Log, Tx,
    lists::{list, padded},
    side_effects::{Failure, passed_over},
};
use crate::{
    OutboxDatabase,
    database::{
        DbResult, Value, batch::begin_batch, refused::refuses_values, removal::removal,
        renewable::ANSWER,
    },
};

/// Which table the rows leave, and where they go. The texts are templates.
///
/// ```text
///   all rows ─┬─ taken ─▶ commit
///             └─ refused ─▶ roll back ─▶ each half in a transaction of its own ─▶ … ─▶ one row ─ refused ─▶ it stays
/// ```
pub(crate) struct Transfer {
    /// The table that the rows leave.
    pub(crate) from: &'static str,
    /// The INSERT up to its condition, and the order of its rows. `None` if the rows are removed.
    pub(crate) copy: Option<(&'static str, &'static str)>,
    /// The group, where the table has groups.
    pub(crate) group: Option<String>,
}

/// The result of a transfer.
#[derive(Default)]
pub(crate) struct Moved {
    /// How many rows were moved or removed.
    pub(crate) moved: u64,
    /// The last row that was tried, if there may be more after it.
    pub(crate) last: Option<i64>,
    /// The sequence numbers of rows that were refused, and why.
    pub(crate) refused: Vec<(i64, sqlx::Error)>,
    /// The error that has ended the transfer. What was moved before stays moved.
    pub(crate) failed: Option<sqlx::Error>,
}

impl Moved {
    /// Nothing but an error.
    pub(crate) fn failed(error: sqlx::Error) -> Self {
        Self {
            failed: Some(error),
            ..Self::default()
        }
    }

    /// The result of a transfer that has come to its end, or the error that has ended it.
    pub(crate) fn whole(mut self) -> DbResult<Self> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }
}

impl Transfer {
    /// Moves the rows of a transaction that has them locked, and commits it.
    pub(crate) async fn run<DB: OutboxDatabase>(
        &self,
        log: &Log<DB>,
        tx: Tx<'_, DB>,
        seqs: Vec<i64>,
    ) -> Moved {
        let mut all = Moved {
            last: seqs.last().copied(),
            ..Moved::default()
        };
        let ended = self.move_each(log, tx, seqs, &mut all).await;
        all.failed = ended.err();
        all
    }

    /// The same. What was moved before an error is in `all`.
    async fn move_each<DB: OutboxDatabase>(
        &self,
        log: &Log<DB>,
        mut tx: Tx<'_, DB>,
        seqs: Vec<i64>,
        all: &mut Moved,
    ) -> DbResult<()> {
        match self.move_all(&mut tx, &seqs).await {
            Ok(()) => match tx.commit().await.map_err(Failure::from) {
                Ok(()) => all.moved = seqs.len() as u64,
                Err(failure) => self.move_some(log, seqs, failure, all).await?,
            },
            Err(Failure::Other(error)) => return Err(tx.failed(error).await),
            Err(failure) => {
                tx.roll_back_refused().await?;
                self.move_some(log, seqs, failure, all).await?;
            }
        }
        Ok(())
    }

    /// Tries the rows by halves, until the refused ones are found.
    async fn move_some<DB: OutboxDatabase>(
        &self,
        log: &Log<DB>,
        seqs: Vec<i64>,
        failure: Failure,
        all: &mut Moved,
    ) -> DbResult<()> {
        let mut parts = Vec::new();
        split(seqs, failure, &mut parts, all)?;
        while let Some(part) = parts.pop() {
            let mut tx = log.begin().await?;
            let some = list(padded(&part).len());
            let lock = format!(
                "SELECT seq FROM {} WHERE {}seq IN ({some}) ORDER BY seq {{skip_locked}}",
                self.from,
                self.condition()
            );
            // Another process may have taken some of the rows since.
            let there: Vec<i64> = tx.rows(&lock, self.values(&part)).await?;
            let part: Vec<i64> = part.into_iter().filter(|seq| there.contains(seq)).collect();
            if part.is_empty() {
                tx.roll_back().await?;
                continue;
            }
            let failure = match self.move_all(&mut tx, &part).await {
                Ok(()) => tx.commit().await.map_err(Failure::from).err(),
                Err(Failure::Other(error)) => return Err(tx.failed(error).await),
                Err(failure) => {
                    tx.roll_back_refused().await?;
                    Some(failure)
                }
            };
            match failure {
                None => all.moved += part.len() as u64,
                Some(failure) => split(part, failure, &mut parts, all)?,
            }
        }
        Ok(())
    }

    /// Moves rows inside a transaction.
    async fn move_all<DB: OutboxDatabase>(
        &self,
        tx: &mut Tx<'_, DB>,
        seqs: &[i64],
    ) -> Result<(), Failure> {
        let begun = begin_batch::<DB>(&mut tx.tx);
        tx.pool.within(ANSWER, begun).await?;
        if let Some((copy, order)) = self.copy {
            let list = list(padded(seqs).len());
            let copy = format!("{copy} WHERE {}seq IN ({list}) {order}", self.condition());
            if tx.run(&copy, self.values(seqs)).await? < seqs.len() as u64 {
                return Err(Failure::Refused(passed_over("final_log")));
            }
        }
        let (delete, values) = removal(DB::DIALECT, self.from, self.group.as_deref(), seqs);
        tx.run(&delete, values).await?;
        Ok(())
    }

    /// The condition on the group, up to that on the sequence numbers.
    fn condition(&self) -> &'static str {
        self.group.as_ref().map_or("", |_| "group_name = ? AND ")
    }

    /// The values of that condition, and the sequence numbers.
    fn values(&self, seqs: &[i64]) -> Vec<Value<'_>> {
        let group = self.group.iter().map(|group| Value::from(group.as_str()));
        group
            .chain(padded(seqs).into_iter().map(Value::from))
            .collect()
    }
}

/// Adds the halves of a part that was refused, or its only row to the refused ones. If the error is not about values,
/// for example because the table may not be written to at all, no row is at fault, and the error is returned.
fn split(
    mut part: Vec<i64>,
    failure: Failure,
    parts: &mut Vec<Vec<i64>>,
    all: &mut Moved,
) -> DbResult<()> {
    let error = match failure {
        Failure::Other(error) => return Err(error),
        Failure::Refused(error) => error,
    };
    if error.as_database_error().is_some() && !refuses_values(&error) {
        return Err(error);
    }
    if let [seq] = part[..] {
        all.refused.push((seq, error));
    } else {
        let half = part.split_off(part.len() / 2);
        parts.extend([half, part]);
    }
    Ok(())
}
