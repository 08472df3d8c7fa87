//! A pool of our own, which is left for a new one when its connections are of no more use.
//!
//! Input: the caller's pool, and how the work on our connections ends. State: the pool as it is now, and those that
//! were left. Output: a pool to the server that the caller's pool connects to now.
//!
//! ```text
//!   get ─▶ pool ─┬─ the caller's connect options have changed ─┐
//!                ├─ the server takes no writes ────────────────┼─▶ left: idle connections are closed, the others
//!                └─ a statement is not answered in time ───────┘   when they come back ─▶ a new pool
//! ```
//!
//! A server whose machine is gone closes no connection, and what it was asked it never answers. Of a
//! statement that is given up sqlx keeps the connection, and asks it for a sign of life before it can be
//! borrowed again: that is waited for as long, and its place in the pool is not free. So such a pool is
//! left. Its silent connections stay open until they answer or the system gives them up, and they are counted: while
//! there are too many, the next pool is left only after a pause that doubles each time.

use std::{
    fmt::Display,
    io,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::{BoxFuture, join_all};
use sqlx::{
    ConnectOptions as _, Connection, Database, Pool, SqlStr, Transaction, pool::PoolOptions,
};
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

use super::{DbResult, Driver, FromRow, Value, Writers, owned::owned};
use crate::{lock::lock, runtime::counter::Counter};

/// How long the database may take to answer a statement. It gives up waiting for a lock in less, so that what
/// was asked in vain does not pile up there.
pub const ANSWER: Duration = Duration::from_secs(15);

/// How long the server counts at most: less than [`ANSWER`], so that it has ended before it is given up here.
const COUNT: Duration = Duration::from_secs(12);

/// How long a statement may take that makes a table, or that waits for another instance's lock.
pub(crate) const MIGRATION: Duration =
    Duration::from_secs(super::LOCK_SECONDS as u64).saturating_add(ANSWER);

/// How long a connection may be idle before it is asked for a sign of life when it is borrowed. Under load none is.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
const IDLE: Duration = Duration::from_secs(5);

/// How long that sign may take.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(crate) const PING: Duration = Duration::from_secs(1);

/// How long saying goodbye may take, to all connections together.
pub(crate) const GOODBYE: Duration = Duration::from_secs(2);

/// The error of what was not answered.
pub(crate) fn no_answer(limit: Duration) -> sqlx::Error {
    timed_out(format!("the database did not answer within {limit:?}"))
}

fn timed_out(what: String) -> sqlx::Error {
    io::Error::new(io::ErrorKind::TimedOut, what).into()
}

/// Whether the database did not answer in time. It may still be at it.
pub(crate) fn is_silence(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut)
}

/// The cause of an error that says that a COMMIT was not answered.
#[derive(Debug, thiserror::Error)]
#[error(
    "the database did not answer COMMIT within {ANSWER:?}, so it is not known whether that took place"
)]
struct UnknownCommit;

/// The error of a COMMIT that was not answered.
pub(crate) fn unknown_commit() -> sqlx::Error {
    io::Error::new(io::ErrorKind::TimedOut, UnknownCommit).into()
}

/// Whether a COMMIT was not answered, so that it may have taken place.
pub(crate) fn is_unknown_commit(error: &sqlx::Error) -> bool {
    let cause = match error {
        sqlx::Error::Io(error) => error.get_ref(),
        _ => None,
    };
    cause.is_some_and(|cause| cause.is::<UnknownCommit>())
}

/// Makes a pool of our own, with the caller's pool options, that connects with `connect`. Each connection is prepared
/// by `prepare`.
///
/// The caller's hooks are for the caller's sessions: a hook that resets the session would undo our settings.
///
/// A server, a proxy or a firewall ends connections that are quiet for long. That is no failure: another connection is
/// borrowed then, or made. A connection that shows no sign of life is replaced in its place and not handed back to
/// sqlx to be closed: over TLS sqlx waits for the server's answer to its goodbye, until the caller of the pool gives
/// up.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(super) fn own_pool<DB: Database>(
    caller: PoolOptions<DB>,
    connections: u32,
    connect: ConnectOptions<DB>,
    prepare: impl Prepare<DB>,
) -> Pool<DB> {
    let (reconnect, again) = (Arc::new(connect.clone()), prepare.clone());
    caller
        .max_connections(connections)
        .min_connections(0)
        .test_before_acquire(false)
        .after_connect(move |conn, _| prepare(conn))
        .before_acquire(move |conn, meta| {
            let (reconnect, prepare) = (Arc::clone(&reconnect), again.clone());
            Box::pin(async move {
                let asks = meta.idle_for >= IDLE;
                if asks && !matches!(timeout(PING, conn.ping()).await, Ok(Ok(()))) {
                    let mut other = reconnect.connect().await?;
                    prepare(&mut other).await?;
                    // Dropping the silent one closes its socket without a word.
                    *conn = other;
                }
                Ok(true)
            })
        })
        .after_release(|_, _| Box::pin(async { Ok(true) }))
        .connect_lazy_with(connect)
}

