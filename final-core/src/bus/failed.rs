//! Records that can never be sent as they are: listed, and made pending again.
//!
//! Input: a limit, or which failed records to try again. State: none beside the table's. Output: a list of
//! records, or how many are pending again. The relay is woken for them.

use super::Bus;
use crate::{
    Error, MessageId, OutboxDatabase,
    outbox::{FailedRecord, RETRY_BATCH},
};

/// Which failed records to try again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetryFailed {
    /// All failed records.
    All,
    /// The failed records whose messages have these ids.
    Ids(Vec<MessageId>),
}

impl From<MessageId> for RetryFailed {
    fn from(id: MessageId) -> Self {
        Self::Ids(vec![id])
    }
}

impl From<Vec<MessageId>> for RetryFailed {
    fn from(ids: Vec<MessageId>) -> Self {
        Self::Ids(ids)
    }
}

impl From<&[MessageId]> for RetryFailed {
    fn from(ids: &[MessageId]) -> Self {
        Self::Ids(ids.to_vec())
    }
}

impl<const N: usize> From<[MessageId; N]> for RetryFailed {
    fn from(ids: [MessageId; N]) -> Self {
        Self::Ids(ids.to_vec())
    }
}

impl<const N: usize> From<&[MessageId; N]> for RetryFailed {
    fn from(ids: &[MessageId; N]) -> Self {
        Self::Ids(ids.to_vec())
    }
}

impl From<&Vec<MessageId>> for RetryFailed {
    fn from(ids: &Vec<MessageId>) -> Self {
        Self::Ids(ids.clone())
    }
}

impl<DB: OutboxDatabase> Bus<DB> {
    /// The records that failed, oldest first, `limit` at most: what the broker said, and how often.
    ///
    /// # Errors
    ///
    /// Fails if the database does, or the table is missing.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn failed(&self, limit: u32) -> Result<Vec<FailedRecord>, Error> {
        let failed = self.inner.table().await?.failed(limit).await;
        failed.map_err(|error| self.inner.outbox.explain(error, "reading failed records"))
    }

    /// Makes failed records pending again, attempts forgotten: [`RetryFailed::All`], an id, or
    /// several. Returns how many there were.
    ///
    /// # Errors
    ///
    /// Fails if the database does; those already done stay done.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves some done and some not; calling it again does the rest.
    pub async fn retry_failed(&self, which: impl Into<RetryFailed>) -> Result<u64, Error> {
        let table = self.inner.table().await?;
        let doing = "making failed records pending";
        let explain = |error| self.inner.outbox.explain(error, doing);
        let retried = match which.into() {
            RetryFailed::Ids(ids) => table.retry_failed(Some(&ids)).await.map_err(explain)?,
            RetryFailed::All => {
                let mut all = 0;
                loop {
                    let some = table.retry_failed(None).await.map_err(explain)?;
                    all += some;
                    if some < u64::from(RETRY_BATCH) {
                        break all;
                    }
                }
            }
        };
        self.wake();
        Ok(retried)
    }
}
