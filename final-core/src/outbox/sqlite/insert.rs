//! Records into the table, inside the caller's transaction.

use sqlx::{SqlStr, SqliteConnection};

use super::{Patience, Statements, settle::millis};
use crate::outbox::{DbResult, NewRecord, limits::chunks};

/// A transaction that failed is still open, and COMMIT decides, so there is nothing to guard.
pub(super) async fn insert(
    conn: &mut SqliteConnection,
    statements: &Statements,
    records: &[NewRecord<'_>],
    _in_transaction: bool,
) -> DbResult<()> {
    for (statement, rows) in chunks(records).flat_map(|rows| statements.insert.of(rows)) {
        let mut patience = Patience::default();
        while let Err(error) = insert_some(conn, statement.clone(), rows).await {
            if !patience.again(&error).await {
                return Err(error);
            }
        }
    }
    Ok(())
}

async fn insert_some(
    conn: &mut SqliteConnection,
    statement: SqlStr,
    rows: &[NewRecord<'_>],
) -> DbResult<()> {
    let mut query = sqlx::query(statement);
    for row in rows {
        query = query
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
            .bind(row.owner());
    }
    query.execute(conn).await.map(drop)
}
