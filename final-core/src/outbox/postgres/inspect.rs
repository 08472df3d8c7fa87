//! What is in the table.

use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;

use super::Statements;
use crate::{
    database::{DbResult, limits::duration},
    outbox::{Backlog, FailedRecord, row},
};

pub(super) async fn next_due(relay: &PgPool, s: &Statements) -> DbResult<Option<Duration>> {
    let wait: Option<i64> = sqlx::query_scalar(s.next_due.clone())
        .fetch_one(relay)
        .await?;
    Ok(wait.map(duration))
}

pub(super) async fn parked_topics(
    relay: &PgPool,
    s: &Statements,
    limit: u32,
) -> DbResult<Vec<String>> {
    sqlx::query_scalar(s.parked_topics.clone())
        .bind(i64::from(limit))
        .fetch_all(relay)
        .await
}

pub(super) async fn failed(
    relay: &PgPool,
    s: &Statements,
    limit: u32,
) -> DbResult<Vec<FailedRecord>> {
    let rows = sqlx::query(s.failed.clone())
        .bind(i64::from(limit))
        .fetch_all(relay)
        .await?;
    rows.iter().map(row::failed).collect()
}

pub(super) async fn backlog(relay: &PgPool, s: &Statements) -> DbResult<Backlog> {
    row::backlog(&sqlx::query(s.backlog.clone()).fetch_one(relay).await?)
}

pub(super) async fn has_other_leases(
    relay: &PgPool,
    s: &Statements,
    owner: Uuid,
) -> DbResult<bool> {
    sqlx::query_scalar(s.has_other_leases.clone())
        .bind(owner)
        .fetch_one(relay)
        .await
}
