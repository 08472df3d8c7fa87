//! What is due, and claims on it. One statement each at READ COMMITTED, where passing over the index
//! leaves no locks on the gaps that callers insert into.

use std::time::Duration;

use sqlx::MySqlPool;
use uuid::Uuid;

use super::{
    Statements,
    error::{TRIES, is_deadlock},
    settle::{by_ids, filled},
    statements::MOST_CLAIMS,
};
use crate::{
    database::{DbResult, limits::micros},
    outbox::{
        Claimed, Record,
        claims::{Claims, Due, Gap, Stretch},
        row,
    },
};

pub(super) async fn claims(relay: &MySqlPool, s: &Statements) -> DbResult<Claims> {
    let rows = sqlx::query_as(s.claims.clone()).fetch_all(relay).await?;
    Ok(Claims::read(rows))
}

pub(super) async fn look(
    relay: &MySqlPool,
    s: &Statements,
    gap: Gap,
    limit: u32,
) -> DbResult<Vec<Due>> {
    let (after, end) = (gap.after, gap.end());
    let mut tries = 0;
    let rows = loop {
        let query = sqlx::query(s.look.clone())
            .bind(after.available_at)
            .bind(after.available_at)
            .bind(after.id)
            .bind(end.available_at)
            .bind(end.available_at)
            .bind(end.id)
            .bind(limit);
        tries += 1;
        match query.fetch_all(relay).await {
            Ok(rows) => break rows,
            Err(error) if tries < TRIES && is_deadlock(&error) => {}
            Err(error) => return Err(error),
        }
    };
    rows.iter().map(row::due).collect()
}

pub(super) async fn read(
    relay: &MySqlPool,
    s: &Statements,
    stretch: Stretch,
    most: u32,
) -> DbResult<Vec<Claimed>> {
    let (first, last) = (stretch.first, stretch.last);
    let rows = sqlx::query(s.read.clone())
        .bind(first.available_at)
        .bind(first.available_at)
        .bind(first.id)
        .bind(last.available_at)
        .bind(last.available_at)
        .bind(last.id)
        .bind(i64::from(most))
        .fetch_all(relay)
        .await?;
    rows.iter().map(row::claimed).collect()
}

pub(super) async fn reserve(
    relay: &MySqlPool,
    s: &Statements,
    last: i64,
    owner: Uuid,
    lease: Duration,
    stretch: Stretch,
) -> DbResult<bool> {
    let done = sqlx::query(s.reserve.clone())
        .bind(last + 1)
        .bind(owner)
        .bind(micros(lease))
        .bind(stretch.first.available_at)
        .bind(stretch.first.id)
        .bind(stretch.last.available_at)
        .bind(stretch.last.id)
        .bind(last)
        .execute(relay)
        .await;
    match done {
        Ok(done) => Ok(done.rows_affected() == 1),
        // Of two that write the same number at once.
        Err(error) if is_deadlock(&error) => Ok(false),
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) async fn finish(
    relay: &MySqlPool,
    s: &Statements,
    numbers: &[i64],
    owner: Uuid,
) -> DbResult<u64> {
    let mut finished = 0;
    for numbers in numbers.chunks(MOST_CLAIMS) {
        let query = sqlx::query(s.finish.clone()).bind(owner);
        let query = filled(numbers, MOST_CLAIMS).fold(query, |query, number| query.bind(number));
        finished += query.execute(relay).await?.rows_affected();
    }
    Ok(finished)
}

pub(super) async fn forget(relay: &MySqlPool, s: &Statements, number: i64) -> DbResult<u64> {
    let query = sqlx::query(s.forget.clone()).bind(number);
    Ok(query.execute(relay).await?.rows_affected())
}

pub(super) async fn claim_parked(
    relay: &MySqlPool,
    s: &Statements,
    topic: &str,
    owner: Uuid,
    lease: Duration,
) -> DbResult<Option<Record>> {
    // Each statement stands alone: whoever stopped in the midst of a transaction would keep others from
    // releasing the topic's records.
    let (lease_one, takes) = s.lease_parked.for_ids(1);
    let id = loop {
        let id: Option<Uuid> = sqlx::query_scalar(s.parked.clone())
            .bind(topic)
            .fetch_optional(relay)
            .await?;
        let Some(id) = id else {
            return Ok(None);
        };
        let query = sqlx::query(lease_one.clone())
            .bind(owner)
            .bind(micros(lease));
        let leased = by_ids(query, &[id], takes).execute(relay).await?;
        if leased.rows_affected() == 1 {
            break id;
        }
        // Somebody else was first, with this one.
    };
    let row = sqlx::query(s.read_parked.clone())
        .bind(id)
        .fetch_optional(relay)
        .await?;
    row.map(|row| Ok(row::claimed(&row)?.record)).transpose()
}
