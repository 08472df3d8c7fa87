//! What SQLite's errors mean.

use std::time::Duration;

/// The primary result code, without what the extended one adds.
fn code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

/// Waits for a lock on a table of a database in memory, whose connections share a cache: there SQLite
/// refuses at once what it would wait for in a file. The statement has had no effect.
#[derive(Debug, Default)]
pub(crate) struct Patience(u32);

impl Patience {
    /// Whether to try again, after a while; not for ever.
    pub(crate) async fn again(&mut self, error: &sqlx::Error) -> bool {
        const LOCKED_SHAREDCACHE: &str = "262";
        const TRIES: u32 = 500;
        let is_locked = error
            .as_database_error()
            .and_then(|error| error.code())
            .is_some_and(|code| code == LOCKED_SHAREDCACHE);
        if !is_locked || self.0 >= TRIES {
            return false;
        }
        self.0 += 1;
        tokio::time::sleep(Duration::from_millis(u64::from(self.0.min(10)))).await;
        true
    }
}

/// After COMMIT failed with BUSY the transaction is still open, and is rolled back when its handle is
/// dropped. A full disk or an I/O error proves nothing.
pub(super) fn is_surely_rolled_back(error: &sqlx::Error) -> bool {
    const BUSY: u32 = 5;
    const LOCKED: u32 = 6;
    const CONSTRAINT: u32 = 19;
    matches!(code(error), Some(BUSY | LOCKED | CONSTRAINT))
}

pub(super) fn is_missing_table(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| {
        let text = error.message();
        text.contains("no such table") && text.contains("_outbox")
    })
}

/// Nothing is guarded here: see `insert`.
pub(super) fn is_not_in_transaction(_: &sqlx::Error) -> bool {
    false
}

/// BEGIN was refused, because a transaction is open.
pub(super) fn is_in_transaction(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.message().contains("within a transaction"))
}
