//! Due records, leased to one process: short transactions at READ COMMITTED, where passing over the
//! index leaves no locks on the gaps that callers insert into.

use std::{collections::HashMap, time::Duration};

use sqlx::{MySqlConnection, MySqlPool};
use uuid::Uuid;

use super::{
    Statements,
    error::{TRIES, is_deadlock},
    pool,
    settle::{by_ids, filled},
    statements::MOST_IDS,
};
use crate::outbox::{
    Claimed, DbResult, Position, Record,
    limits::{CLAIM_BYTES, micros},
    row,
};

pub(super) async fn claim(
    relay: &MySqlPool,
    s: &Statements,
    after: Position,
    limit: u32,
    owner: Uuid,
    lease: Duration,
) -> DbResult<Vec<Claimed>> {
    let mut tries = 0;
    loop {
        tries += 1;
        match try_claim(relay, s, after, limit, owner, lease).await {
            Err(error) if tries < TRIES && is_deadlock(&error) => {}
            claimed => return claimed,
        }
    }
}

async fn try_claim(
    relay: &MySqlPool,
    s: &Statements,
    after: Position,
    limit: u32,
    owner: Uuid,
    lease: Duration,
) -> DbResult<Vec<Claimed>> {
    let mut tx = pool::begin(relay).await?;
    let due: Vec<(Uuid, i64, i64)> = sqlx::query_as(s.due.clone())
        .bind(after.available_at)
        .bind(after.available_at)
        .bind(after.id)
        .bind(limit)
        .fetch_all(&mut *tx)
        .await?;
    let due = fitting(due);
    for chunk in due.chunks(MOST_IDS) {
        let ids: Vec<Uuid> = chunk.iter().map(|place| place.id).collect();
        let (statement, takes) = s.lease.for_ids(ids.len());
        let query = sqlx::query(statement).bind(owner).bind(micros(lease));
        by_ids(query, &ids, takes).execute(&mut *tx).await?;
    }
    let mut records = read(&mut tx, s, &due).await?;
    tx.commit().await?;
    let claimed = |position: Position| {
        let record = records.remove(&position.id)?;
        Some(Claimed { record, position })
    };
    Ok(due.into_iter().filter_map(claimed).collect())
}

/// As many from the front as one claim may carry.
fn fitting(due: Vec<(Uuid, i64, i64)>) -> Vec<Position> {
    let mut before = 0;
    let fits = due.into_iter().take_while(|(_, _, bytes)| {
        let fits = before < CLAIM_BYTES;
        before += bytes;
        fits
    });
    fits.map(|(id, available_at, _)| Position { available_at, id })
        .collect()
}

/// Payloads are read by id and not along with the search, so that those that do not fit are not.
async fn read(
    conn: &mut MySqlConnection,
    s: &Statements,
    places: &[Position],
) -> DbResult<HashMap<Uuid, Record>> {
    let mut records = HashMap::with_capacity(places.len());
    for chunk in places.chunks(MOST_IDS) {
        let ids: Vec<Uuid> = chunk.iter().map(|place| place.id).collect();
        let (statement, takes) = s.read.for_ids(ids.len());
        let mut query = sqlx::query(statement);
        for id in filled(&ids, takes) {
            query = query.bind(id);
        }
        for row in query.fetch_all(&mut *conn).await? {
            let claimed = row::claimed(&row)?;
            records.insert(claimed.position.id, claimed.record);
        }
    }
    Ok(records)
}

pub(super) async fn claim_parked(
    relay: &MySqlPool,
    s: &Statements,
    topic: &str,
    owner: Uuid,
    lease: Duration,
) -> DbResult<Option<Record>> {
    let mut tx = pool::begin(relay).await?;
    let id: Option<Uuid> = sqlx::query_scalar(s.parked.clone())
        .bind(topic)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(id) = id else {
        return tx.rollback().await.map(|()| None);
    };
    let (statement, takes) = s.lease_parked.for_ids(1);
    let query = sqlx::query(statement).bind(owner).bind(micros(lease));
    by_ids(query, &[id], takes).execute(&mut *tx).await?;
    let place = Position {
        available_at: 0,
        id,
    };
    let record = read(&mut tx, s, &[place]).await?.remove(&id);
    tx.commit().await?;
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_ends_where_its_payloads_become_too_large() {
        let third = CLAIM_BYTES / 3 + 1;
        let due = (0..9).map(|n| (Uuid::from_u128(n), 0, third)).collect();

        assert_eq!(fitting(due).len(), 3);
    }

    #[test]
    fn one_record_is_claimed_however_large() {
        assert_eq!(fitting(vec![(Uuid::nil(), 0, CLAIM_BYTES * 2)]).len(), 1);
    }
}
