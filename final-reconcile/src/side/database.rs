//! A database, and what its catalog says about a table.

use std::{sync::Arc, time::Duration};

use final_core::database::{DbResult, Driver, read};
use futures::future::BoxFuture;
use sqlx::SqlSafeStr;

use super::{reader::Reader, write::Writer};
use crate::{
    error::{ReconcileError, Reconciled},
    own::OwnPool,
    plan::SidePlan,
    table::{SideTable, UniqueIndex},
};

/// How long a server may take to say why it takes no connection.
const CONNECTING: Duration = Duration::from_secs(3);

/// How long a catalog may take to answer.
const CATALOG: Duration = Duration::from_secs(60);

/// One of the databases.
pub(crate) trait SideDatabase: Send + Sync {
    /// Where it is, without a password.
    fn place(&self) -> String;
    /// What a table is like.
    fn describe<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Reconciled<SideTable>>;
    /// What reads the rows of one table.
    fn reader(&self, plan: SidePlan) -> Arc<dyn Reader>;
    /// What writes rows of one table. Only its sessions may write.
    fn writer(&self, plan: SidePlan) -> Arc<dyn Writer>;
}

/// What a catalog says about a table, or why it says nothing.
pub(super) async fn described<DB: Driver>(
    pool: &OwnPool<DB>,
    side: String,
    table: impl Future<Output = DbResult<Option<SideTable>>>,
) -> Reconciled<SideTable> {
    match pool.in_time(CATALOG, table).await {
        Ok(Some(table)) => Ok(table),
        Ok(None) => Err(ReconcileError::NoTable { side }),
        Err(source) => Err(ReconcileError::Database {
            doing: "describing",
            side,
            source: reason(&pool.get(), source).await,
        }),
    }
}

/// Adds a column to the last index, or begins the next one. The columns of an index come one behind the other.
pub(super) fn add_column(
    all: &mut Vec<UniqueIndex>,
    index: String,
    is_primary: bool,
    column: String,
) {
    match all.last_mut().filter(|last| last.name == index) {
        Some(last) => last.columns.push(column),
        None => all.push(UniqueIndex {
            name: index,
            columns: vec![column],
            is_primary,
        }),
    }
}

/// Whether a server hashes with MD5. A server that is told to use approved algorithms only does not.
pub(super) async fn has_md5<DB: Driver>(conn: &mut DB::Connection) -> DbResult<bool> {
    let sql = "SELECT md5('') AS md5".into_sql_str();
    match read::<DB, String>(conn, &sql, &[]).await {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Why a pool has no connection. It tries again for as long as it may, and then says only that its time was over.
async fn reason<DB: sqlx::Database>(pool: &sqlx::Pool<DB>, error: sqlx::Error) -> sqlx::Error {
    use sqlx::Connection as _;
    if !matches!(error, sqlx::Error::PoolTimedOut) {
        return error;
    }
    let options = pool.connect_options();
    let connected = DB::Connection::connect_with(&options);
    match tokio::time::timeout(CONNECTING, connected).await {
        Ok(Err(why)) => why,
        _ => error,
    }
}
