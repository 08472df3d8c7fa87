//! Records into the table, inside the caller's transaction.

use sqlx::MySqlConnection;

use super::Statements;
use crate::outbox::{DbResult, NewRecord, limits::chunks};

/// With `in_transaction`, MariaDB refuses the INSERT where no transaction is open. MySQL has no
/// such check that costs nothing.
pub(super) async fn insert(
    conn: &mut MySqlConnection,
    statements: &Statements,
    records: &[NewRecord<'_>],
    in_transaction: bool,
) -> DbResult<()> {
    let inserts = statements.insert(in_transaction);
    for (statement, rows) in chunks(records).flat_map(|rows| inserts.of(rows)) {
        let mut query = sqlx::query(statement);
        for row in rows {
            query = query
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
                .bind(row.owner());
        }
        query.execute(&mut *conn).await?;
    }
    Ok(())
}
