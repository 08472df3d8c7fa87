//! The version of the log's tables.
//!
//! Input: the version that the log has written down. Output: how it compares with that of this release.

use sqlx::Pool;

use super::{Answer, Schema};
use crate::{
    Error, OutboxDatabase,
    log::tables::{Log, schema::VERSION},
};

impl Schema {
    /// The state of the log's tables in this database. `None` if it has no log.
    ///
    /// # Errors
    ///
    /// Fails if the database does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn of_log<DB: OutboxDatabase>(pool: Pool<DB>) -> Answer<Option<Self>> {
        let version = Log::new(pool).version().await;
        let found = version.map_err(Error::database("reading the version of the log"))?;
        let wanted = i64::from(VERSION);
        Ok(match found {
            0 => None,
            found if found < wanted => Some(Self::Older { found, wanted }),
            found if found > wanted => Some(Self::Newer {
                found,
                known: wanted,
            }),
            _ => Some(Self::Current),
        })
    }
}