/// Sets up the session of a connection.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub(super) trait Prepare<DB: Database>:
    Fn(&mut DB::Connection) -> BoxFuture<'_, DbResult<()>> + Clone + Send + Sync + 'static
{
}

#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
impl<DB: Database, F> Prepare<DB> for F where
    F: Fn(&mut DB::Connection) -> BoxFuture<'_, DbResult<()>> + Clone + Send + Sync + 'static
{
}

/// How long a pool is kept at least before it is left because its server takes no writes. If the next connection
/// reaches the same server, this is the pause between two tries.
const YOUNG: Duration = Duration::from_secs(1);

/// How long silent connections count. The system gives them up after a quarter of an hour or so, unless something
/// between the server and us keeps them open for good.
const COUNTED: Duration = Duration::from_secs(3600);

/// The longest pause between two pools that are left although too many silent connections are open.
const LONGEST_PAUSE: Duration = Duration::from_secs(900);

/// How often it is logged that a server takes no writes.
const TOLD_EVERY: Duration = Duration::from_secs(60);

type ConnectOptions<DB> = <<DB as Database>::Connection as Connection>::Options;

/// The part of the bus that a pool belongs to. Its events have the target of that part.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PoolOwner {
    Outbox,
    Log,
}

pub(crate) struct RenewablePool<DB: Driver> {
    caller: Pool<DB>,
    owner: PoolOwner,
    make: fn(&Pool<DB>) -> Pool<DB>,
    pools: Mutex<Pools<DB>>,
    /// How many pools were left.
    times_left: watch::Sender<u64>,
    read_only: AtomicBool,
    /// Statements that were not answered in time.
    give_ups: Arc<Counter>,
    writers: OnceLock<Writers>,
    /// One count at a time, so that counts never have more than one connection.
    counting: Arc<Semaphore>,
    /// How long the server counts at most.
    count: Duration,
}

struct Pools<DB: Driver> {
    /// Made late, because a pool can only be made inside a runtime.
    now: Option<Made<DB>>,
    left: Vec<Left<DB>>,
    /// When it was logged last that the server takes no writes.
    told_at: Option<Instant>,
}

struct Made<DB: Driver> {
    pool: Pool<DB>,
    /// The caller's connect options that it was made with.
    options: Arc<ConnectOptions<DB>>,
    at: Instant,
    /// Whether it did not answer and could not be left yet. All its connections may be silent.
    is_silent: bool,
}

/// A pool that was left and still has connections.
struct Left<DB: Driver> {
    pool: Pool<DB>,
    at: Instant,
}

impl<DB: Driver> Pools<DB> {
    /// How many connections are open that were left. `None` if another pool may be left whatever they are.
    fn open_unless_paused(&self) -> Option<u32> {
        let last = self.left.last()?;
        let doublings = u32::try_from(self.left.len()).unwrap_or(u32::MAX).min(16);
        let pause = (ANSWER / 4 * 2_u32.pow(doublings)).min(LONGEST_PAUSE);
        let open = || self.left.iter().map(|left| left.pool.size()).sum();
        (last.at.elapsed() < pause).then(open)
    }
}

impl<DB: Driver> RenewablePool<DB> {
    /// What `make` makes of the caller's pool.
    pub(crate) fn new(caller: Pool<DB>, owner: PoolOwner, make: fn(&Pool<DB>) -> Pool<DB>) -> Self {
        Self {
            caller,
            owner,
            make,
            pools: Mutex::new(Pools {
                now: None,
                left: Vec::new(),
                told_at: None,
            }),
            times_left: watch::Sender::new(0),
            read_only: AtomicBool::new(false),
            give_ups: Arc::default(),
            writers: OnceLock::new(),
            counting: Arc::new(Semaphore::new(1)),
            count: COUNT,
        }
    }

    /// Counts together with another pool what is not answered in time.
    pub(crate) fn counting_with(mut self, other: &Self) -> Self {
        self.give_ups = Arc::clone(&other.give_ups);
        self
    }

    /// The caller's pool.
    pub(crate) fn caller(&self) -> &Pool<DB> {
        &self.caller
    }

