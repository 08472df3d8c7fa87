//! Due records, leased to one process. One statement each.

use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;

use super::Statements;
use crate::outbox::{Claimed, DbResult, Position, Record, limits::micros, row};

pub(super) async fn claim(
    relay: &PgPool,
    statements: &Statements,
    after: Position,
    limit: u32,
    owner: Uuid,
    lease: Duration,
) -> DbResult<Vec<Claimed>> {
    let rows = sqlx::query(statements.claim.clone())
        .bind(after.available_at)
        .bind(after.id)
        .bind(i64::from(limit))
        .bind(owner)
        .bind(micros(lease))
        .fetch_all(relay)
        .await?;
    rows.iter().map(row::claimed).collect()
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
