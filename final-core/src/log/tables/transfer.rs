//! Rows that are moved from one table to another, or removed. One that the database does not take stays where
//! it is, and keeps no other back.

use super::{
    Log, Tx,
    extras::{Failure, passed_over},
    lists::{list, padded},
};
use crate::{
    OutboxDatabase,
    database::{DbResult, Value, refused::refuses_values},
};

/// Which rows, and where they go. The texts are templates.
pub(crate) struct Transfer {
    pub(crate) from: &'static str,
    /// The INSERT up to its condition, and the order of its rows; nothing where the rows are removed.
    pub(crate) copy: Option<(&'static str, &'static str)>,
    /// The group, where the table has groups.
    pub(crate) group: Option<String>,
}

/// What became of some rows.
#[derive(Default)]
pub(crate) struct Moved {
    pub(crate) moved: u64,
    /// The last one that was looked at, if there may be more behind it.
    pub(crate) last: Option<i64>,
    /// The numbers of those that stay, and why.
    pub(crate) refused: Vec<(i64, sqlx::Error)>,
}

impl Transfer {
    /// Moves the rows of a transaction that has them locked, and commits it.
    pub(crate) async fn run<DB: OutboxDatabase>(
        &self,
        log: &Log<DB>,
        mut tx: Tx<'_, DB>,
        seqs: Vec<i64>,
    ) -> DbResult<Moved> {
        let mut all = Moved {
            last: seqs.last().copied(),
            ..Moved::default()
        };
        match self.move_all(&mut tx, &seqs).await {
            Ok(()) => match tx.commit().await.map_err(Failure::from) {
                Ok(()) => all.moved = seqs.len() as u64,
                Err(failure) => self.move_some(log, seqs, failure, &mut all).await?,
            },
            Err(Failure::Other(error)) => return Err(error),
            Err(failure) => {
                tx.give_up().await?;
                self.move_some(log, seqs, failure, &mut all).await?;
            }
        }
        Ok(all)
    }

    /// By halves, until those are found that are refused.
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
            // Somebody else may have taken some since.
            let there: Vec<i64> = tx.rows(&lock, self.values(&part)).await?;
            let part: Vec<i64> = part.into_iter().filter(|seq| there.contains(seq)).collect();
            if part.is_empty() {
                tx.roll_back().await?;
                continue;
            }
            let failure = match self.move_all(&mut tx, &part).await {
                Ok(()) => tx.commit().await.map_err(Failure::from).err(),
                Err(Failure::Other(error)) => return Err(error),
                Err(failure) => {
                    tx.give_up().await?;
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

    async fn move_all<DB: OutboxDatabase>(
        &self,
        tx: &mut Tx<'_, DB>,
        seqs: &[i64],
    ) -> Result<(), Failure> {
        let list = list(padded(seqs).len());
        tx.be_durable().await?;
        if let Some((copy, order)) = self.copy {
            let copy = format!("{copy} WHERE {}seq IN ({list}) {order}", self.condition());
            if tx.run(&copy, self.values(seqs)).await? < seqs.len() as u64 {
                return Err(Failure::Refused(passed_over("final_log")));
            }
        }
        let delete = format!(
            "DELETE FROM {} WHERE {}seq IN ({list})",
            self.from,
            self.condition()
        );
        if self.group.is_some() {
            tx.run(&delete, self.values(seqs)).await?;
        } else {
            tx.delete_only(&delete, self.values(seqs), seqs.len())
                .await?;
        }
        Ok(())
    }

    fn condition(&self) -> &'static str {
        self.group.as_ref().map_or("", |_| "group_name = ? AND ")
    }

    fn values(&self, seqs: &[i64]) -> Vec<Value<'_>> {
        let group = self.group.iter().map(|group| Value::from(group.as_str()));
        group
            .chain(padded(seqs).into_iter().map(Value::from))
            .collect()
    }
}

/// Only what is refused for its values is looked for: of a table that may not be written to at all, no row is
/// at fault.
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
