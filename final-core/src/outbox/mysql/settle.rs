//! What becomes of records: removed, kept, given back, set aside. Always by their ids, see
//! [`Statements::new`].

use std::time::Duration;

use sqlx::{MySql, MySqlPool, mysql::MySqlArguments, query::Query};
use uuid::Uuid;

use super::{
    Statements,
    error::{TRIES, is_deadlock},
    statements::{ById, MOST_IDS},
};
use crate::database::{
    DbResult,
    limits::{error_text, micros, sorted},
};

type Statement = Query<'static, MySql, MySqlArguments>;

pub(super) async fn delete(relay: &MySqlPool, s: &Statements, ids: &[Uuid]) -> DbResult<u64> {
    run(relay, &s.delete, ids, None, |query| query).await
}

pub(super) async fn mark_acked(relay: &MySqlPool, s: &Statements, ids: &[Uuid]) -> DbResult<u64> {
    run(relay, &s.mark_acked, ids, None, |query| query).await
}

pub(super) async fn renew(
    relay: &MySqlPool,
    s: &Statements,
    ids: &[Uuid],
    owner: Uuid,
    lease: Duration,
) -> DbResult<u64> {
    run(relay, &s.renew, ids, Some(owner), |query| {
        query.bind(owner).bind(micros(lease))
    })
    .await
}

pub(super) async fn release(
    relay: &MySqlPool,
    s: &Statements,
    ids: &[Uuid],
    owner: Uuid,
    wait: Duration,
) -> DbResult<u64> {
    run(relay, &s.release, ids, Some(owner), |query| {
        query.bind(micros(wait))
    })
    .await
}

pub(super) async fn put_back(
    relay: &MySqlPool,
    s: &Statements,
    ids: &[Uuid],
    owner: Uuid,
    wait: Duration,
    error: &str,
    fault: bool,
) -> DbResult<u64> {
    run(relay, &s.put_back, ids, Some(owner), |query| {
        query
            .bind(micros(wait))
            .bind(i32::from(fault))
            .bind(error_text(error))
    })
    .await
}

pub(super) async fn park(
    relay: &MySqlPool,
    s: &Statements,
    ids: &[Uuid],
    owner: Uuid,
    error: &str,
) -> DbResult<u64> {
    run(relay, &s.park, ids, Some(owner), |query| {
        query.bind(error_text(error))
    })
    .await
}

pub(super) async fn fail(
    relay: &MySqlPool,
    s: &Statements,
    ids: &[Uuid],
    owner: Uuid,
    error: &str,
) -> DbResult<u64> {
    run(relay, &s.fail, ids, Some(owner), |query| {
        query.bind(error_text(error))
    })
    .await
}

pub(super) async fn unpark(
    relay: &MySqlPool,
    s: &Statements,
    topic: &str,
    limit: u32,
) -> DbResult<u64> {
    let ids: Vec<Uuid> = sqlx::query_scalar(s.some_parked.clone())
        .bind(topic)
        .bind(limit)
        .fetch_all(relay)
        .await?;
    run(relay, &s.unpark, &ids, None, |query| query).await
}

pub(super) async fn retry_failed(
    relay: &MySqlPool,
    s: &Statements,
    ids: Option<&[Uuid]>,
) -> DbResult<u64> {
    let some: Vec<Uuid>;
    let ids = match ids {
        Some(ids) => ids,
        None => {
            some = sqlx::query_scalar(s.some_failed.clone())
                .bind(500)
                .fetch_all(relay)
                .await?;
            &some
        }
    };
    run(relay, &s.retry_failed, ids, None, |query| query).await
}

pub(super) async fn purge_acked(
    relay: &MySqlPool,
    s: &Statements,
    age: Duration,
    limit: u32,
) -> DbResult<u64> {
    let ids: Vec<Uuid> = sqlx::query_scalar(s.some_acked.clone())
        .bind(micros(age))
        .bind(limit)
        .fetch_all(relay)
        .await?;
    delete(relay, s, &ids).await
}

/// In rounds, by ids: a plain DELETE of all rows would wait for every caller's open INSERT.
pub(super) async fn purge_all(relay: &MySqlPool, s: &Statements) -> DbResult<u64> {
    let mut purged = 0;
    loop {
        let ids: Vec<Uuid> = sqlx::query_scalar(s.some.clone())
            .bind(MOST_IDS as u32)
            .fetch_all(relay)
            .await?;
        if ids.is_empty() {
            return Ok(purged);
        }
        purged += delete(relay, s, &ids).await?;
    }
}

/// Runs a statement on the ids, in as few parts as its lists of ids allow.
async fn run(
    relay: &MySqlPool,
    statement: &ById,
    ids: &[Uuid],
    owner: Option<Uuid>,
    bind: impl Fn(Statement) -> Statement,
) -> DbResult<u64> {
    let mut rows = 0;
    for chunk in sorted(ids).chunks(MOST_IDS) {
        let mut tries = 0;
        rows += loop {
            let (text, takes) = statement.for_ids(chunk.len());
            let mut query = by_ids(bind(sqlx::query(text)), chunk, takes);
            if let Some(owner) = owner {
                query = query.bind(owner).bind(owner);
            }
            tries += 1;
            match query.execute(relay).await {
                Ok(done) => break done.rows_affected(),
                Err(error) if tries < TRIES && is_deadlock(&error) => {}
                Err(error) => return Err(error),
            }
        };
    }
    Ok(rows)
}

pub(super) fn by_ids(query: Statement, ids: &[Uuid], takes: usize) -> Statement {
    filled(ids, takes).fold(query, |query, id| query.bind(id))
}

/// The ids or numbers, the last of them as often as it takes.
pub(super) fn filled<T: Copy>(ids: &[T], takes: usize) -> impl Iterator<Item = T> {
    let last = ids.last().copied();
    let missing = takes.saturating_sub(ids.len());
    ids.iter()
        .copied()
        .chain(last.into_iter().cycle().take(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_filled_with_its_last_id() {
        let [a, b] = [1, 2].map(Uuid::from_u128);

        assert_eq!(filled(&[a, b], 4).collect::<Vec<_>>(), [a, b, b, b]);
        assert_eq!(filled::<Uuid>(&[], 4).count(), 0);
    }
}
