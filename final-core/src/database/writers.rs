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
//! A turn comes before a connection: writers that wait hold no connection of the pool, so others can read, and the
//! writer whose turn it is can use the pool once more.

use std::{
    collections::HashMap,
    fmt,
    pin::pin,
    sync::{Arc, LazyLock, Mutex, Weak},
    time::Duration,
};

use sqlx::{Pool, Transaction};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use super::{DbResult, Driver};
use crate::lock::lock;

/// How long the first in line waits until the bus takes over a transaction that its caller has.
///
/// SQLite asks for the lock after pauses that soon are longer than a transaction, and nobody else asks meanwhile.
const LOOSE: Duration = Duration::from_millis(100);

/// The same, where the bus did not see the end of the one before.
const UNSEEN: Duration = Duration::from_millis(2);

/// How long the first in line waits for the end of a transaction whose end the bus sees.
const IN_HAND: Duration = Duration::from_secs(1);

/// After how long a caller leaves a line that does not move.
const CALLERS_PATIENCE: Duration = Duration::from_secs(5);

/// After how long a statement of ours leaves a line that does not move. Leases must be renewed in time.
const OUR_PATIENCE: Duration = Duration::from_secs(1);

/// How many callers that come when the lock is free may begin before the first in line, who first has to wake.
///
/// A task that runs begins at once. If each writer had to wake, the lock would lie idle for as long as the machine
/// takes for that, after each transaction.
const OVERTAKE: u32 = 4;

/// How long a writer asks SQLite at least, where the connection waits for the lock for less.
const ASKING: Duration = Duration::from_secs(5);

/// After how long such a writer asks again, if the bus sees no transaction end before.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// The lines of all databases that are in use.
static LINES: LazyLock<Mutex<HashMap<String, Weak<Line>>>> = LazyLock::new(Mutex::default);

/// The writers of one database. Without a line where the database lets many write at once.
#[derive(Clone, Default)]
pub struct Writers(Option<Arc<Line>>);

struct Line {
    /// Only one caller at a time stands in line together with our own statements.
    callers: Arc<Semaphore>,
    first: Arc<Semaphore>,
    state: Mutex<LineState>,
    freed: Notify,
}

#[derive(Debug)]
struct LineState {
    holder: Holder,
    /// Whether the bus saw the end of the last transaction that a caller had. A service ends all in one way, mostly.
    ends_are_seen: bool,
    /// How many have begun before the first in line.
    overtaken: u32,
    /// Counts each begin and end.
    moves: u64,
}

/// Who has SQLite's lock, as far as the process knows.
#[derive(Clone, Copy, Debug)]
enum Holder {
    None,
    /// A transaction that its caller has, and may end by sqlx.
    Loose(Instant),
    /// A writer that has its turn, or a transaction whose end drops a [`Writing`].
    InHand(Instant),
}

/// Leave to begin. Dropped without a beginning, the next writer has it.
#[must_use]
pub(crate) struct Turn {
    /// `None` once it is begun.
    line: Option<Arc<Line>>,
    /// Whether the lock was free, so that the line counts this one as the holder.
    is_holder: bool,
    _places: Places,
}

/// A writer that asks SQLite for the lock until its time is over.
pub(crate) struct Asking<'a> {
    line: Option<&'a Line>,
    until: Instant,
}

/// The places of a writer in line.
type Places = (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>);

/// A transaction that writes. Dropped when it has ended.
#[derive(Default)]
pub(crate) struct Writing(Option<Arc<Line>>);

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
        let turn = self.callers_turn().await;
        let asking = self.asking();
        loop {
            // Dropped here, it ends in a rollback on its own, and SQLite's lock makes the next writer wait for it.
            match DB::begin(pool).await {
                Ok(tx) => {
                    turn.begun_loose();
                    return Ok(tx);
                }
                Err(error) if asking.again::<DB>(&error).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A writer that begins to ask for the lock now.
    pub(crate) fn asking(&self) -> Asking<'_> {
        Asking {
            line: self.0.as_deref(),
            until: Instant::now() + ASKING,
        }
    }

    /// Waits for the turn of a caller.
    pub(crate) async fn callers_turn(&self) -> Turn {
        match &self.0 {
            // Boxed: the future of a service that has ours in it is as deep as all of them together.
            Some(line) => Box::pin(line.callers_turn()).await,
            None => Turn::free(),
        }
    }

    /// Waits for the turn of a statement of ours.
    pub(crate) async fn our_turn(&self) -> Turn {
        match &self.0 {
            Some(line) => Box::pin(line.turn(None, OUR_PATIENCE)).await,
            None => Turn::free(),
        }
    }

    /// Takes over a transaction that was begun somewhere, so that its end is seen.
    pub(crate) fn take_over(&self) -> Writing {
        if let Some(line) = &self.0 {
            lock(&line.state).take_over();
        }
        Writing(self.0.clone())
    }

    /// Tells the next writer that a transaction may have ended that only its caller had.
    pub(crate) fn may_have_ended(&self) {
        drop(self.take_over());
    }
}

