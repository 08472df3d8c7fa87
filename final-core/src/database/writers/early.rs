//! Work that a writer begins before its turn: it takes a connection from the pool.
//!
//! Input: the work, and the pool that it takes a connection from. State: how far it has come. Output: what it gives.
//!
//! Taking a connection costs a way to its thread and back. The lock would lie idle for as long if a writer did that in
//! its turn. So the first in line does it while the writer before still has the lock.
//!
//! ```text
//!   new ── first in line, the pool has room ──▶ begun ── turn ──▶ awaited
//!    └── turn ──▶ the writer does the work by itself
//! ```

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use sqlx::{Database, Pool};

/// Work that may be begun before its turn. It does not wait for the lock.
pub(crate) struct Early<DB: Database, T> {
    pool: Pool<DB>,
    make: Make<DB, T>,
    begun: Option<Begun<T>>,
}

/// Makes the work. None if it is not to be done early.
type Make<DB, T> = fn(Pool<DB>) -> Option<BoxFuture<'static, T>>;

/// Work that was begun.
pub(crate) struct Begun<T> {
    work: BoxFuture<'static, T>,
    done: Option<T>,
}

/// What the first in line does while it waits.
pub(crate) trait Ahead: Send {
    /// Goes on with the work. Whether it was begun.
    fn go_on(&mut self, cx: &mut Context<'_>) -> bool;
}

impl<DB: Database, T> Early<DB, T> {
    pub(crate) fn new(pool: &Pool<DB>, make: Make<DB, T>) -> Self {
        Self {
            pool: pool.clone(),
            make,
            begun: None,
        }
    }

    /// The work, if it was begun.
    pub(crate) fn begun(self) -> Option<Begun<T>> {
        self.begun
    }

    /// Readers need connections as well, so half of the pool stays theirs.
    fn may_begin(&self) -> bool {
        let idle = u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX);
        let busy = self.pool.size().saturating_sub(idle);
        busy < self.pool.options().get_max_connections() / 2
    }
}

impl<DB: Database, T: Send> Ahead for Early<DB, T> {
    fn go_on(&mut self, cx: &mut Context<'_>) -> bool {
        if self.begun.is_none() && self.may_begin() {
            let work = (self.make)(self.pool.clone());
            self.begun = work.map(|work| Begun { work, done: None });
        }
        let Some(begun) = &mut self.begun else {
            return false;
        };
        if begun.done.is_none()
            && let Poll::Ready(done) = begun.work.as_mut().poll(cx)
        {
            begun.done = Some(done);
        }
        true
    }
}

/// Nothing to do before the turn.
impl Ahead for () {
    fn go_on(&mut self, _: &mut Context<'_>) -> bool {
        false
    }
}

/// Nothing in it is pinned but the work, which is in a box.
impl<T> Unpin for Begun<T> {}

impl<T> Future for Begun<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match self.done.take() {
            Some(done) => Poll::Ready(done),
            None => self.work.as_mut().poll(cx),
        }
    }
}
