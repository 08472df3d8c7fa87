//! Due records, leased to one process: a short transaction, since SQLite cannot return old values.
//!
//! SQLite has one writer at a time, so nothing is taken before it is known that there is something.

use std::time::Duration;

use sqlx::SqlitePool;
use uuid::Uuid;

use super::{
    Statements, pool,
    settle::{listed, millis},
};
use crate::outbox::{Claimed, DbResult, Position, Record, limits::micros, row};

pub(super) async fn claim(
    relay: &SqlitePool,
    s: &Statements,
    after: Position,
    limit: u32,
    owner: Uuid,
    lease: Duration,
) -> DbResult<Vec<Claimed>> {
    let after_ms = after.available_at / 1_000;
    let any: bool = sqlx::query_scalar(s.any_due.clone())
        .bind(after_ms)
        .bind(after.id)
        .fetch_one(relay)
        .await?;
    if !any {
        return Ok(Vec::new());
    }
    let mut tx = pool::begin(relay).await?;
    let rows = sqlx::query(s.due.clone())
        .bind(after_ms)
        .bind(after.id)
        .bind(limit)
        .fetch_all(&mut *tx)
        .await?;
    let claimed: Vec<Claimed> = rows.iter().map(row::claimed).collect::<DbResult<_>>()?;
    let ids: Vec<Uuid> = claimed.iter().map(|c| c.position.id).collect();
    sqlx::query(s.lease.clone())
        .bind(listed(&ids))
        .bind(owner)
        .bind(millis(micros(lease)))
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(claimed)
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