impl Asking<'_> {
    /// Whether to ask again after an error, after a while.
    pub(crate) async fn again<DB: Driver>(&self, error: &sqlx::Error) -> bool {
        match self.line {
            Some(line) if DB::is_busy(error) && Instant::now() < self.until => {
                let _ = timeout(ASK_AGAIN, line.freed.notified()).await;
                true
            }
            _ => false,
        }
    }
}

impl Turn {
    const fn free() -> Self {
        Self {
            line: None,
            is_holder: false,
            _places: (None, None),
        }
    }

    /// The transaction is begun, and the bus will see its end.
    pub(crate) fn begun(mut self) -> Writing {
        let line = self.line.take();
        if let Some(line) = &line {
            line.hold(Holder::InHand(Instant::now()));
        }
        Writing(line)
    }

    /// The transaction is begun, and goes to its caller.
    fn begun_loose(mut self) {
        if let Some(line) = self.line.take() {
            line.hold(Holder::Loose(Instant::now()));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(line) = self.line.take()
            && self.is_holder
        {
            line.end();
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if let Some(line) = &self.0 {
            line.end();
        }
    }
}

impl Line {
    fn new() -> Self {
        Self {
            callers: Arc::new(Semaphore::new(1)),
            first: Arc::new(Semaphore::new(1)),
            state: Mutex::new(LineState {
                holder: Holder::None,
                ends_are_seen: true,
                overtaken: 0,
                moves: 0,
            }),
            freed: Notify::new(),
        }
    }

    async fn callers_turn(self: &Arc<Self>) -> Turn {
        if self.is_waited_in() && lock(&self.state).overtake() {
            return self.begins(true, (None, None));
        }
        match self.place(&self.callers, CALLERS_PATIENCE).await {
            Some(caller) => self.turn(Some(caller), CALLERS_PATIENCE).await,
            None => self.begins(false, (None, None)),
        }
    }

    fn is_waited_in(&self) -> bool {
        self.first.available_permits() == 0
    }

    async fn turn(
        self: &Arc<Self>,
        caller: Option<OwnedSemaphorePermit>,
        patience: Duration,
    ) -> Turn {
        let first = self.place(&self.first, patience).await;
        let is_holder = first.is_some() && self.free().await;
        self.begins(is_holder, (caller, first))
    }

    fn begins(self: &Arc<Self>, is_holder: bool, places: Places) -> Turn {
        Turn {
            line: Some(Arc::clone(self)),
            is_holder,
            _places: places,
        }
    }

    /// Waits for a place, in order. None if the line has not moved for so long.
    async fn place(
        &self,
        places: &Arc<Semaphore>,
        patience: Duration,
    ) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Some(place);
        }
        let mut place = pin!(Arc::clone(places).acquire_owned());
        let mut moves = lock(&self.state).moves;
        loop {
            if let Ok(place) = timeout(patience, &mut place).await {
                // It fails only if the semaphore is closed, and nothing closes it.
                return place.ok();
            }
            let now = lock(&self.state).moves;
            if now == moves {
                return None;
            }
            moves = now;
        }
    }

    /// Waits until the process has no transaction open, as far as it knows, and makes the first in line the holder.
    /// False if its time is over before.
    async fn free(&self) -> bool {
        loop {
            let mut freed = pin!(self.freed.notified());
            // From here on it hears of an end.
            freed.as_mut().enable();
            let left = {
                let mut state = lock(&self.state);
                if matches!(state.holder, Holder::None) {
                    state.holder = Holder::InHand(Instant::now());
                    state.overtaken = 0;
                    return true;
                }
                state.left()
            };
            if left.is_zero() {
                return false;
            }
            let _ = timeout(left, freed).await;
        }
    }

    fn hold(&self, holder: Holder) {
        let mut state = lock(&self.state);
        state.holder = holder;
        state.moves += 1;
    }

    fn end(&self) {
        self.hold(Holder::None);
        self.freed.notify_waiters();
    }
}

impl LineState {
    /// Makes a caller the holder before the first in line, which was told of the end and has not begun.
    fn overtake(&mut self) -> bool {
        let may = matches!(self.holder, Holder::None) && self.overtaken < OVERTAKE;
        if may {
            self.overtaken += 1;
            self.holder = Holder::InHand(Instant::now());
        }
        may
    }

    fn take_over(&mut self) {
        if matches!(self.holder, Holder::Loose(_)) {
            self.holder = Holder::InHand(Instant::now());
            self.ends_are_seen = true;
        }
    }

