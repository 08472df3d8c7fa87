//! Work on a connection that must not stop half-way.
//!
//! Input: a future, such as a BEGIN. Output: its result; and its end in any case, also if the caller drops the
//! future.

use super::DbResult;
use crate::runtime::finishing::Finishing;

/// Does the work to its end, even if the caller is dropped.
///
/// A BEGIN that is cut off would go back into the pool as an open transaction, and what the next borrower
/// writes would never be committed (transact-rs/sqlx#4385, in 0.9.0). If the caller is gone, the result is
/// dropped, and a dropped transaction rolls back.
pub(crate) async fn owned<T: Send + 'static>(
    work: impl Future<Output = DbResult<T>> + Send + 'static,
) -> DbResult<T> {
    Finishing::new(work)
        .await
        // The driver panicked.
        .unwrap_or(Err(sqlx::Error::WorkerCrashed))
}
