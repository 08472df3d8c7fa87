//! Connections: the caller's transactions, and the relay's own pool.

use sqlx::{Executor, PgPool, Postgres, Transaction};

use super::Statements;
use crate::{
    database::{DbResult, owned::owned},
    names::ServiceName,
    outbox::{RELAY_CONNECTIONS, RELAY_PATIENCE},
};

pub(super) async fn begin(pool: &PgPool) -> DbResult<Transaction<'static, Postgres>> {
    let pool = pool.clone();
    owned(async move { pool.begin().await }).await
}

/// What the server or the role says about `synchronous_commit` stands: where it is off, an ack can be
/// lost with the server, and the record is sent again. That is a repeat, not a loss.
///
/// A statement that waits for a lock gives up before we do: the server would let it wait on, each time
/// another one.
///
/// Plans are made for the values at hand: a plan for any LIMIT takes a tenth of the table for
/// granted, and the table is empty at one time and has a million rows at another. Without statistics the planner
/// expects a handful of due rows, and would fetch and sort the whole backlog for each claim.
const SESSION: &str = "\
    SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE; \
    SET lock_timeout = '10s'; \
    SET plan_cache_mode = force_custom_plan; \
    SET enable_bitmapscan = off; \
    SET enable_seqscan = off; \
    SET jit = off";

pub(super) fn relay(pool: &PgPool) -> PgPool {
    own_pool(pool, RELAY_CONNECTIONS, SESSION)
}

/// A pool of our own to the same database, each session of which begins with these statements.
pub(crate) fn own_pool(pool: &PgPool, connections: u32, session: &'static str) -> PgPool {
    pool.options()
        .clone()
        .max_connections(connections)
        .min_connections(0)
        .test_before_acquire(false)
        .acquire_timeout(RELAY_PATIENCE)
        // The caller's hooks are for the caller's sessions: one that resets the session would take
        // ours away.
        .before_acquire(|_, _| Box::pin(async { Ok(true) }))
        .after_release(|_, _| Box::pin(async { Ok(true) }))
        .after_connect(move |conn, _| {
            Box::pin(async move { conn.execute(session).await.map(drop) })
        })
        .connect_lazy_with(pool.connect_options().as_ref().clone())
}

pub(super) async fn locate(relay: &PgPool, service: &ServiceName) -> DbResult<Statements> {
    let schema = current_schema(&mut *relay.acquire().await?).await?;
    Ok(Statements::new(&schema, service))
}

pub(crate) async fn current_schema(conn: &mut sqlx::PgConnection) -> DbResult<String> {
    let schema: Option<String> = sqlx::query_scalar("SELECT current_schema()::text")
        .fetch_one(conn)
        .await?;
    schema.ok_or_else(|| {
        sqlx::Error::Configuration(
            "no schema is selected for the outbox: the search_path of the connection options names \
             none that exists; create it, or set `search_path`"
                .into(),
        )
    })
}

pub(super) fn lives_in_pool(_: &PgPool) -> bool {
    false
}
