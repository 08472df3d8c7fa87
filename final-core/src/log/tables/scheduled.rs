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
    database::{DbResult, limits::micros},
};

/// How long a message waits after the log has refused it.
const POSTPONED: Duration = Duration::from_secs(60);

impl<DB: OutboxDatabase> Log<DB> {
    /// Moves up to so many scheduled messages that are due into the log. Refused ones are due again later.
    pub(crate) async fn promote(&self, most: usize) -> DbResult<Moved> {
        let mut tx = self.begin().await?;
        let due = "SELECT seq FROM {scheduled} WHERE due_at <= {now} ORDER BY due_at, seq LIMIT ? \
                   {skip_locked}";
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let seqs: Vec<i64> = tx.rows(due, vec![most.into()]).await?;
        if seqs.is_empty() {
            return tx.roll_back().await.map(|()| Moved::default());
        }
        let transfer = Transfer {
            from: "{scheduled}",
            copy: Some((
                "INSERT INTO {log} ({message}, recipient, expires_at, created_at) \
                 SELECT {message}, recipient, expires_at, {now} FROM {scheduled}",
                "ORDER BY due_at, seq",
            )),
            group: None,
        };
        let moved = transfer.run(self, tx, seqs).await?;
        for (seq, _) in &moved.refused {
            let later = "UPDATE {scheduled} SET due_at = {now} + ? WHERE seq = ?";
            self.run(later, vec![micros(POSTPONED).into(), (*seq).into()])
                .await?;
        }
        Ok(moved)
    }
}
