//! A record that is committed by itself.

use sqlx::{Sqlite, SqliteConnection, SqlitePool};

use super::{Statements, error};
use crate::{
    database::{DbResult, owned::owned},
    outbox::{Alone, NewRecord},
};

/// SQL has no word for an open transaction here, and BEGIN fails in one. Not BEGIN IMMEDIATE: the open
/// one would have the lock of all writers then. The INSERT comes first, so it waits for the lock as well.
pub(super) async fn alone(caller: &SqlitePool, _: &Statements) -> DbResult<Alone<Sqlite>> {
    let caller = caller.clone();
    match owned(async move { caller.begin().await }).await {
        Ok(tx) => Ok(Alone::Transaction(tx)),
        Err(error) if error::is_in_transaction(&error) => Ok(Alone::Taken),
        Err(error) => Err(error),
    }
}

/// Nothing is written: see [`alone`].
#[allow(clippy::unused_async, reason = "the others' wait")]
pub(super) async fn insert(
    _: &mut SqliteConnection,
    _: &Statements,
    _: &NewRecord<'_>,
) -> DbResult<bool> {
    Ok(false)
}

/// COMMIT fails where the transaction is over.
#[allow(clippy::unused_async, reason = "the others' waits")]
pub(super) async fn confirm_open(
    _: &mut SqliteConnection,
    _: &Statements,
    _flushed: bool,
) -> DbResult<bool> {
    Ok(true)
}