    /// How long the first in line still waits for the holder.
    fn left(&mut self) -> Duration {
        let (since, limit) = match self.holder {
            Holder::None => return Duration::ZERO,
            Holder::Loose(since) if self.ends_are_seen => (since, LOOSE),
            Holder::Loose(since) => (since, UNSEEN),
            Holder::InHand(since) => (since, IN_HAND),
        };
        let left = limit.saturating_sub(since.elapsed());
        if left.is_zero() && matches!(self.holder, Holder::Loose(_)) {
            self.ends_are_seen = false;
        }
        left
    }
}

impl fmt::Debug for Writers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writers")
    }
}

impl fmt::Debug for Writing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writing")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "a test says what it expects")]

    use futures::FutureExt;

    use super::*;

    fn writers() -> Writers {
        Writers(Some(Arc::new(Line::new())))
    }

    #[test]
    fn a_database_has_one_line_for_all_its_pools() {
        let (one, two) = (Writers::of("a".to_owned()), Writers::of("a".to_owned()));
        let other = Writers::of("b".to_owned());
        let line = |writers: &Writers| writers.0.as_ref().map(Arc::as_ptr);
        assert_eq!(line(&one), line(&two));
        assert_ne!(line(&one), line(&other));
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_writer_has_its_turn_when_the_one_before_has_ended() {
        let writers = writers();
        let writing = writers.callers_turn().await.begun();
        let mut next = pin!(writers.callers_turn());
        assert!(next.as_mut().now_or_never().is_none());
        let before = Instant::now();
        drop(writing);
        drop(next.await);
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn transactions_whose_end_is_not_seen_are_waited_for_only_a_moment() {
        let writers = writers();
        for limit in [LOOSE, UNSEEN, UNSEEN] {
            writers.callers_turn().await.begun_loose();
            let before = Instant::now();
            drop(writers.callers_turn().await);
            assert_eq!(before.elapsed(), limit);
        }
        writers.callers_turn().await.begun_loose();
        drop(writers.take_over());
        writers.callers_turn().await.begun_loose();
        let before = Instant::now();
        drop(writers.callers_turn().await);
        assert_eq!(before.elapsed(), LOOSE, "ends are seen again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_transaction_that_is_taken_over_is_waited_for() {
        let writers = writers();
        writers.callers_turn().await.begun_loose();
        let writing = writers.take_over();
        let mut next = pin!(writers.callers_turn());
        let early = timeout(IN_HAND / 2, next.as_mut()).await;
        assert!(early.is_err());
        drop(writing);
        assert!(next.now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_statement_of_ours_waits_for_one_caller_at_most() {
        let writers = writers();
        let writing = writers.callers_turn().await.begun();
        let mut first = pin!(writers.callers_turn());
        let mut second = pin!(writers.callers_turn());
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        let mut ours = pin!(writers.our_turn());
        assert!(ours.as_mut().now_or_never().is_none());

        drop(writing);
        let writing = first.await.begun();
        assert!(second.as_mut().now_or_never().is_none());
        drop(writing);
        assert!(ours.now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_in_line_is_overtaken_only_a_few_times() {
        let writers = writers();
        let writing = writers.callers_turn().await.begun();
        let mut first = pin!(writers.callers_turn());
        assert!(first.as_mut().now_or_never().is_none());
        drop(writing);
        for _ in 0..OVERTAKE {
            drop(
                writers
                    .callers_turn()
                    .now_or_never()
                    .expect("at once")
                    .begun(),
            );
        }
        let mut second = pin!(writers.callers_turn());
        assert!(second.as_mut().now_or_never().is_none());
        let turn = first.now_or_never().expect("its turn");
        assert!(second.as_mut().now_or_never().is_none());
        drop(turn);
        assert!(second.now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_does_not_move_is_left() {
        let writers = writers();
        // This one waits for a connection, for example.
        let _turn = writers.callers_turn().await;
        let before = Instant::now();
        drop(writers.our_turn().await);
        assert_eq!(before.elapsed(), OUR_PATIENCE);
        drop(writers.callers_turn().await);
        assert_eq!(before.elapsed(), OUR_PATIENCE + CALLERS_PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_moves_is_not_left() {
        let writers = writers();
        let turn = writers.callers_turn().await;
        let mut ours = pin!(writers.our_turn());
        for _ in 0..10 {
            assert!(timeout(OUR_PATIENCE / 2, ours.as_mut()).await.is_err());
            writers.may_have_ended();
        }
        drop(turn);
        assert!(ours.now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_that_is_dropped_gives_its_turn_back() {
        let writers = writers();
        let turn = writers.callers_turn().await;
        let mut waits = Box::pin(writers.callers_turn());
        assert!(waits.as_mut().now_or_never().is_none());
        drop(waits);
        drop(turn);
        assert!(writers.callers_turn().now_or_never().is_some());
    }
}
