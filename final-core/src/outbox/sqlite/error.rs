//! What SQLite's errors mean.

/// The primary result code, without what the extended one adds.
fn code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
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
