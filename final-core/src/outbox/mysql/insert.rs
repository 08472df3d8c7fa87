//! Records into the table, inside the caller's transaction.

use sqlx::{MySql, MySqlConnection, mysql::MySqlArguments, query::Query};

use super::{Statements, statements::NOBODY};
use crate::{
    database::{DbResult, inserts::all_written, limits::chunks},
    outbox::NewRecord,
};

/// With `in_transaction`, MariaDB refuses the INSERT where no transaction is open. MySQL has no
/// such check that costs nothing.
pub(super) async fn insert(
    conn: &mut MySqlConnection,
    statements: &Statements,
    records: &[NewRecord<'_>],
    in_transaction: bool,
) -> DbResult<()> {
    let inserts = statements.insert(in_transaction);
    let (pieces, bind) = if records.iter().all(NewRecord::is_plain) {
        (&inserts.plain, bind_plain as for<'q> fn(_, _) -> _)
    } else {
        (&inserts.any, bind_any as for<'q> fn(_, _) -> _)
    };
    for (statement, rows) in chunks(records).flat_map(|rows| pieces.of(rows)) {
        let query = rows.iter().fold(sqlx::query(statement), bind);
        let written = query.execute(&mut *conn).await?.rows_affected();
        all_written(written, rows.len())?;
    }
    Ok(())
}

pub(super) type Insert<'q> = Query<'q, MySql, MySqlArguments>;

pub(super) fn bind_plain<'q>(query: Insert<'q>, row: &'q NewRecord<'_>) -> Insert<'q> {
    query
        .bind(row.message.id().0)
        .bind(row.message.topic())
        .bind(row.message.payload().as_ref())
        .bind(row.available_in())
        .bind(row.owner().unwrap_or(NOBODY))
}

pub(super) fn bind_any<'q>(query: Insert<'q>, row: &'q NewRecord<'_>) -> Insert<'q> {
    query
        .bind(row.message.id().0)
        .bind(row.message.topic())
        .bind(row.message.key())
        .bind(row.message.headers().to_json())
        .bind(row.message.payload().as_ref())
        .bind(row.message.content_type())
        .bind(row.message.is_durable())
        .bind(row.expires_in())
        .bind(row.status())
        .bind(row.due_in())
        .bind(row.available_in())
        .bind(row.owner().unwrap_or(NOBODY))
}
