//! Brings a service's table to this release's version.
//!
//! PostgreSQL and SQLite do all of it in one transaction, and after a crash nothing of it is there. On MySQL
//! each statement commits by itself, so each step finds out whether it is done already, and the version is
//! written last.

#[cfg(feature = "mysql")]
use super::predecessor;
use super::schema::{Migration, Plan, failed, predecessor_in_the_way, statements};
#[cfg(feature = "mysql")]
use crate::database::Dialect;
use crate::{
    Error,
    database::{DbResult, Driver, renewable::RenewablePool},
    names::ServiceName,
};

/// Brings a service's table to this release's version, or leaves it as it is.
pub(super) async fn migrate<DB: Driver>(
    pool: &RenewablePool<DB>,
    service: &ServiceName,
) -> Result<(), Error> {
    let mut migration = Migration::begin(pool, service).await.map_err(failed)?;
    match migration.plan().await? {
        Plan::Keep => {}
        Plan::Apply => apply(&mut migration).await.map_err(failed)?,
        Plan::Replace => replace(&mut migration).await?,
    }
    migration.finish().await.map_err(failed)
}

async fn apply<DB: Driver>(migration: &mut Migration<'_, DB>) -> DbResult<()> {
    let mut statements = statements(DB::DIALECT, migration.service);
    let last = statements.pop();
    for statement in statements {
        migration.run(statement).await?;
    }
    #[cfg(feature = "mysql")]
    if DB::DIALECT == Dialect::MySql {
        predecessor::import(migration).await?;
    }
    match last {
        Some(last) => migration.run(last).await,
        None => Ok(()),
    }
}

/// Makes room where the Go predecessor's table stands.
async fn replace<DB: Driver>(migration: &mut Migration<'_, DB>) -> Result<(), Error> {
    #[cfg(feature = "mysql")]
    if DB::DIALECT == Dialect::MySql {
        predecessor::rename(migration).await?;
        return apply(migration).await.map_err(failed);
    }
    Err(predecessor_in_the_way(migration.service))
}
