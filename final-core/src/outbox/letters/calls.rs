//! What is done with collected letters, each in transactions of our own.
//!
//! Input: letters to store, or a filter. Output: rows of the table; letters; or how many were replayed or discarded.

use std::collections::HashMap;

use sqlx::Transaction;

use super::{CollectedRow, LetterStatements, NewLetter};
use crate::{
    Error, OutboxDatabase,
    broker::DeadLetterFilter,
    database::{
        DbResult,
        batch::{BatchSize, begin_batch},
        limits::count,
        refused::roll_back,
        renewable::ANSWER,
        writers::{Turn, Writing},
    },
    outbox::{Outbox, Table},
};

/// How many letters one transaction replays or discards.
const BATCH: u64 = 100;

/// What is done with letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LetterFate {
    /// Their messages come back to this service, and the letters are removed.
    Replay,
    /// They are removed.
    Discard,
}

impl LetterFate {
    fn doing(self) -> &'static str {
        match self {
            Self::Replay => "replaying collected dead letters",
            Self::Discard => "discarding collected dead letters",
        }
    }
}

impl<DB: OutboxDatabase> Table<'_, DB> {
    /// Removes all collected letters.
    pub(crate) async fn purge_letters(self) -> DbResult<()> {
        let turn = self.pool.writers().our_turn(&mut ()).await;
        self.within(async {
            let mut conn = self.pool.get().acquire().await?;
            let _writing = turn.begun();
            self.statements.letters.purge::<DB>(&mut conn).await
        })
        .await
    }
}

impl<DB: OutboxDatabase> Outbox<DB> {
    /// Stores letters, all or none, and leaves out those that are surely there. They are on the disk when this returns.
    ///
    /// # Errors
    ///
    /// The error of the database as it is: a unique violation if there is an equal letter. If the answer to the
    /// COMMIT was lost, it is unknown whether the letters are there.
    pub(crate) async fn store_letters(&self, letters: &[NewLetter<'_>]) -> DbResult<()> {
        let statements = self.letters()?;
        let perhaps = letters.iter().filter(|one| one.is_repeated || one.is_tried);
        let perhaps: Vec<_> = perhaps.map(|letter| letter.key).collect();
        let turn = self.writers().our_turn(&mut ()).await;
        let stored = async {
            let (mut tx, _writing) = self.begin_letters(turn).await?;
            let known = statements.known::<DB>(&mut tx, &perhaps).await?;
            let known: HashMap<_, _> = known.into_iter().collect();
            for letter in letters {
                let found = known.get(&letter.key);
                let is_there =
                    found.is_some_and(|id| letter.is_repeated || *id == letter.record_id);
                if !is_there {
                    statements.insert::<DB>(&mut tx, letter).await?;
                }
            }
            tx.commit().await
        };
        self.pool.within(ANSWER, stored).await
    }

    /// The highest sequence number of a collected letter; zero if there is none.
    async fn last_letter(&self) -> DbResult<i64> {
        let last = async {
            let mut conn = self.pool.get().acquire().await?;
            self.letters()?.last::<DB>(&mut conn).await
        };
        self.pool.within(ANSWER, last).await
    }

    /// How many collected letters there are.
    pub(crate) async fn count_letters(&self) -> DbResult<u64> {
        let counted: Vec<i64> = self.pool.count(self.letters()?.count(), Vec::new()).await?;
        Ok(counted.into_iter().next().map_or(0, count))
    }

    /// The collected letters that a filter means, oldest first, `most` at most.
    pub(crate) async fn list_letters(
        &self,
        filter: &DeadLetterFilter,
        most: u64,
    ) -> Result<Vec<CollectedRow>, Error> {
        self.located().await?;
        let listed = self.pool.within(ANSWER, async {
            let mut conn = self.pool.get().acquire().await?;
            let most = most.min(filter.at_most());
            self.letters()?.list::<DB>(&mut conn, filter, most).await
        });
        listed
            .await
            .map_err(|error| self.explain(error, "listing collected dead letters"))
    }

    /// Replays or discards the letters that a filter means, oldest first. Returns how many. What is collected
    /// meanwhile stays.
    pub(crate) async fn end_letters(
        &self,
        filter: &DeadLetterFilter,
        fate: LetterFate,
    ) -> Result<u64, Error> {
        self.located().await?;
        let explain = |error| self.explain(error, fate.doing());
        let last = self.last_letter().await.map_err(explain)?;
        let (mut ended, mut after, mut size) = (0, i64::MIN, BatchSize::of(BATCH));
        loop {
            let most = size.rows().min(filter.at_most() - ended);
            let turn = self.writers().our_turn(&mut ()).await;
            let some = self.end_some(turn, filter, fate, (after, last), most).await;
            let some = size.ended::<DB, _>(some, |seqs| !seqs.is_empty());
            let Some(some) = some.map_err(explain)? else {
                continue;
            };
            let Some(highest) = some.last() else {
                return Ok(ended);
            };
            (ended, after) = (ended + some.len() as u64, *highest);
        }
    }

    /// The next letters after a sequence number, and up to another one. Returns their numbers.
    async fn end_some(
        &self,
        turn: Turn,
        filter: &DeadLetterFilter,
        fate: LetterFate,
        between: (i64, i64),
        most: u64,
    ) -> DbResult<Vec<i64>> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let changed = async {
            let (mut tx, writing) = self.begin_letters(turn).await?;
            let ended = self.end_locked(&mut tx, filter, fate, between, most);
            match ended.await {
                Ok(seqs) => Ok((tx, writing, seqs)),
                Err(error) => {
                    // A transaction that is only dropped keeps its rows locked a moment longer, and the next try would
                    // leave them out.
                    let _ = roll_back(tx).await;
                    Err(error)
                }
            }
        };
        let (tx, _writing, seqs) = self.pool.within(ANSWER, changed).await?;
        self.pool.commit(tx).await?;
        Ok(seqs)
    }

    async fn end_locked(
        &self,
        tx: &mut DB::Connection,
        filter: &DeadLetterFilter,
        fate: LetterFate,
        between: (i64, i64),
        most: u64,
    ) -> DbResult<Vec<i64>> {
        let statements = self.letters()?;
        let seqs = statements.lock::<DB>(tx, filter, between, most).await?;
        match fate {
            _ if seqs.is_empty() => {}
            LetterFate::Replay => statements.replay::<DB>(tx, &seqs).await?,
            LetterFate::Discard => statements.discard::<DB>(tx, &seqs).await?,
        }
        Ok(seqs)
    }

    fn letters(&self) -> DbResult<&LetterStatements> {
        Ok(&self.table()?.statements.letters)
    }

    /// Begins a transaction whose COMMIT waits for the disk. What it writes may be the only copy of a message.
    async fn begin_letters(&self, turn: Turn) -> DbResult<(Transaction<'static, DB>, Writing)> {
        let mut tx = DB::begin(&self.pool.get()).await?;
        let writing = turn.begun();
        begin_batch::<DB>(&mut tx).await?;
        Ok((tx, writing))
    }
}
