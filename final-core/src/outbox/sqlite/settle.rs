//! What becomes of records: removed, kept, given back, set aside.

use std::time::Duration;

use sqlx::{SqlStr, Sqlite, SqlitePool, query::Query, sqlite::SqliteArguments};
use uuid::Uuid;

use super::Statements;
use crate::database::{
    DbResult,
    limits::{error_text, micros},
};

pub(super) async fn delete(relay: &SqlitePool, s: &Statements, ids: &[Uuid]) -> DbResult<u64> {
    run(relay, by_ids(&s.delete, ids)).await
}

pub(super) async fn mark_acked(relay: &SqlitePool, s: &Statements, ids: &[Uuid]) -> DbResult<u64> {
    run(relay, by_ids(&s.mark_acked, ids)).await
}

pub(super) async fn renew(
    relay: &SqlitePool,
    s: &Statements,
    ids: &[Uuid],
    owner: Uuid,
    lease: Duration,
) -> DbResult<u64> {
    run(
        relay,
        by_ids(&s.renew, ids)
            .bind(owner)
            .bind(millis(micros(lease))),
    )
    .await
}

pub(super) async fn release(
    relay: &SqlitePool,
    s: &Statements,
    ids: &[Uuid],
    owner: Uuid,
    wait: Duration,
) -> DbResult<u64> {
    run(
        relay,
        by_ids(&s.release, ids)
            .bind(owner)
            .bind(millis(micros(wait))),
    )
    .await
}

pub(super) async fn put_back(
    relay: &SqlitePool,
    s: &Statements,
    ids: &[Uuid],
    owner: Uuid,
    wait: Duration,
    error: &str,
    fault: bool,
) -> DbResult<u64> {
    let query = by_ids(&s.put_back, ids)
        .bind(owner)
        .bind(millis(micros(wait)))
        .bind(i32::from(fault))
        .bind(error_text(error));
    run(relay, query).await
}

pub(super) async fn park(
    relay: &SqlitePool,
    s: &Statements,
    ids: &[Uuid],
    owner: Uuid,
    error: &str,
) -> DbResult<u64> {
    run(
        relay,
        by_ids(&s.park, ids).bind(owner).bind(error_text(error)),
    )
    .await
}

pub(super) async fn fail(
    relay: &SqlitePool,
    s: &Statements,
    ids: &[Uuid],
    owner: Uuid,
    error: &str,
) -> DbResult<u64> {
    run(
        relay,
        by_ids(&s.fail, ids).bind(owner).bind(error_text(error)),
    )
    .await
}

pub(super) async fn unpark(
    relay: &SqlitePool,
    s: &Statements,
    topic: &str,
    limit: u32,
) -> DbResult<u64> {
    let query = sqlx::query(s.unpark.clone())
        .bind(topic.to_owned())
        .bind(i64::from(limit));
    run(relay, query).await
}

pub(super) async fn retry_failed(
    relay: &SqlitePool,
    s: &Statements,
    ids: Option<&[Uuid]>,
) -> DbResult<u64> {
    let query = match ids {
        Some(ids) => by_ids(&s.retry_failed, ids),
        None => sqlx::query(s.retry_some_failed.clone()).bind(500_i64),
    };
    run(relay, query).await
}

pub(super) async fn purge_acked(
    relay: &SqlitePool,
    s: &Statements,
    age: Duration,
    limit: u32,
) -> DbResult<u64> {
    let query = sqlx::query(s.purge_acked.clone())
        .bind(millis(micros(age)))
        .bind(i64::from(limit));
    run(relay, query).await
}

pub(super) async fn purge_all(relay: &SqlitePool, s: &Statements) -> DbResult<u64> {
    run(relay, sqlx::query(s.purge_all.clone())).await
}

fn by_ids(statement: &SqlStr, ids: &[Uuid]) -> Query<'static, Sqlite, SqliteArguments> {
    sqlx::query(statement.clone()).bind(listed(ids))
}

async fn run(relay: &SqlitePool, query: Query<'static, Sqlite, SqliteArguments>) -> DbResult<u64> {
    Ok(query.execute(relay).await?.rows_affected())
}

/// The ids as a JSON array of hexadecimal texts, which has no other way to hold bytes.
pub(super) fn listed(ids: &[Uuid]) -> String {
    let mut text = String::with_capacity(2 + ids.len() * 35);
    for id in ids {
        text.push(if text.is_empty() { '[' } else { ',' });
        text.push('"');
        text.push_str(id.simple().encode_lower(&mut Uuid::encode_buffer()));
        text.push('"');
    }
    if text.is_empty() {
        text.push('[');
    }
    text.push(']');
    text
}

/// Microseconds in the unit of the table, rounded up so that nothing is due too early.
pub(super) fn millis(micros: i64) -> i64 {
    micros.saturating_add(999) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_listed_as_json() {
        assert_eq!(listed(&[]), "[]");
        assert_eq!(
            listed(&[Uuid::nil(), Uuid::max()]),
            r#"["00000000000000000000000000000000","ffffffffffffffffffffffffffffffff"]"#
        );
    }

    #[test]
    fn a_fraction_of_a_millisecond_is_rounded_up() {
        assert_eq!(
            [millis(0), millis(1), millis(1_000), millis(1_001)],
            [0, 1, 1, 2]
        );
    }
}
