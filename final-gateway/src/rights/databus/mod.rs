//! Rights of databus, to be taken over.
//!
//! Input: databus's tables in a SQL database, or its hashes in Redis. Output: a [`DatabusPlan`], which
//! [`Apps::import`](super::Apps::import) carries out.
//!
//! databus keeps secrets as they are. What is stored here is a hash of each. No secret is shown.
//!
//! | part | reads |
//! | --- | --- |
//! | `sql` | the tables `app_tb` and `auth_tb`, and `app` and `auth` |
//! | `redis` | the hashes `tb:apptb` and `tb:authtb`, and `tb:app_tb` and `tb:auth_tb` |

mod plan;
mod redis;
mod sql;

use std::fmt;

pub use self::{
    plan::{DatabusPlan, Skipped},
    redis::{RedisError, RedisPlace, read_redis},
    sql::read_tables,
};
pub(super) use plan::Planned;

/// An app of databus with its rights.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabusApp {
    /// Where it was found: a table or a key of Redis, and its number there.
    pub place: String,
    /// Its key.
    pub key: String,
    /// Its secret, as it is.
    pub secret: String,
    /// Whether its row says that it was deleted.
    pub is_deleted: bool,
    /// Its rights.
    pub rights: Vec<DatabusRight>,
}

/// A right of databus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabusRight {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// 1 subscribe, 2 publish, 3 both.
    pub operation: i64,
    /// The most messages of one answer; 0 is none.
    pub batch: i64,
    /// Whether its row says that it was deleted.
    pub is_deleted: bool,
}

/// Without the secret.
impl fmt::Debug for DatabusApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabusApp")
            .field("place", &self.place)
            .field("key", &self.key)
            .field("is_deleted", &self.is_deleted)
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}
