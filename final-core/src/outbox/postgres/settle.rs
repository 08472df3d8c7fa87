//! What becomes of records: removed, kept, given back, set aside.

use std::time::Duration;

use sqlx::{PgPool, Postgres, SqlStr, postgres::PgArguments, query::Query};
use uuid::Uuid;

use super::Statements;
use crate::database::{
    DbResult,
    limits::{error_text, micros, sorted},
};

pub(super) async fn delete(relay: &PgPool, s: &Statements, ids: &[Uuid]) -> DbResult<u64> {
    run(relay, by_ids(&s.delete, ids)).await
}

pub(super) async fn mark_acked(relay: &PgPool, s: &Statements, ids: &[Uuid]) -> DbResult<u64> {
    run(relay, by_ids(&s.mark_acked, ids)).await
}

pub(super) async fn renew(
    relay: &PgPool,
    s: &Statements,
    ids: &[Uuid],
    owner: Uuid,
    lease: Duration,
) -> DbResult<u64> {
    run(relay, by_ids(&s.renew, ids).bind(owner).bind(micros(lease))).await
}

pub(super) async fn release(
    relay: &PgPool,
    s: &Statements,
    ids: &[Uuid],
    owner: Uuid,
    wait: Duration,
) -> DbResult<u64> {
    run(
        relay,
        by_ids(&s.release, ids).bind(owner).bind(micros(wait)),
    )
    .await
}

pub(super) async fn put_back(
    relay: &PgPool,
    s: &Statements,
    ids: &[Uuid],
    owner: Uuid,
    wait: Duration,
    error: &str,
    fault: bool,
) -> DbResult<u64> {
    let query = by_ids(&s.put_back, ids)
        .bind(owner)
        .bind(micros(wait))
        .bind(i32::from(fault))
        .bind(error_text(error));
    run(relay, query).await
}

pub(super) async fn park(
    relay: &PgPool,
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
    relay: &PgPool,
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
    relay: &PgPool,
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
    relay: &PgPool,
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
    relay: &PgPool,
    s: &Statements,
    age: Duration,
    limit: u32,
) -> DbResult<u64> {
    let query = sqlx::query(s.purge_acked.clone())
        .bind(micros(age))
        .bind(i64::from(limit));
    run(relay, query).await
}

pub(super) async fn purge_all(relay: &PgPool, s: &Statements) -> DbResult<u64> {
    run(relay, sqlx::query(s.purge_all.clone())).await
}

fn by_ids(statement: &SqlStr, ids: &[Uuid]) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(statement.clone()).bind(sorted(ids))
}

pub(super) async fn run(
    relay: &PgPool,
    query: Query<'static, Postgres, PgArguments>,
) -> DbResult<u64> {
    Ok(query.execute(relay).await?.rows_affected())
}
