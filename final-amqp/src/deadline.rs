//! Calls to the broker, each with a deadline.
//!
//! Input: a call of lapin. Output: its result, or the error of a call that was not answered in time.

use std::time::Duration;

use lapin::Result;
use tokio::time::timeout;

use crate::error::timed_out;

/// How long any single call to the broker may take.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(10);

/// A call with a deadline. Without one lapin waits for ever if the broker does not answer.
pub(crate) async fn within<T>(limit: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(limit, call)
        .await
        .unwrap_or_else(|_| Err(timed_out()))
}
