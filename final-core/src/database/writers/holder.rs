//! Who has SQLite's lock, as far as the process knows, and how long the first in line waits for that one.
//!
//! Input: beginnings and ends. Output: how long to wait, and whether a caller may begin before the first in line; the
//! first in line hears of each end.

use std::{sync::Mutex, time::Duration};

use tokio::{sync::Notify, time::Instant};

use crate::lock::lock;

/// How long the first in line waits until the bus takes over a transaction that its caller has.
///
/// SQLite asks for the lock after pauses that soon are longer than a transaction, and nobody else asks meanwhile.
pub(super) const LOOSE: Duration = Duration::from_millis(100);

/// The same, where the bus did not see the end of the one before.
pub(super) const UNSEEN: Duration = Duration::from_millis(2);

/// How long the first in line waits for the end of a transaction whose end the bus sees.
pub(super) const IN_HAND: Duration = Duration::from_secs(1);

/// How many callers that come when the lock is free may begin before a first in line that has no connection yet.
///
/// A task that runs takes a connection at once. If each writer had to wake before that, the lock would lie idle for as
/// long as the machine takes for that, after each transaction.
pub(super) const OVERTAKE: u32 = 4;

/// SQLite's lock of one database, as the process sees it.
#[derive(Debug)]
pub(super) struct SeenLock {
    pub(super) state: Mutex<LineState>,
    /// Tells of ends.
    pub(super) freed: Notify,
}

impl SeenLock {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(LineState::new()),
            freed: Notify::new(),
        }
    }

    /// Somebody has begun.
    pub(super) fn hold(&self, holder: Holder) {
        let mut state = lock(&self.state);
        state.holder = holder;
        state.moves += 1;
    }

    /// The one who had it has ended.
    pub(super) fn end(&self) {
        self.hold(Holder::None);
        self.freed.notify_waiters();
    }
}

#[derive(Debug)]
pub(super) struct LineState {
    pub(super) holder: Holder,
    /// Whether the bus saw the end of the last transaction that a caller had. A service ends all in one way, mostly.
    ends_are_seen: bool,
    /// Whether the first in line has all that it needs to begin.
    pub(super) first_is_ready: bool,
    /// How many have begun before the first in line.
    pub(super) overtaken: u32,
    /// Counts each begin and end.
    pub(super) moves: u64,
}

/// Who has SQLite's lock, as far as the process knows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Holder {
    None,
    /// A transaction that its caller has, and may end by sqlx.
    Loose(Instant),
    /// A writer that has its turn, or a transaction whose end drops a [`Writing`].
    InHand(Instant),
}

impl LineState {
    pub(super) const fn new() -> Self {
        Self {
            holder: Holder::None,
            ends_are_seen: true,
            first_is_ready: false,
            overtaken: 0,
            moves: 0,
        }
    }

    /// Makes a caller the holder before the first in line, which was told of the end and has not begun.
    pub(super) fn overtake(&mut self) -> bool {
        let may = matches!(self.holder, Holder::None)
            && !self.first_is_ready
            && self.overtaken < OVERTAKE;
        if may {
            self.overtaken += 1;
            self.holder = Holder::InHand(Instant::now());
        }
        may
    }

    pub(super) fn take_over(&mut self) {
        if matches!(self.holder, Holder::Loose(_)) {
            self.holder = Holder::InHand(Instant::now());
            self.ends_are_seen = true;
        }
    }

    /// How long the first in line still waits for the holder.
    pub(super) fn left(&mut self) -> Duration {
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
