//! Brings a service's tables to the version of this release.
//!
//! Input: the service, and what the schema holds. State: the tables, and their version in `final_migrations`.
//! Output: tables of this version; or `Error::ForeignTable` for a table that is not this service's outbox.
//!
//! ```text
//!   lock ─▶ plan ─┬─ Keep ──────────────────────────────────────────────────────▶ commit, unlock
//!                 ├─ Apply ──────────────────▶ statements ─▶ write the version ──▶ commit, unlock
//!                 ├─ Replace, on MySQL ─▶ rename the predecessor's table ─▶ as Apply, and import its rows
//!                 └─ Replace elsewhere, or a foreign table ─▶ error
//! ```
//!
//! On PostgreSQL and SQLite all of it is one transaction, so a crash leaves nothing behind. On MySQL each
//! statement commits by itself. So each step finds out whether it is done already, and the version is written
//! last.

#[cfg(feature = "mysql")]
use super::predecessor;
use super::schema::{
    Migration, MigrationPlan, added_columns, failed, predecessor_in_the_way, statements,
};
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
        MigrationPlan::Keep => {}
        MigrationPlan::Apply => apply(&mut migration).await.map_err(failed)?,
        MigrationPlan::Replace => replace(&mut migration).await?,
    }
    migration.finish().await.map_err(failed)
}

/// Whether [`migrate`] would leave the service's tables as they are. Changes nothing.
///
/// # Errors
///
/// Fails if the database does, and with [`Error::ForeignTable`] for a table that is not this service's outbox.
pub(super) async fn is_current<DB: Driver>(
    pool: &RenewablePool<DB>,
    service: &ServiceName,
) -> Result<bool, Error> {
    let mut migration = Migration::begin(pool, service).await.map_err(failed)?;
    let plan = migration.plan().await?;
    migration.finish().await.map_err(failed)?;
    Ok(plan == MigrationPlan::Keep)
}

/// Runs the statements of all versions. The last one writes the version down, so it comes after the import of
/// the predecessor's rows: a crash before it makes the next start do all of it again.
async fn apply<DB: Driver>(migration: &mut Migration<'_, DB>) -> DbResult<()> {
    add_columns(migration).await?;
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

/// Adds the columns that the table of an earlier version lacks. A table that is not there is made with them.
async fn add_columns<DB: Driver>(migration: &mut Migration<'_, DB>) -> DbResult<()> {
    let there = migration.columns(&migration.service.table()).await?;
    let is_missing = |name: &str| !there.is_empty() && there.iter().all(|column| column != name);
    for column in added_columns(DB::DIALECT, migration.service) {
        if is_missing(column.name) {
            migration.alter(&column.add).await?;
        }
    }
    Ok(())
}

/// Makes room for the outbox where the Go predecessor's table has its name. On MySQL that table is renamed. On
/// the other databases the migration is refused, and the error says what to do.
async fn replace<DB: Driver>(migration: &mut Migration<'_, DB>) -> Result<(), Error> {
    #[cfg(feature = "mysql")]
    if DB::DIALECT == Dialect::MySql {
        predecessor::rename(migration).await?;
        return apply(migration).await.map_err(failed);
    }
    Err(predecessor_in_the_way(migration.service))
}
