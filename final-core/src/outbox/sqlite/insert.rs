//! Records into the table, inside the caller's transaction.

use sqlx::{Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments};

use super::{Patience, Statements, settle::millis};
use crate::{
    database::{DbResult, inserts::all_written, limits::chunks},
    outbox::NewRecord,
};

/// A transaction that failed is still open, and COMMIT decides, so there is nothing to guard.
pub(super) async fn insert(
    conn: &mut SqliteConnection,
    statements: &Statements,
    records: &[NewRecord<'_>],
    _in_transaction: bool,
) -> DbResult<()> {
    let is_plain = records.iter().all(NewRecord::is_plain);
    let (pieces, bind) = if is_plain {
        (&statements.insert.plain, bind_plain as fn(_, &_) -> _)
    } else {
        (&statements.insert.any, bind_any as fn(_, &_) -> _)
    };
    for (statement, rows) in chunks(records).flat_map(|rows| pieces.of(rows)) {
        let mut patience = Patience::default();
        let insert = || rows.iter().fold(sqlx::query(statement.clone()), bind);
        let written = loop {
            match insert().execute(&mut *conn).await {
                Err(error) if patience.again(&error).await => {}
                done => break done?.rows_affected(),
            }
        };
        all_written(written, rows.len())?;
    }
    Ok(())
}

type Insert = Query<'static, Sqlite, SqliteArguments>;

fn bind_plain(query: Insert, row: &NewRecord<'_>) -> Insert {
    query
        .bind(row.message.id().0)
        .bind(row.message.topic().to_owned())
        .bind(row.message.payload().to_vec())
        .bind(millis(row.available_in()))
        .bind(row.owner())
}

fn bind_any(query: Insert, row: &NewRecord<'_>) -> Insert {
    query
        .bind(row.message.id().0)
        .bind(row.message.topic().to_owned())
        .bind(row.message.key().map(str::to_owned))
        .bind(row.message.headers().to_json())
        .bind(row.message.payload().to_vec())
        .bind(row.message.content_type().to_owned())
        .bind(row.message.is_durable())
        .bind(row.expires_in().map(millis))
        .bind(row.status())
        .bind(millis(row.due_in()))
        .bind(millis(row.available_in()))
        .bind(row.owner())
}
