//! Work on a connection that must not stop half-way.

use super::DbResult;
use crate::runtime::finishing::Finishing;

/// Does the work to its end, even if the caller is dropped.
///
/// A BEGIN that is cut off goes back into the pool as an open transaction, and what the next
/// borrower writes is never committed (transact-rs/sqlx#4385, in 0.9.0). What the work returns to
/// nobody is dropped, and a dropped transaction rolls back.
pub(crate) async fn owned<T: Send + 'static>(
    work: impl Future<Output = DbResult<T>> + Send + 'static,
) -> DbResult<T> {
    Finishing::new(work)
        .await
        // The driver panicked.
        .unwrap_or(Err(sqlx::Error::WorkerCrashed))
}
