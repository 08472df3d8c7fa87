//! Work on a connection that must not stop half-way.

use std::future::Future;

use super::DbResult;

/// Runs the work in a task of its own, so that a caller who is dropped does not cut it off.
///
/// A BEGIN that is cut off goes back into the pool as an open transaction, and what the next
/// borrower writes is never committed (transact-rs/sqlx#4385, in 0.9.0). What the work returns to
/// nobody is dropped, and a dropped transaction rolls back.
pub(super) async fn owned<T: Send + 'static>(
    work: impl Future<Output = DbResult<T>> + Send + 'static,
) -> DbResult<T> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        // The runtime is shutting down, or the driver panicked.
        Err(_) => Err(sqlx::Error::WorkerCrashed),
    }
}
