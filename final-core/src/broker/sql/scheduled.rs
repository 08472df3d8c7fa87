//! Messages that are not due yet.

use super::{
    database::{Kind, Value},
    log::{Log, numbers},
    texts::{list, padded},
};
use crate::{OutboxDatabase, outbox::DbResult};

impl<DB: OutboxDatabase> Log<DB> {
    /// Puts up to so many scheduled messages that are due into the log. Says how many.
    pub(super) async fn promote(&self, most: usize) -> DbResult<usize> {
        let mut tx = self.begin().await?;
        let due = "SELECT seq FROM {scheduled} WHERE due_at <= {now} ORDER BY due_at, seq LIMIT ? \
                   {skip_locked}";
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = tx.rows(due, vec![most.into()], &[Kind::Int]).await?;
        let seqs = numbers(rows)?;
        if seqs.is_empty() {
            return tx.roll_back().await.map(|()| 0);
        }
        let some = padded(&seqs);
        let list = list(some.len());
        let copy = format!(
            "INSERT INTO {{log}} ({{message}}, recipient, expires_at, created_at) \
             SELECT {{message}}, recipient, expires_at, {{now}} FROM {{scheduled}} \
             WHERE seq IN ({list}) ORDER BY due_at, seq"
        );
        let values = || -> Vec<_> { some.iter().map(|seq| Value::from(*seq)).collect() };
        tx.be_durable().await?;
        tx.run(&copy, values()).await?;
        let delete = format!("DELETE FROM {{scheduled}} WHERE seq IN ({list})");
        tx.delete_only(&delete, values(), seqs.len()).await?;
        tx.commit().await?;
        Ok(seqs.len())
    }
}
