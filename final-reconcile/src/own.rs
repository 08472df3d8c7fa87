//! A pool of our own that can be left.
//!
//! Input: the caller's pool, and how a session begins. State: the pool in use. Output: connections.
//!
//! sqlx keeps the connection of an abandoned statement, and its place in the pool, until the server gives a sign of life.
//! So after a statement without an answer the whole pool is left, and the next statement connects anew.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use final_core::database::{DbResult, Driver};
use sqlx::Pool;
use tokio::time::timeout;

/// How many connections a pool has.
const CONNECTIONS: u32 = 2;

/// A pool of our own.
pub(crate) struct OwnPool<DB: Driver> {
    caller: Pool<DB>,
    session: &'static [&'static str],
    connections: u32,
    pool: Mutex<Option<Pool<DB>>>,
}

impl<DB: Driver> OwnPool<DB> {
    /// Each session begins with these statements. Connects when it is used.
    pub(crate) fn new(caller: &Pool<DB>, session: &'static [&'static str]) -> Self {
        Self {
            caller: caller.clone(),
            session,
            connections: CONNECTIONS,
            pool: Mutex::default(),
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

    /// Where the database is, without a password.
    pub(crate) fn place(&self) -> String {
        DB::place(&self.caller)
    }

    /// Does some work on the pool. If it is not over in time, the pool is left.
    pub(crate) async fn in_time<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = DbResult<T>>,
    ) -> DbResult<T> {
        if let Ok(done) = timeout(limit, work).await {
            return done;
        }
        *self.pool.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let silent = format!("the database did not answer within {limit:?}");
        Err(std::io::Error::new(std::io::ErrorKind::TimedOut, silent).into())
    }
}

impl<DB: Driver> fmt::Debug for OwnPool<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnPool").field(&self.place()).finish()
    }
}
