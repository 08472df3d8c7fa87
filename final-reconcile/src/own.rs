//! A pool of our own that can be left.
//!
//! Input: the caller's pool, and how a session begins. State: the pool in use. Output: connections.
//!
//! sqlx keeps the connection of an abandoned statement, and its place in the pool, until the server gives a sign of life.
//! So after a statement without an answer the whole pool is left, and the next statement connects anew. The same is true of
//! a statement that its caller has given up, and of a pool that has no connection to give.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use final_core::database::{DbResult, Driver};
use sqlx::Pool;
use tokio::time::timeout;
use uuid::Uuid;

/// How many connections a pool has.
const CONNECTIONS: u32 = 2;

/// A pool of our own.
pub(crate) struct OwnPool<DB: Driver> {
    caller: Pool<DB>,
    session: &'static [&'static str],
    connections: u32,
    pool: Mutex<Option<Pool<DB>>>,
    /// A text that no other pool has. It stays the same, so that statements with it are prepared once.
    mark: Uuid,
}

impl<DB: Driver> OwnPool<DB> {
    /// Each session begins with these statements. Connects when it is used.
    pub(crate) fn new(caller: &Pool<DB>, session: &'static [&'static str]) -> Self {
        Self {
            caller: caller.clone(),
            session,
            connections: CONNECTIONS,
            pool: Mutex::default(),
            mark: Uuid::now_v7(),
        }
    }

    /// With so many connections.
    pub(crate) fn of(mut self, connections: u32) -> Self {
        self.connections = connections;
        self
    }

    /// The pool in use.
    pub(crate) fn get(&self) -> Pool<DB> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let pool =
            pool.get_or_insert_with(|| DB::own_pool(&self.caller, self.connections, self.session));
        pool.clone()
    }

    /// A text that no other pool has.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(crate) fn mark(&self) -> Uuid {
        self.mark
    }

    /// Where the database is, without a password.
    pub(crate) fn place(&self) -> String {
        DB::place(&self.caller)
    }

    /// Does some work on the pool. If it is not over in time, or if it is dropped, the pool is left.
    pub(crate) async fn in_time<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = DbResult<T>>,
    ) -> DbResult<T> {
        let mut leaves = Leaves { pool: Some(self) };
        let silent = format!("the database did not answer within {limit:?}");
        let done = timeout(limit, work).await.unwrap_or_else(|_| {
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, silent).into())
        });
        let is_left = match &done {
            Err(sqlx::Error::PoolTimedOut) => true,
            Err(sqlx::Error::Io(error)) => error.kind() == std::io::ErrorKind::TimedOut,
            _ => false,
        };
        if !is_left {
            leaves.pool = None;
        }
        done
    }

    fn leave(&self) {
        *self.pool.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Leaves a pool when it is dropped.
struct Leaves<'p, DB: Driver> {
    pool: Option<&'p OwnPool<DB>>,
}

impl<DB: Driver> Drop for Leaves<'_, DB> {
    fn drop(&mut self) {
        if let Some(pool) = self.pool {
            pool.leave();
        }
    }
}

impl<DB: Driver> fmt::Debug for OwnPool<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnPool").field(&self.place()).finish()
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use std::{future, sync::Arc};

    use sqlx::{Sqlite, SqlitePool};

    use super::*;

    #[tokio::test]
    async fn a_pool_is_left_by_what_takes_too_long_and_by_what_is_given_up() {
        // Nothing connects to it.
        let caller = SqlitePool::connect_lazy("sqlite:nothing.db").unwrap();
        let own = OwnPool::<Sqlite>::new(&caller, &[]);
        let silent = || future::pending::<DbResult<()>>();
        let is_kept = async |work: futures::future::BoxFuture<'_, ()>| {
            let before = own.get();
            work.await;
            Arc::ptr_eq(&before.connect_options(), &own.get().connect_options())
        };
        let (long, short) = (Duration::from_secs(600), Duration::from_millis(10));
        let done = async { drop(own.in_time(long, async { Ok(()) }).await) };
        assert!(is_kept(Box::pin(done)).await);
        let slow = async { drop(own.in_time(short, silent()).await) };
        assert!(!is_kept(Box::pin(slow)).await);
        let given_up = async { drop(timeout(short, own.in_time(long, silent())).await) };
        assert!(!is_kept(Box::pin(given_up)).await);
        let none = async { Err::<(), _>(sqlx::Error::PoolTimedOut) };
        let empty = async { drop(own.in_time(long, none).await) };
        assert!(!is_kept(Box::pin(empty)).await);
    }
}
