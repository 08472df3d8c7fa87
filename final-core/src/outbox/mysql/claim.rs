//! Due records, leased to one process: short transactions at READ COMMITTED, where passing over the
//! index leaves no locks on the gaps that callers insert into.

use std::{collections::HashMap, time::Duration};

use sqlx::{MySqlConnection, MySqlPool, Row, mysql::MySqlRow};
use uuid::Uuid;

use super::{
    Statements,
    error::{TRIES, is_deadlock},
    pool,
    settle::{by_ids, filled},
    statements::{BYTES, MOST_IDS, SMALL_BYTES},
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
    let rows = sqlx::query(s.due.clone())
        .bind(after.available_at)
        .bind(after.available_at)
        .bind(after.id)
        .bind(limit)
        .fetch_all(&mut *tx)
        .await?;
    let found = |row: &MySqlRow| Ok((row::claimed(row)?, row.try_get(BYTES)?));
    let mut due: Vec<(Claimed, i64)> = rows.iter().map(found).collect::<DbResult<_>>()?;
    due.truncate(fitting(due.iter().map(|(_, bytes)| *bytes)));
    let ids: Vec<Uuid> = due.iter().map(|(due, _)| due.position.id).collect();
    for ids in ids.chunks(MOST_IDS) {
        let (statement, takes) = s.lease.for_ids(ids.len());
        let query = sqlx::query(statement).bind(owner).bind(micros(lease));
        by_ids(query, ids, takes).execute(&mut *tx).await?;
    }
    let is_large = |(_, bytes): &&(Claimed, i64)| *bytes > SMALL_BYTES;
    let large = due.iter().filter(is_large);
    let large: Vec<Uuid> = large.map(|(due, _)| due.position.id).collect();
    let mut large = read(&mut tx, s, &large).await?;
    tx.commit().await?;
    let claimed = |(mut claimed, bytes): (Claimed, i64)| {
        if bytes > SMALL_BYTES {
            claimed.record = large.remove(&claimed.position.id)?;
        }
        Some(claimed)
    };
    Ok(due.into_iter().filter_map(claimed).collect())
}

/// How many from the front one claim may carry.
fn fitting(sizes: impl Iterator<Item = i64>) -> usize {
    let mut before = 0;
    let fits = sizes.take_while(|bytes| {
        let fits = before < CLAIM_BYTES;
        before += bytes;
        fits
    });
    fits.count()
}

/// Large payloads are read by id and not along with the search, so that those that do not fit are not.
async fn read(
    conn: &mut MySqlConnection,
    s: &Statements,
    ids: &[Uuid],
) -> DbResult<HashMap<Uuid, Record>> {
    let mut records = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(MOST_IDS) {
        let (statement, takes) = s.read.for_ids(ids.len());
        let mut query = sqlx::query(statement);
        for id in filled(ids, takes) {
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
    let record = read(&mut tx, s, &[id]).await?.remove(&id);
    tx.commit().await?;
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_ends_where_its_payloads_become_too_large() {
        assert_eq!(fitting([CLAIM_BYTES / 3 + 1; 9].into_iter()), 3);
    }

    #[test]
    fn one_record_is_claimed_however_large() {
        assert_eq!(fitting([CLAIM_BYTES * 2].into_iter()), 1);
    }
}