    /// The pool as it is now. If the caller's pool has got other connect options, this is a new one: a credential
    /// that was replaced is not used again, and a server that was replaced is left.
    pub(crate) fn get(&self) -> Pool<DB> {
        let options = self.caller.connect_options();
        let mut pools = lock(&self.pools);
        pools.left.retain(counts);
        let now = pools.now.as_ref();
        let has_changed = now.is_some_and(|made| !Arc::ptr_eq(&made.options, &options));
        let is_silent = now.is_some_and(|made| made.is_silent);
        let has_left = (has_changed || is_silent) && self.leave(&mut pools);
        if has_left && has_changed {
            self.tell_of_options();
        }
        let made = pools.now.get_or_insert_with(|| Made {
            pool: (self.make)(&self.caller),
            options,
            at: Instant::now(),
            is_silent: false,
        });
        made.pool.clone()
    }

    /// The line of those that write to this database.
    pub(crate) fn writers(&self) -> &Writers {
        self.writers.get_or_init(|| DB::writers(&self.caller))
    }

    /// How many pools have been left, to watch.
    pub(crate) fn times_left(&self) -> watch::Receiver<u64> {
        self.times_left.subscribe()
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
            Ok(Err(error)) => {
                if DB::must_reconnect(&error) {
                    self.refused(began, &error);
                }
                Err(error)
            }
            Ok(done) => done,
            Err(_) => {
                self.give_ups.add(1);
                self.silent(began);
                Err(no_answer(limit))
            }
        }
    }

    /// Commits a transaction.
    ///
    /// # Errors
    ///
    /// Fails if the database does. If no answer comes, [the error says so](is_unknown_commit).
    pub(crate) async fn commit(&self, tx: Transaction<'_, DB>) -> DbResult<()> {
        let committed = self.within(ANSWER, tx.commit()).await;
        committed.map_err(|error| match is_silence(&error) {
            true => unknown_commit(),
            false => error,
        })
    }

    /// Reads rows by a statement that counts: it takes the longer, the more rows there are. The server ends it when its
    /// time is over, so the connection is of use again and the pool is not left. The next count waits for that end, also
    /// if the caller of this one has gone.
    pub(crate) async fn count<T: FromRow>(
        &self,
        sql: SqlStr,
        values: Vec<Value<'static>>,
    ) -> DbResult<Vec<T>> {
        let turn = timeout(ANSWER, Arc::clone(&self.counting).acquire_owned()).await;
        // It fails only if the semaphore is closed, and nothing closes it.
        let Ok(Ok(turn)) = turn else {
            return Err(timed_out(format!("others have counted for {ANSWER:?}")));
        };
        let pool = self.get();
        // Its own time begins once the pool has lent it a connection.
        let limit = pool.options().get_acquire_timeout().saturating_add(ANSWER);
        let counting = DB::read_within(pool, self.count, sql, values, T::COLUMNS);
        let counting = owned(async move {
            let _turn = turn;
            // A server that does not answer at all must not keep the turn. Later than the caller, who leaves the pool.
            timeout(limit.saturating_mul(2), counting)
                .await
                .unwrap_or_else(|_| Err(no_answer(limit)))
        });
        let counted = self.within(limit, counting).await;
        let rows = counted.map_err(|error| match DB::is_cut_off(&error) {
            true => timed_out(format!(
                "the database had not counted to the end after {:?} and has stopped; there are very many rows, or the \
                 server is very busy",
                self.count
            )),
            false => error,
        })?;
        rows.into_iter()
            .map(|mut row| T::from_row(&mut row))
            .collect()
    }

    /// Counts for so long at most.
    #[cfg(test)]
    pub(crate) fn count_for(&mut self, limit: Duration) {
        self.count = limit;
    }

    /// The server has said, in an answer to what was begun then, whether it takes no writes.
    pub(crate) fn found(&self, began: Instant, read_only: bool) {
        match read_only {
            true => self.refused(began, &"the server says that it is read-only"),
            false => self.read_only.store(false, Ordering::Relaxed),
        }
    }

    /// How many statements were not answered in time.
    pub(crate) fn give_ups(&self) -> u64 {
        self.give_ups.get()
    }

    /// Whether the server took no writes when that was noticed last.
    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    /// What was begun then was not answered. Where several give up together, the first leaves the pool.
    fn silent(&self, began: Instant) {
        let mut pools = lock(&self.pools);
        let began_on_it = |made: &Made<DB>| made.at <= began;
        if !pools.now.as_ref().is_some_and(began_on_it) || self.leave(&mut pools) {
            return;
        }
        if let Some(made) = &mut pools.now {
            made.is_silent = true;
        }
    }

    /// The connections were of no use for what was begun then.
    fn refused(&self, began: Instant, error: &dyn Display) {
        self.read_only.store(true, Ordering::Relaxed);
        let mut pools = lock(&self.pools);
        let is_due = |made: &Made<DB>| made.at <= began && made.at.elapsed() >= YOUNG;
        if !pools.now.as_ref().is_some_and(is_due) || !self.leave(&mut pools) {
            return;
        }
        if pools.told_at.is_none_or(|at| at.elapsed() >= TOLD_EVERY) {
            pools.told_at = Some(Instant::now());
            self.tell_of_refusal(error);
        }
    }

    /// Leaves the present pool. False if it has to be kept: it is closed, it is the caller's, or too many silent
    /// connections of others are still open and the last one was left just now.
    fn leave(&self, pools: &mut Pools<DB>) -> bool {
        if DB::lives_in_pool(&self.caller) {
            return false;
        }
        pools.left.retain(counts);
        let open = pools.open_unless_paused();
        let can_leave = |made: &mut Made<DB>| {
            let most = made.pool.options().get_max_connections();
            !made.pool.is_closed() && open.is_none_or(|open| open <= most)
        };
        let Some(made) = pools.now.take_if(can_leave) else {
            return false;
        };
        let left = Left {
            pool: made.pool,
            at: Instant::now(),
        };
        if counts(&left) {
            pools.left.push(left);
        }
        self.times_left.send_modify(|times| *times += 1);
        true
    }

    /// Closes it, and what is left of others.
    pub(crate) async fn close(&self) {
        let all: Vec<Pool<DB>> = {
            let pools = lock(&self.pools);
            let now = pools.now.as_ref().map(|made| made.pool.clone());
            let left = pools.left.iter().map(|left| left.pool.clone());
            left.chain(now).collect()
        };
        let _ = timeout(GOODBYE, join_all(all.iter().map(Pool::close))).await;
    }

    /// The place of the database, for the log: without options, in which a service may have anything.
    fn place(&self) -> String {
        let place = DB::place(&self.caller);
        place.split('?').next().unwrap_or_default().to_owned()
    }

    fn tell_of_options(&self) {
        let place = self.place();
        match self.owner {
            PoolOwner::Outbox => tracing::info!(
                target: "final::outbox", place,
                "the pool has other connect options now; connecting with these"
            ),
            PoolOwner::Log => tracing::info!(
                target: "final::log", place,
                "the pool has other connect options now; connecting with these"
            ),
        }
    }

    fn tell_of_refusal(&self, error: &dyn Display) {
        let place = self.place();
        match self.owner {
            PoolOwner::Outbox => tracing::warn!(
                target: "final::outbox", place, %error,
                "the database takes no writes on our connections; closing them and connecting again"
            ),
            PoolOwner::Log => tracing::warn!(
                target: "final::log", place, %error,
                "the database takes no writes on our connections; closing them and connecting again"
            ),
        }
    }
}

