//! Connections: the caller's transactions, and the relay's own pool.

use sqlx::{Executor, MySql, MySqlConnection, MySqlPool, Transaction};

use super::Statements;
use crate::{
    database::{DbResult, owned::owned},
    names::ServiceName,
    outbox::{RELAY_CONNECTIONS, RELAY_PATIENCE},
};

pub(super) async fn begin(pool: &MySqlPool) -> DbResult<Transaction<'static, MySql>> {
    let pool = pool.clone();
    owned(async move { pool.begin().await }).await
}

/// At REPEATABLE READ, the server's default, even a claim that finds nothing would lock the gaps of
/// the index, and callers' INSERTs would wait for it.
const SESSION: [&str; 6] = [
    // Before we give up ourselves: the server would let it wait on, each time another one.
    "SET SESSION innodb_lock_wait_timeout = 10",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION autocommit = 1",
    // Otherwise a COMMIT may begin the next transaction, in which what comes then is never committed.
    "SET SESSION completion_type = 'NO_CHAIN'",
    // What the server's `init_connect` has begun.
    "ROLLBACK",
    // What is cut or replaced in silence otherwise is an error.
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
];

pub(super) fn relay(pool: &MySqlPool) -> MySqlPool {
    own_pool(pool, RELAY_CONNECTIONS, &[])
}

/// A pool of our own to the same database, each session of which begins with what all of ours need
/// and with these statements.
pub(crate) fn own_pool(
    pool: &MySqlPool,
    connections: u32,
    session: &'static [&'static str],
) -> MySqlPool {
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
            Box::pin(async move {
                for statement in SESSION.iter().chain(session) {
                    conn.execute(*statement).await?;
                }
                Ok(())
            })
        })
        .connect_lazy_with(pool.connect_options().as_ref().clone())
}

pub(super) async fn locate(relay: &MySqlPool, service: &ServiceName) -> DbResult<Statements> {
    let mut conn = relay.acquire().await?;
    let schema = current_database(&mut conn).await?;
    let version: String = sqlx::query_scalar("SELECT VERSION()")
        .fetch_one(&mut *conn)
        .await?;
    Ok(Statements::new(&schema, service, is_mariadb(&version)))
}

/// A MariaDB behind a proxy may also say `5.5.5-10.11.6-MariaDB`.
pub(crate) fn is_mariadb(version: &str) -> bool {
    version.to_ascii_lowercase().contains("mariadb")
}

pub(crate) async fn current_database(conn: &mut MySqlConnection) -> DbResult<String> {
    let database: Option<String> = sqlx::query_scalar("SELECT DATABASE()")
        .fetch_one(conn)
        .await?;
    database.ok_or_else(|| {
        sqlx::Error::Configuration(
            "no database is selected for the outbox; name one in the connection options".into(),
        )
    })
}

pub(super) fn lives_in_pool(_: &MySqlPool) -> bool {
    false
}
