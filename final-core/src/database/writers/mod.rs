//! The writers of one SQLite database in this process, one after the other.
//!
//! SQLite has one writer at a time. A writer that finds the lock taken asks again after growing pauses. If many
//! writers ask, one of them can miss every moment in which the lock is free, and it gives up after its 5 s. So the
//! writers of a process stand in a line, and only the first of them asks SQLite.
//!
//! Input: a writer that wants to begin, and the end of each transaction that the bus sees. State: one line for each
//! database, shared by all buses and pools of the process. Output: a [`Turn`] to begin, and [`Writing`], which tells
//! the next writer when it is dropped.
//!
//! ```text
//!   wants to write ─ callers one behind the other ─▶ first in line ─ lock is free ─▶ Turn ─ begun ─▶ Writing
//!                    (ours need not wait for them)       │   ▲                                        │ dropped
//!                     the line does not move ────────────┤   └──────────────── freed ─────────────────┘
//!                                                        ▼
//!                                                   asks SQLite anyway
//! ```
//!
//! The line is a courtesy; SQLite's lock decides. A writer that uses sqlx alone, or another process, does not stand in
//! it. The end of a transaction that [`Bus::begin`](crate::Bus::begin) gave and sqlx ended is not seen either. So each
//! wait has a limit, and after it the writer asks SQLite, which waits for its own time.
//!
//! A turn comes before a connection: writers that wait hold no connection of the pool, so others can read. Only the
//! first in line takes one before its turn ([`Early`]), and only while less than half of the pool is in use. It begins a
//! deferred transaction on it, which takes no lock, and in its turn it needs one way to the connection's thread and back.

mod asking;
mod early;
mod holder;
mod line;
#[cfg(test)]
mod tests;
mod turn;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock, Mutex, Weak},
};

use sqlx::{Pool, Transaction};

pub(crate) use self::early::{Ahead, Early};
pub(crate) use self::turn::{Turn, Writing};
use self::{
    asking::Asking,
    line::{Line, OUR_PATIENCE},
};
use super::{DbResult, Driver};
use crate::lock::lock;

/// The lines of all databases that are in use.
static LINES: LazyLock<Mutex<HashMap<String, Weak<Line>>>> = LazyLock::new(Mutex::default);

/// The writers of one database. Without a line where the database lets many write at once.
#[derive(Clone, Default)]
pub struct Writers(Option<Arc<Line>>);

impl Writers {
    /// The line of the database of this name: the same for every caller in the process.
    #[cfg_attr(not(feature = "sqlite"), allow(dead_code))]
    pub(crate) fn of(name: String) -> Self {
        let mut lines = lock(&LINES);
        lines.retain(|_, line| line.strong_count() > 0);
        if let Some(line) = lines.get(&name).and_then(Weak::upgrade) {
            return Self(Some(line));
        }
        let line = Arc::new(Line::new());
        lines.insert(name, Arc::downgrade(&line));
        Self(Some(line))
    }

    /// Begins a transaction of a caller, in its turn.
    pub(crate) async fn begin<DB: Driver>(
        &self,
        pool: &Pool<DB>,
    ) -> DbResult<Transaction<'static, DB>> {
        let mut early = Early::new(pool, DB::begin_early);
        let turn = self.callers_turn(&mut early).await;
        let asking = self.asking();
        let mut begun = match early.begun() {
            None => DB::begin(pool).await,
            Some(early) => match early.await {
                Ok(tx) => DB::take_lock(tx).await,
                // It may have failed long ago.
                Err(_) => DB::begin(pool).await,
            },
        };
        loop {
            // Dropped here, it ends in a rollback on its own, and SQLite's lock makes the next writer wait for it.
            match begun {
                Ok(tx) => {
                    turn.begun_loose();
                    return Ok(tx);
                }
                Err(error) if asking.again::<DB>(&error).await => begun = DB::begin(pool).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// A writer that begins to ask for the lock now.
    pub(crate) fn asking(&self) -> Asking<'_> {
        Asking::from_now(self.0.as_deref())
    }

    /// Waits for the turn of a caller.
    pub(crate) async fn callers_turn(&self, ahead: &mut dyn Ahead) -> Turn {
        match &self.0 {
            // Boxed: the future of a service that has ours in it is as deep as all of them together.
            Some(line) => Box::pin(line.callers_turn(ahead)).await,
            None => Turn::free(),
        }
    }

    /// Waits for the turn of a statement of ours.
    pub(crate) async fn our_turn(&self, ahead: &mut dyn Ahead) -> Turn {
        match &self.0 {
            Some(line) => Box::pin(line.turn(None, OUR_PATIENCE, ahead)).await,
            None => Turn::free(),
        }
    }

    /// Takes over a transaction that was begun somewhere, so that its end is seen.
    pub(crate) fn take_over(&self) -> Writing {
        let seen = self.0.as_ref().map(|line| Arc::clone(&line.lock));
        if let Some(seen) = &seen {
            lock(&seen.state).take_over();
        }
        Writing::on(seen)
    }

    /// Tells the next writer that a transaction may have ended that only its caller had.
    pub(crate) fn may_have_ended(&self) {
        drop(self.take_over());
    }
}

impl fmt::Debug for Writers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writers")
    }
}
