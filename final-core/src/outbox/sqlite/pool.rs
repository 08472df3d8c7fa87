//! Connections: the caller's transactions, and the relay's own pool.

use std::time::Duration;

use sqlx::{Executor, Sqlite, SqlitePool, Transaction, sqlite::SqliteConnectOptions};

use super::{Statements, error::Patience};
use crate::{
    database::{DbResult, owned::owned},
    names::ServiceName,
    outbox::RELAY_CONNECTIONS,
};

pub(super) async fn begin(pool: &SqlitePool) -> DbResult<Transaction<'static, Sqlite>> {
    let pool = pool.clone();
    owned(async move {
        let mut patience = Patience::default();
        loop {
            match pool.begin_with("BEGIN IMMEDIATE").await {
                Err(error) if patience.again(&error).await => {}
                begun => return begun,
            }
        }
    })
    .await
}

/// How long a write waits for the one before it. A caller's transaction is that one, most of the time.
const BUSY: Duration = Duration::from_secs(5);

pub(super) fn lives_in_pool(pool: &SqlitePool) -> bool {
    in_memory(&pool.connect_options())
}

/// A database in memory is gone with its last connection and often has only one, so the relay shares
/// the caller's pool there.
pub(super) fn relay(pool: &SqlitePool) -> SqlitePool {
    own_pool(pool, RELAY_CONNECTIONS)
}

/// A pool of our own to the same file.
pub(crate) fn own_pool(pool: &SqlitePool, connections: u32) -> SqlitePool {
    let options = pool.connect_options();
    if in_memory(&options) {
        return pool.clone();
    }
    pool.options()
        .clone()
        .max_connections(connections)
        .min_connections(0)
        .test_before_acquire(false)
        // The caller's hooks are for the caller's sessions.
        .before_acquire(|_, _| Box::pin(async { Ok(true) }))
        .after_release(|_, _| Box::pin(async { Ok(true) }))
        .after_connect(|conn, _| {
            Box::pin(async move {
                // Refused while somebody else is in the middle of something; everything works
                // without it, only slower, and the next connection tries again.
                if let Err(error) = conn.execute("PRAGMA main.journal_mode = WAL").await {
                    tracing::debug!(%error, "the SQLite file could not be switched to WAL yet");
                }
                Ok(())
            })
        })
        // In a shared cache a lock is refused at once, whatever the timeout.
        .connect_lazy_with(
            options
                .as_ref()
                .clone()
                .shared_cache(false)
                .busy_timeout(BUSY),
        )
}

/// sqlx tells it by no getter, and `to_url_lossy` panics for `:memory:`.
fn in_memory(options: &SqliteConnectOptions) -> bool {
    let name = options.get_filename().to_string_lossy();
    name.is_empty()
        || name.contains(":memory:")
        || name.contains("mode=memory")
        || format!("{options:?}").contains("in_memory: true")
}

pub(super) async fn locate(_: &SqlitePool, service: &ServiceName) -> DbResult<Statements> {
    Ok(Statements::new(service))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_in_memory_are_recognised() {
        let is = |url: &str| in_memory(&url.parse().unwrap());

        assert!(is("sqlite::memory:"));
        assert!(is("sqlite://?mode=memory&cache=private"));
        assert!(is("sqlite://orders?mode=memory"));
        assert!(in_memory(&SqliteConnectOptions::new().filename(":memory:")));
        assert!(!is("sqlite://orders.db"));
        assert!(!is("sqlite:///tmp/orders.db?mode=rwc"));
    }
}
