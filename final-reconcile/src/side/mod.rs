//! One side of a comparison: a table in a database.
//!
//! Input: a pool and the name of a table. State: a pool of our own to the same database. Output: the table's
//! [description](crate::table), and a [`Reader`] of its rows in canonical form.
//!
//! | part | has |
//! | --- | --- |
//! | [`reader`] | what is asked of a table, whatever its database |
//! | [`chunk`], [`page`] | which rows are meant, and how many are read at once |
//! | [`digest`] | what proves that rows are equal |
//! | [`database`] | a database, and what its catalog says about a table |
//! | `postgres`, `mysql`, `sqlite` | the catalogs, each beside what only this database has |
//! | `ask` | one table and its statements: on a server, or in SQLite |
//! | [`read`] | a [`Reader`] for both |
//! | [`write`](mod@write) | writing a row into the target, for both |
//! | [`refused`] | what a database says about a row that it does not take, without values |
//!
//! Servers make canonical texts and digests. SQLite has no function for a digest, so its rows are hashed in this process.

mod ask;
mod chunk;
mod database;
mod digest;
#[cfg(feature = "mysql")]
mod mysql;
pub(crate) mod page;
#[cfg(feature = "postgres")]
mod postgres;
mod read;
mod reader;
mod refused;
#[cfg(feature = "sqlite")]
mod sqlite;
pub(crate) mod write;

use std::{fmt, sync::Arc};

use self::database::SideDatabase;
pub(crate) use self::{
    chunk::{CHUNKS, Chunk, Found, Stretch, moved},
    digest::{Bucket, Digest},
    reader::{Clock, Of, Reader, WITHIN},
    write::{Change, Writer, Writing},
};
use crate::{error::Reconciled, plan::SidePlan, table::SideTable};

/// A table in a database: the source of a job, or a target.
///
/// The name may have a schema before it: `shop.user`. The pool is that of the database; the comparison makes connections
/// of its own, because its statements need settings of the session (UTC, UTF-8) that a caller's must not have.
#[derive(Clone)]
pub struct Side {
    database: Arc<dyn SideDatabase>,
    table: String,
}

impl Side {
    /// A table of PostgreSQL.
    #[cfg(feature = "postgres")]
    pub fn postgres(pool: sqlx::PgPool, table: impl Into<String>) -> Self {
        Self::new(postgres::OnPostgres::new(&pool), table)
    }

    /// A table of MySQL or MariaDB.
    #[cfg(feature = "mysql")]
    pub fn mysql(pool: sqlx::MySqlPool, table: impl Into<String>) -> Self {
        Self::new(mysql::OnMySql::new(&pool), table)
    }

    /// A table of SQLite.
    #[cfg(feature = "sqlite")]
    pub fn sqlite(pool: sqlx::SqlitePool, table: impl Into<String>) -> Self {
        Self::new(sqlite::OnSqlite::new(&pool), table)
    }

    #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
    fn new(database: impl SideDatabase + 'static, table: impl Into<String>) -> Self {
        Self {
            database: Arc::new(database),
            table: table.into(),
        }
    }

    /// The table and its database, without a password.
    pub(crate) fn shown(&self) -> String {
        format!("`{}` in {}", self.table, self.database.place())
    }

    /// Another table of the same database.
    pub(crate) fn beside(&self, table: &str) -> Self {
        Self {
            database: Arc::clone(&self.database),
            table: table.to_owned(),
        }
    }

    /// The table, as the caller has named it.
    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    pub(crate) async fn describe(&self) -> Reconciled<SideTable> {
        self.database.describe(&self.table).await
    }

    /// What reads rows by this plan.
    pub(crate) fn reader(&self, plan: SidePlan) -> Arc<dyn Reader> {
        self.database.reader(plan)
    }

    pub(crate) fn writer(&self, plan: SidePlan) -> Arc<dyn Writer> {
        self.database.writer(plan)
    }
}

impl fmt::Debug for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Side").field(&self.shown()).finish()
    }
}
