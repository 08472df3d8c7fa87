//! Scheduled messages: published with a delay, and not due yet.
//!
//! Input: rows of `final_log_scheduled` whose time has come. Output: rows of the log. A message that the log refuses
//! stays scheduled and is due again a minute later.

use std::time::Duration;

use super::{
    Log,
    transfer::{Moved, Transfer},
};
use crate::{
    OutboxDatabase,
    database::{DbResult, batch::BatchSize, limits::micros},
};

/// Messages that one transaction moves.
const BATCH: u64 = 500;
/// How long a message waits after the log has refused it.
const POSTPONED: Duration = Duration::from_secs(60);

/// How many messages the next transaction moves: fewer, while one takes too long.
#[derive(Debug)]
pub(crate) struct Promotion(BatchSize);

impl Promotion {
    pub(crate) fn new() -> Self {
        Self(BatchSize::of(BATCH))
    }
}

impl<DB: OutboxDatabase> Log<DB> {
    /// Moves scheduled messages that are due into the log. Refused ones are due again later. `None` if that has taken
    /// too long, and fewer are to be tried.
    pub(crate) async fn promote(&self, promotion: &mut Promotion) -> DbResult<Option<Moved>> {
        let most = promotion.0.rows();
        let result = self.promote_some(&mut promotion.0).await;
        let found = |moved: &Moved| moved.moved > 0 || !moved.refused.is_empty();
        let moved = promotion.0.ended::<DB, _>(result, found)?;
        if moved.as_ref().is_some_and(|moved| moved.moved < most) {
            *promotion = Promotion::new();
        }
        Ok(moved)
    }

    /// Moves as many as one transaction takes.
    async fn promote_some(&self, size: &mut BatchSize) -> DbResult<Moved> {
        let mut tx = self.begin().await?;
        let due = "SELECT seq FROM {scheduled} WHERE due_at <= {now} ORDER BY due_at, seq LIMIT ? \
                   {skip_locked}";
        let most = i64::try_from(size.rows()).unwrap_or(i64::MAX);
        let seqs: Vec<i64> = tx.rows(due, vec![most.into()]).await?;
        if seqs.is_empty() {
            return tx.roll_back().await.map(|()| Moved::default());
        }
        size.found(seqs.len());
        let transfer = Transfer {
            from: "{scheduled}",
            copy: Some((
                "{limited} INSERT INTO {log} ({message}, recipient, expires_at, created_at) \
                 SELECT {message}, recipient, expires_at, {now} FROM {scheduled}",
                "ORDER BY due_at, seq",
            )),
            group: None,
        };
        let moved = transfer.run(self, tx, seqs).await.whole()?;
        for (seq, _) in &moved.refused {
            let later = "UPDATE {scheduled} SET due_at = {now} + ? WHERE seq = ?";
            self.run(later, vec![micros(POSTPONED).into(), (*seq).into()])
                .await?;
        }
        Ok(moved)
    }
}
