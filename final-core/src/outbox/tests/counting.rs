//! Counts that take too long: the server ends them, and the pool goes on.

use std::time::{Duration, Instant};

use sqlx::{Pool, SqlSafeStr};
use tokio::time::timeout;

use super::house::{House, LEASE};
use crate::{database::FromRow, outbox::Outbox};

/// A count that would take years.
const ENDLESS: &str =
    "SELECT COUNT(*) AS n FROM numbers a, numbers b, numbers c, numbers d, numbers e, numbers f";

/// The end of such a count.
const LIMIT: Duration = Duration::from_millis(300);

/// By when a connection is free again, on any machine.
const SOON: Duration = Duration::from_secs(60);

async fn shop<DB: House>() -> (Outbox<DB>, Pool<DB>) {
    let pool = DB::fresh().await;
    let outbox = Outbox::new("my-shop".to_owned(), pool.clone(), LEASE);
    outbox.migrate().await.unwrap();
    outbox.located().await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    DB::execute(&mut conn, "CREATE TABLE numbers (n INTEGER)").await;
    let rows = vec!["(1)"; 500].join(", ");
    let fill = format!("INSERT INTO numbers (n) VALUES {rows}, {rows}");
    DB::execute(&mut conn, &fill).await;
    (outbox, pool)
}

/// All connections of the outbox's own pool at once answer a statement of some length.
async fn all_answer<DB: House>(pool: &Pool<DB>) {
    let mut all = Vec::new();
    for _ in 0..pool.options().get_max_connections() {
        let conn = pool.acquire();
        all.push(timeout(SOON, conn).await.expect("a connection").unwrap());
    }
    for conn in &mut all {
        let count = "SELECT COUNT(*) AS n FROM numbers a, numbers b";
        assert_eq!(DB::number(conn, count).await, 1_000_000);
    }
}

pub(super) async fn the_server_ends_a_count_whose_time_is_over<DB: House>() {
    let (outbox, _pool) = shop::<DB>().await;
    let pool = outbox.own_pool();
    for _ in 0..3 {
        let endless = ENDLESS.into_sql_str();
        let counting = DB::read_within(pool.clone(), LIMIT, endless, Vec::new(), i64::COLUMNS);
        let error = timeout(SOON, counting)
            .await
            .expect("an answer")
            .unwrap_err();
        assert!(DB::is_cut_off(&error), "{error}");
    }
    all_answer(&pool).await;
}

/// Its caller has gone, and nobody reads its answer.
pub(super) async fn a_count_that_was_given_up_gives_its_connection_back<DB: House>() {
    let (outbox, _pool) = shop::<DB>().await;
    let pool = outbox.own_pool();
    for _ in 0..pool.options().get_max_connections() {
        let endless = ENDLESS.into_sql_str();
        let counting = DB::read_within(pool.clone(), LIMIT, endless, Vec::new(), i64::COLUMNS);
        assert!(timeout(LIMIT / 10, counting).await.is_err());
    }
    all_answer(&pool).await;
}

pub(super) async fn counts_have_one_connection_and_leave_the_pool_as_it_is<DB: House>() {
    let (mut outbox, _pool) = shop::<DB>().await;
    outbox.pool.count_for(LIMIT);
    let (before, outbox) = (outbox.own_pool(), &outbox);
    let began = Instant::now();
    let count = async || {
        let counted = outbox.pool.count::<i64>(ENDLESS.into_sql_str(), Vec::new());
        counted.await.unwrap_err().to_string()
    };
    let (first, second, third) = tokio::join!(count(), count(), count());

    for error in [first, second, third] {
        assert!(error.contains("had not counted to the end"), "{error}");
    }
    assert!(began.elapsed() >= LIMIT * 3, "one after the other");
    assert_eq!(outbox.give_ups(), 0);
    before.close().await;
    assert!(outbox.own_pool().is_closed(), "the pool is the same");
}

pub(super) async fn counts_whose_callers_have_gone_have_one_connection_together<DB: House>() {
    let (mut outbox, _pool) = shop::<DB>().await;
    outbox.pool.count_for(LIMIT * 10);
    for _ in 0..3 {
        let counting = outbox.pool.count::<i64>(ENDLESS.into_sql_str(), Vec::new());
        assert!(timeout(LIMIT / 2, counting).await.is_err());
    }

    let pool = outbox.own_pool();
    let busy = (pool.size() as usize).saturating_sub(pool.num_idle());
    assert!(busy <= 1, "{busy} connections count");
    let count = "SELECT COUNT(*) AS n FROM numbers".into_sql_str();
    let counted: Vec<i64> = outbox.pool.count(count, Vec::new()).await.unwrap();
    assert_eq!(counted, [1_000], "the turn comes back");
}

pub(super) async fn what_is_counted_in_time_is_the_same_with_a_limit<DB: House>() {
    let (outbox, _pool) = shop::<DB>().await;
    let count = "SELECT COUNT(*) AS n FROM numbers".into_sql_str();

    let counted: Vec<i64> = outbox.pool.count(count, Vec::new()).await.unwrap();

    assert_eq!(counted, [1_000]);
}
