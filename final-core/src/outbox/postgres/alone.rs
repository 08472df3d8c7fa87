//! A record that is committed by its own INSERT.

use sqlx::{Executor, PgConnection, PgPool, Postgres};

use super::{Statements, error, insert::one};
use crate::{
    database::DbResult,
    outbox::{Alone, NewRecord},
};

/// The INSERT tells.
pub(super) async fn alone(caller: &PgPool, _: &Statements) -> DbResult<Alone<Postgres>> {
    caller.acquire().await.map(Alone::Connection)
}

/// In a transaction it writes no row, and in one that has failed it fails: the message is not part of
/// that either.
pub(super) async fn insert(
    conn: &mut PgConnection,
    statements: &Statements,
    record: &NewRecord<'_>,
) -> DbResult<bool> {
    let insert = one(record, &statements.alone_plain, &statements.alone);
    match insert.execute(conn).await {
        Ok(done) => Ok(done.rows_affected() == 1),
        Err(error) if error::is_aborted(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// COMMIT is a rollback once a statement has failed, and sqlx calls that a success. Every other statement
/// fails.
pub(super) async fn confirm_open(
    conn: &mut PgConnection,
    _: &Statements,
    _flushed: bool,
) -> DbResult<bool> {
    conn.execute("SELECT 1").await.map(|_| true)
}
