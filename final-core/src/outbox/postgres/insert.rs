//! Records into the table, inside the caller's transaction.

use sqlx::{PgConnection, Postgres, SqlStr, postgres::PgArguments, query::Query};

use super::Statements;
use crate::{
    database::{DbResult, inserts::all_written, limits::chunks},
    outbox::NewRecord,
};

/// One of five statements: for one record or many that are plain, for one of any kind, for records
/// that differ in their messages only, for any. The columns of many go as arrays, so each text serves
/// every number of records and the caller's statement cache holds it once.
///
/// A transaction that failed refuses every statement until its end, so there is nothing to guard.
pub(super) async fn insert(
    conn: &mut PgConnection,
    statements: &Statements,
    records: &[NewRecord<'_>],
    _in_transaction: bool,
) -> DbResult<()> {
    for rows in chunks(records) {
        let query = match rows {
            [row] => one(row, &statements.insert_one_plain, &statements.insert_one),
            [first, others @ ..] if others.iter().all(|row| is_alike(first, row)) => {
                if rows.iter().all(NewRecord::is_plain) {
                    sqlx::query(statements.insert_many_plain.clone())
                        .bind(column(rows, |r| r.message.id().0))
                        .bind(column(rows, |r| r.message.topic()))
                        .bind(column(rows, |r| r.message.payload().as_ref()))
                        .bind(first.available_in())
                        .bind(first.owner())
                } else {
                    rest_of(messages(statements.insert_alike.clone(), rows), first)
                }
            }
            rows => messages(statements.insert_mixed.clone(), rows)
                .bind(column(rows, |r| r.message.content_type()))
                .bind(column(rows, |r| r.message.is_durable()))
                .bind(column(rows, NewRecord::expires_in))
                .bind(column(rows, NewRecord::status))
                .bind(column(rows, NewRecord::due_in))
                .bind(column(rows, NewRecord::available_in))
                .bind(column(rows, NewRecord::owner)),
        };
        let written = query.execute(&mut *conn).await?.rows_affected();
        all_written(written, rows.len())?;
    }
    Ok(())
}

type Insert<'q> = Query<'q, Postgres, PgArguments>;

/// One record, by the statement for a plain one or by the one for any.
pub(super) fn one<'q>(row: &'q NewRecord<'_>, plain: &SqlStr, any: &SqlStr) -> Insert<'q> {
    if row.is_plain() {
        return sqlx::query(plain.clone())
            .bind(row.message.id().0)
            .bind(row.message.topic())
            .bind(row.message.payload().as_ref())
            .bind(row.available_in())
            .bind(row.owner());
    }
    let query = sqlx::query(any.clone())
        .bind(row.message.id().0)
        .bind(row.message.topic())
        .bind(row.message.key())
        .bind(row.message.headers().to_json())
        .bind(row.message.payload().as_ref());
    rest_of(query, row)
}

/// What a batch has in common, if it has.
fn is_alike(one: &NewRecord<'_>, other: &NewRecord<'_>) -> bool {
    one.message.content_type() == other.message.content_type()
        && one.message.is_durable() == other.message.is_durable()
        && one.ttl == other.ttl
        && one.delay == other.delay
        && one.lease == other.lease
        && one.parked == other.parked
}

fn rest_of<'q>(query: Insert<'q>, row: &NewRecord<'q>) -> Insert<'q> {
    query
        .bind(row.message.content_type())
        .bind(row.message.is_durable())
        .bind(row.expires_in())
        .bind(row.status())
        .bind(row.due_in())
        .bind(row.available_in())
        .bind(row.owner())
}

fn messages<'q>(statement: sqlx::SqlStr, rows: &'q [NewRecord<'_>]) -> Insert<'q> {
    sqlx::query(statement)
        .bind(column(rows, |r| r.message.id().0))
        .bind(column(rows, |r| r.message.topic()))
        .bind(column(rows, |r| r.message.key()))
        .bind(column(rows, |r| r.message.headers().to_json()))
        .bind(column(rows, |r| r.message.payload().as_ref()))
}

fn column<'a, 'm, T>(rows: &'a [NewRecord<'m>], value: impl Fn(&'a NewRecord<'m>) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}
