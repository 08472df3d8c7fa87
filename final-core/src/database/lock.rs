//! The lock under which tables are made.
//!
//! Input: the commands that make tables. State: an open transaction, or a connection whose session has the
//! lock. Output: the tables, once it is finished.
//!
//! ```text
//!   held ─┬─ finish ──▶ committed, free
//!         └─ dropped ─▶ free; what was done in a transaction is undone
//! ```

use std::fmt;

use sqlx::{Connection, Database, Transaction};

use super::DbResult;

/// Holds the lock of the schema under which tables are made. Dropping it ends the lock, with its transaction
/// or connection; what was done in the transaction is then undone.
pub enum MigrationLock<DB: Database> {
    /// Held by an open transaction.
    Transaction(Transaction<'static, DB>),
    /// Held by a session; the connection is closed and not used again.
    Session(DB::Connection),
}

impl<DB: Database> MigrationLock<DB> {
    /// The connection that tables are made on.
    pub fn conn(&mut self) -> &mut DB::Connection {
        match self {
            Self::Transaction(tx) => tx,
            Self::Session(conn) => conn,
        }
    }

    /// Commits what was done, and ends the lock.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    pub async fn finish(self) -> DbResult<()> {
        match self {
            Self::Transaction(tx) => tx.commit().await,
            Self::Session(conn) => conn.close().await,
        }
    }
}

impl<DB: Database> fmt::Debug for MigrationLock<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MigrationLock")
    }
}
