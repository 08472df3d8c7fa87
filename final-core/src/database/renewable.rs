//! A pool of our own that is made anew where its server says nothing any more.
//!
//! A server whose machine is gone closes no connection, and what it was asked it never answers. Of a
//! statement that is given up sqlx keeps the connection, and asks it for a sign of life before it can be
//! borrowed again: that is waited for as long, and its place in the pool is not free. So such a pool is
//! left to itself with all its connections, until the system gives them up.

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{Database, Pool, pool::PoolOptions};
use tokio::time::timeout;

use super::DbResult;

/// How long the database may take to answer a statement. It gives up waiting for a lock in less, so that what
/// was asked in vain does not pile up there.
pub(crate) const ANSWER: Duration = Duration::from_secs(15);

/// How long a statement may take that makes a table, or that waits for another instance's lock.
pub(crate) const MIGRATION: Duration =
    Duration::from_secs(super::LOCK_SECONDS as u64).saturating_add(ANSWER);

/// How long saying goodbye may take, to all connections together.
const GOODBYE: Duration = Duration::from_secs(2);

/// The error of what was not answered.
pub(crate) fn no_answer(limit: Duration) -> sqlx::Error {
    let silent = format!("the database did not answer within {limit:?}");
    io::Error::new(io::ErrorKind::TimedOut, silent).into()
}

/// The options of a pool of our own, made of the caller's.
///
/// The caller's hooks are for the caller's sessions: a hook that resets the session would undo our settings.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(super) fn own_options<DB: Database>(caller: &Pool<DB>, connections: u32) -> PoolOptions<DB> {
    caller
        .options()
        .clone()
        .max_connections(connections)
        .min_connections(0)
        .test_before_acquire(false)
        .before_acquire(|_, _| Box::pin(async { Ok(true) }))
        .after_release(|_, _| Box::pin(async { Ok(true) }))
}

pub(crate) struct RenewablePool<DB: Database> {
    caller: Pool<DB>,
    make: fn(&Pool<DB>) -> Pool<DB>,
    /// Made late, because a pool can only be made inside a runtime.
    now: Mutex<Option<Made<DB>>>,
}

struct Made<DB: Database> {
    pool: Pool<DB>,
    at: Instant,
}

impl<DB: Database> RenewablePool<DB> {
    /// What `make` makes of the caller's pool.
    pub(crate) fn new(caller: Pool<DB>, make: fn(&Pool<DB>) -> Pool<DB>) -> Self {
        Self {
            caller,
            make,
            now: Mutex::new(None),
        }
    }

    /// The caller's pool.
    pub(crate) fn caller(&self) -> &Pool<DB> {
        &self.caller
    }

    /// The pool as it is now.
    pub(crate) fn get(&self) -> Pool<DB> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let made = now.get_or_insert_with(|| Made {
            pool: (self.make)(&self.caller),
            at: Instant::now(),
        });
        made.pool.clone()
    }

    /// Does something on one of its connections. What is not answered within `limit` is an error, and
    /// the next is done by a new pool.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = DbResult<T>>,
    ) -> DbResult<T> {
        let began = Instant::now();
        // Boxed: the future of a service that has ours in it is as deep as all of them together.
        match timeout(limit, Box::pin(work)).await {
            Ok(done) => done,
            Err(_) => {
                self.leave(began);
                Err(no_answer(limit))
            }
        }
    }

    /// Leaves the pool that something was begun with. Where several give up together, the first does.
    fn leave(&self, began: Instant) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.take_if(|made| made.at <= began);
    }

    /// Closes it.
    pub(crate) async fn close(&self) {
        let now = self
            .now
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|made| made.pool.clone());
        if let Some(pool) = now {
            let _ = timeout(GOODBYE, pool.close()).await;
        }
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(20);

    fn pool() -> RenewablePool<sqlx::Sqlite> {
        let caller = Pool::connect_lazy_with(sqlx::sqlite::SqliteConnectOptions::new());
        RenewablePool::new(caller, |caller| {
            caller
                .options()
                .clone()
                .connect_lazy_with(caller.connect_options().as_ref().clone())
        })
    }

    #[tokio::test]
    async fn where_nobody_answers_the_next_is_asked_by_a_new_pool() {
        let pool = pool();
        let before = pool.get();
        let silent = std::future::pending::<DbResult<()>>();

        let error = pool.within(LIMIT, silent).await.unwrap_err();
        assert!(error.to_string().contains("did not answer"), "{error}");
        before.close().await;
        assert!(!pool.get().is_closed());
    }

    #[tokio::test]
    async fn an_answer_keeps_the_pool_whatever_it_says() {
        let pool = pool();
        let before = pool.get();
        let refused = async { Err::<(), _>(sqlx::Error::RowNotFound) };

        pool.within(LIMIT, refused).await.unwrap_err();
        before.close().await;
        assert!(pool.get().is_closed());
    }

    #[tokio::test]
    async fn several_that_give_up_together_leave_one_pool() {
        let pool = pool();
        let old = Instant::now();
        pool.get();
        pool.leave(old + LIMIT);
        let new = pool.get();
        pool.leave(old);

        new.close().await;
        assert!(pool.get().is_closed());
    }
}