/// Closes the idle connections of a pool that was left, and says whether others are to be counted.
fn counts<DB: Driver>(left: &Left<DB>) -> bool {
    while let Some(mut idle) = left.pool.try_acquire() {
        // Politely and within 5 s, in a task of sqlx's.
        idle.close_on_drop();
    }
    left.pool.size() > 0 && left.at.elapsed() < COUNTED
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(20);

    fn pool() -> RenewablePool<sqlx::Sqlite> {
        let file = sqlx::sqlite::SqliteConnectOptions::new().filename("not-there.db");
        RenewablePool::new(Pool::connect_lazy_with(file), PoolOwner::Outbox, |caller| {
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
        pool.silent(old + LIMIT);
        let new = pool.get();
        pool.silent(old);

        new.close().await;
        assert!(pool.get().is_closed());
    }

    #[tokio::test]
    async fn other_connect_options_are_used_at_once() {
        let pool = pool();
        let before = pool.get();
        let now = pool.caller().connect_options().as_ref().clone();
        pool.caller()
            .set_connect_options(now.filename("another.db"));

        let after = pool.get();
        before.close().await;
        assert!(!after.is_closed());
        assert!(
            after
                .connect_options()
                .get_filename()
                .ends_with("another.db")
        );
    }

    #[tokio::test]
    async fn silent_connections_are_few_however_long_the_silence_lasts() {
        let file = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(crate::scratch::database())
            .create_if_missing(true);
        let caller = Pool::connect_lazy_with(file);
        let pool = RenewablePool::new(caller, PoolOwner::Outbox, |caller: &Pool<sqlx::Sqlite>| {
            let options = caller.options().clone().max_connections(2);
            options
                .acquire_timeout(LIMIT)
                .connect_lazy_with(caller.connect_options().as_ref().clone())
        });
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.extend(pool.get().acquire().await);
            pool.silent(Instant::now());
        }

        assert!((3..=6).contains(&silent.len()), "{}", silent.len());
        silent.clear();
        let answers = async {
            while pool.get().acquire().await.is_err() {
                tokio::time::sleep(LIMIT).await;
            }
        };
        timeout(Duration::from_secs(60), answers).await.unwrap();
    }
}
