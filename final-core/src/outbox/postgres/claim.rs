//! What is due, and claims on it. One statement each.

use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;

use super::{Statements, settle::run};
use crate::{
    database::{DbResult, limits::micros},
    outbox::{
        Claimed, Record,
        claims::{Claims, Due, Gap, Stretch},
        row,
    },
};

pub(super) async fn claims(relay: &PgPool, s: &Statements) -> DbResult<Claims> {
    let rows = sqlx::query_as(s.claims.clone()).fetch_all(relay).await?;
    Ok(Claims::read(rows))
}

pub(super) async fn look(
    relay: &PgPool,
    s: &Statements,
    gap: Gap,
    limit: u32,
) -> DbResult<Vec<Due>> {
    let rows = sqlx::query(s.look.clone())
        .bind(gap.after.available_at)
        .bind(gap.after.id)
        .bind(gap.end().available_at)
        .bind(gap.end().id)
        .bind(i64::from(limit))
        .fetch_all(relay)
        .await?;
    rows.iter().map(row::due).collect()
}

pub(super) async fn read(
    relay: &PgPool,
    s: &Statements,
    stretch: Stretch,
    most: u32,
) -> DbResult<Vec<Claimed>> {
    let rows = sqlx::query(s.read.clone())
        .bind(stretch.first.available_at)
        .bind(stretch.first.id)
        .bind(stretch.last.available_at)
        .bind(stretch.last.id)
        .bind(i64::from(most))
        .fetch_all(relay)
        .await?;
    rows.iter().map(row::claimed).collect()
}

pub(super) async fn reserve(
    relay: &PgPool,
    s: &Statements,
    last: i64,
    owner: Uuid,
    lease: Duration,
    stretch: Stretch,
) -> DbResult<bool> {
    let query = sqlx::query(s.reserve.clone())
        .bind(last)
        .bind(owner)
        .bind(micros(lease))
        .bind(stretch.first.available_at)
        .bind(stretch.first.id)
        .bind(stretch.last.available_at)
        .bind(stretch.last.id);
    Ok(run(relay, query).await? == 1)
}

pub(super) async fn finish(
    relay: &PgPool,
    s: &Statements,
    numbers: &[i64],
    owner: Uuid,
) -> DbResult<u64> {
    let query = sqlx::query(s.finish.clone()).bind(numbers.to_vec());
    run(relay, query.bind(owner)).await
}

pub(super) async fn forget(relay: &PgPool, s: &Statements, number: i64) -> DbResult<u64> {
    run(relay, sqlx::query(s.forget.clone()).bind(number)).await
}

pub(super) async fn claim_parked(
    relay: &PgPool,
    statements: &Statements,
    topic: &str,
    owner: Uuid,
    lease: Duration,
) -> DbResult<Option<Record>> {
    let row = sqlx::query(statements.claim_parked.clone())
        .bind(topic)
        .bind(owner)
        .bind(micros(lease))
        .fetch_optional(relay)
        .await?;
    row.map(|row| Ok(row::claimed(&row)?.record)).transpose()
}
