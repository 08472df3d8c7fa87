//! Records into the table, inside the caller's transaction.

use sqlx::PgConnection;

use super::Statements;
use crate::outbox::{DbResult, NewRecord, limits::chunks};

/// One statement text for every number of rows: the columns go as arrays. The caller's statement
/// cache holds it once.
///
/// A transaction that failed refuses every statement until its end, so there is nothing to guard.
pub(super) async fn insert(
    conn: &mut PgConnection,
    statements: &Statements,
    records: &[NewRecord<'_>],
    _in_transaction: bool,
) -> DbResult<()> {
    for rows in chunks(records) {
        fn column<'a, 'm, T>(
            rows: &'a [NewRecord<'m>],
            value: impl Fn(&'a NewRecord<'m>) -> T,
        ) -> Vec<T> {
            rows.iter().map(value).collect()
        }
        sqlx::query(statements.insert.clone())
            .bind(column(rows, |r| r.message.id().0))
            .bind(column(rows, |r| r.message.topic()))
            .bind(column(rows, |r| r.message.key()))
            .bind(column(rows, |r| r.message.headers().to_json()))
            .bind(column(rows, |r| r.message.payload().as_ref()))
            .bind(column(rows, |r| r.message.content_type()))
            .bind(column(rows, |r| r.message.is_durable()))
            .bind(column(rows, NewRecord::expires_in))
            .bind(column(rows, NewRecord::status))
            .bind(column(rows, NewRecord::due_in))
            .bind(column(rows, NewRecord::available_in))
            .bind(column(rows, NewRecord::owner))
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}
