//! A record that is committed by its own INSERT.

use sqlx::{MySql, MySqlConnection, MySqlPool, Transaction};

use super::{
    Statements, error,
    insert::{bind_any, bind_plain},
};
use crate::{
    database::{DbResult, inserts::all_written, owned::owned},
    outbox::{Alone, NewRecord},
};

/// On MariaDB the INSERT tells. MySQL has no word for it.
pub(super) async fn alone(caller: &MySqlPool, statements: &Statements) -> DbResult<Alone<MySql>> {
    if statements.mariadb {
        return caller.acquire().await.map(Alone::Connection);
    }
    match begin(caller).await {
        Ok(tx) => Ok(Alone::Transaction(tx)),
        Err(error) if error::is_in_transaction(&error) => Ok(Alone::Taken),
        Err(error) => Err(error),
    }
}

/// A START TRANSACTION alone would commit what somebody has left open. The statement before it changes
/// nothing, and fails there.
async fn begin(caller: &MySqlPool) -> DbResult<Transaction<'static, MySql>> {
    let caller = caller.clone();
    owned(async move {
        caller
            .begin_with("SET TRANSACTION READ WRITE; START TRANSACTION")
            .await
    })
    .await
}

pub(super) async fn insert(
    conn: &mut MySqlConnection,
    statements: &Statements,
    record: &NewRecord<'_>,
) -> DbResult<bool> {
    let insert = if record.is_plain() {
        bind_plain(sqlx::query(statements.alone_plain.clone()), record)
    } else {
        bind_any(sqlx::query(statements.alone.clone()), record)
    };
    match insert.execute(conn).await {
        Ok(done) => all_written(done.rows_affected(), 1).map(|()| true),
        Err(error) if error::is_not_alone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A deadlock ends a transaction at once, and COMMIT says nothing about it. Without messages there is
/// nothing of ours to be missed, and a statement such as CREATE TABLE may have committed everything.
pub(super) async fn confirm_open(
    conn: &mut MySqlConnection,
    statements: &Statements,
    flushed: bool,
) -> DbResult<bool> {
    if !flushed || !statements.mariadb {
        return Ok(true);
    }
    let open: i64 = sqlx::query_scalar("SELECT CAST(@@in_transaction AS SIGNED)")
        .fetch_one(conn)
        .await?;
    Ok(open != 0)
}
