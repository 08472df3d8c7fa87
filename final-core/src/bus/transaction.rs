//! `bus.transaction`: a closure, its commit and its rollback.
//!
//! Input: a transaction, and a closure that gets it as a [`TxBus`]. Output: the closure's value, after the
//! COMMIT; or an error, after the rollback.
//!
//! ```text
//!   closure ─┬─ Ok ──▶ write what is staged, COMMIT, hand over
//!            ├─ Err, or dropped ──▶ rolled back
//!            └─ Ok, and the handle was moved out of it ──▶ Error::Escaped
//! ```

use std::{future::Future, sync::Arc};

use sqlx::Transaction;
use tokio::sync::Mutex;

use super::{Bus, TxBus};
use crate::{Error, OutboxDatabase};

impl<DB: OutboxDatabase> Bus<DB> {
    /// Runs a closure in a transaction: `Ok` commits, `Err` rolls back.
    ///
    /// What the closure publishes is sent if, and only if, the transaction commits. Every spelling
    /// works: `async |mut txbus| {…}`, `|mut txbus| async move {…}`, an `async fn`. The future is
    /// `Send`, may borrow what is around it, and `?` in the closure works with your own error type.
    #[doc = include_str!("../docs/transaction.md")]
    ///
    /// # Errors
    ///
    /// The closure's error, after the rollback. Otherwise, as `E::from`: an error of the INSERT
    /// (rolled back), of the COMMIT, [`Error::CommitUnknown`] if COMMIT was not answered, and
    /// [`Error::Escaped`] if the handle was moved out of the closure.
    ///
    /// # Cancel safety
    ///
    /// Dropped while the closure runs, the transaction is rolled back. Dropped later, the commit and
    /// the hand-over go on: either both the rows and the messages are there or neither.
    pub async fn transaction<F, Fut, T, E>(
        &self,
        tx: Transaction<'static, DB>,
        f: F,
    ) -> Result<T, E>
    where
        F: FnOnce(TxBus<DB>) -> Fut,
        Fut: Future<Output = Result<T, E>> + Send,
        E: From<Error>,
    {
        let (txbus, lent) = TxBus::lend(&self.inner, tx).await;
        let result = f(txbus).await;
        // `None` if the handle still exists: it was moved out of the closure.
        let open = Arc::into_inner(lent).map(Mutex::into_inner);
        match (result, open) {
            (Ok(value), Some(open)) => {
                self.inner.commit(open).await?;
                Ok(value)
            }
            (Ok(_), None) => Err(Error::Escaped.into()),
            (Err(error), Some(open)) => {
                self.inner.roll_back(open).await;
                Err(error)
            }
            (Err(error), None) => Err(error),
        }
    }
}
