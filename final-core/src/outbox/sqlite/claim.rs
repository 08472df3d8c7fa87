//! What is due, and claims on it. One statement each.
//!
//! SQLite has one writer at a time, so nothing is taken before it is known that there is something.

use std::time::Duration;

use sqlx::{Sqlite, SqlitePool, query::Query, sqlite::SqliteArguments};
use uuid::Uuid;

use super::{
    Statements,
    error::Patience,
    pool,
    settle::{listed, millis},
};
use crate::{
    database::{DbResult, limits::micros},
    outbox::{
        Claimed, Record,
        claims::{Claims, Due, Gap, Stretch},
        row,
    },
};

pub(super) async fn claims(relay: &SqlitePool, s: &Statements) -> DbResult<Claims> {
    let rows = sqlx::query_as(s.claims.clone()).fetch_all(relay).await?;
    Ok(Claims::read(rows))
}

pub(super) async fn look(
    relay: &SqlitePool,
    s: &Statements,
    gap: Gap,
    limit: u32,
) -> DbResult<Vec<Due>> {
    let rows = sqlx::query(s.look.clone())
        .bind(gap.after.available_at / 1_000)
        .bind(gap.after.id)
        .bind(gap.end().available_at / 1_000)
        .bind(gap.end().id)
        .bind(limit)
        .fetch_all(relay)
        .await?;
    rows.iter().map(row::due).collect()
}

pub(super) async fn read(
    relay: &SqlitePool,
    s: &Statements,
    stretch: Stretch,
    most: u32,
) -> DbResult<Vec<Claimed>> {
    let rows = sqlx::query(s.read.clone())
        .bind(stretch.first.available_at / 1_000)
        .bind(stretch.first.id)
        .bind(stretch.last.available_at / 1_000)
        .bind(stretch.last.id)
        .bind(i64::from(most))
        .fetch_all(relay)
        .await?;
    rows.iter().map(row::claimed).collect()
}

pub(super) async fn reserve(
    relay: &SqlitePool,
    s: &Statements,
    last: i64,
    owner: Uuid,
    lease: Duration,
    stretch: Stretch,
) -> DbResult<bool> {
    let written = run(relay, || {
        sqlx::query(s.reserve.clone())
            .bind(last)
            .bind(owner)
            .bind(millis(micros(lease)))
            .bind(stretch.first.available_at / 1_000)
            .bind(stretch.first.id)
            .bind(stretch.last.available_at / 1_000)
            .bind(stretch.last.id)
    });
    Ok(written.await? == 1)
}

pub(super) async fn finish(
    relay: &SqlitePool,
    s: &Statements,
    numbers: &[i64],
    owner: Uuid,
) -> DbResult<u64> {
    let numbers = numbers.iter().map(i64::to_string).collect::<Vec<_>>();
    let numbers = format!("[{}]", numbers.join(","));
    run(relay, || {
        sqlx::query(s.finish.clone())
            .bind(numbers.clone())
            .bind(owner)
    })
    .await
}

pub(super) async fn forget(relay: &SqlitePool, s: &Statements, number: i64) -> DbResult<u64> {
    run(relay, || sqlx::query(s.forget.clone()).bind(number)).await
}

/// Writes, as soon as whoever writes now lets it.
async fn run(
    relay: &SqlitePool,
    query: impl Fn() -> Query<'static, Sqlite, SqliteArguments>,
) -> DbResult<u64> {
    let mut patience = Patience::default();
    loop {
        match query().execute(relay).await {
            Err(error) if patience.again(&error).await => {}
            done => return Ok(done?.rows_affected()),
        }
    }
}

pub(super) async fn claim_parked(
    relay: &SqlitePool,
    s: &Statements,
    topic: &str,
    owner: Uuid,
    lease: Duration,
) -> DbResult<Option<Record>> {
    let any: bool = sqlx::query_scalar(s.any_parked.clone())
        .bind(topic)
        .fetch_one(relay)
        .await?;
    if !any {
        return Ok(None);
    }
    let mut tx = pool::begin(relay).await?;
    let row = sqlx::query(s.parked.clone())
        .bind(topic)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(record) = row.map(|row| row::claimed(&row)).transpose()? else {
        return tx.rollback().await.map(|()| None);
    };
    sqlx::query(s.lease_parked.clone())
        .bind(listed(&[record.position.id]))
        .bind(owner)
        .bind(millis(micros(lease)))
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(Some(record.record))
}
