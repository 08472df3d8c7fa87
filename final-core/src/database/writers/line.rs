//! The line of one database: callers one behind the other, and the first in line.
//!
//! Input: writers that want their turn, and what each does with it. State: the places, and who has the lock as far as
//! the process knows. Output: turns.

use std::{future::poll_fn, pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use super::{
    early::Ahead,
    holder::{Holder, SeenLock},
    turn::{Places, Turn},
};
use crate::lock::lock;

/// After how long a caller leaves a line that does not move.
pub(super) const CALLERS_PATIENCE: Duration = Duration::from_secs(5);

/// After how long a statement of ours leaves a line that does not move. Leases must be renewed in time.
pub(super) const OUR_PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Line {
    /// Only one caller at a time stands in line together with our own statements.
    callers: Arc<Semaphore>,
    first: Arc<Semaphore>,
    pub(super) lock: Arc<SeenLock>,
}

/// The first in line, as long as it waits for the lock.
struct First<'a> {
    line: &'a Line,
    is_ready: bool,
}

impl<'a> First<'a> {
    const fn new(line: &'a Line) -> Self {
        Self {
            line,
            is_ready: false,
        }
    }

    /// Whether it has a connection, so that it begins as soon as a caller could that comes when the lock is free.
    fn is_ready(&mut self, is_ready: bool) {
        if is_ready != self.is_ready {
            self.is_ready = is_ready;
            lock(&self.line.lock.state).first_is_ready = is_ready;
        }
    }
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        self.is_ready(false);
    }
}

impl Line {
    pub(super) fn new() -> Self {
        Self {
            callers: Arc::new(Semaphore::new(1)),
            first: Arc::new(Semaphore::new(1)),
            lock: Arc::new(SeenLock::new()),
        }
    }

    pub(super) async fn callers_turn(self: &Arc<Self>, ahead: &mut dyn Ahead) -> Turn {
        if self.is_waited_in() && lock(&self.lock.state).overtake() {
            return self.begins(true, (None, None));
        }
        match self.place(&self.callers, CALLERS_PATIENCE).await {
            Some(caller) => self.turn(Some(caller), CALLERS_PATIENCE, ahead).await,
            None => self.begins(false, (None, None)),
        }
    }

    fn is_waited_in(&self) -> bool {
        self.first.available_permits() == 0
    }

    pub(super) async fn turn(
        self: &Arc<Self>,
        caller: Option<OwnedSemaphorePermit>,
        patience: Duration,
        ahead: &mut dyn Ahead,
    ) -> Turn {
        let first = self.place(&self.first, patience).await;
        let is_holder = first.is_some() && self.free(ahead).await;
        self.begins(is_holder, (caller, first))
    }

    fn begins(self: &Arc<Self>, is_holder: bool, places: Places) -> Turn {
        Turn::on(Arc::clone(&self.lock), is_holder, places)
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
        let mut moves = lock(&self.lock.state).moves;
        loop {
            if let Ok(place) = timeout(patience, &mut place).await {
                // It fails only if the semaphore is closed, and nothing closes it.
                return place.ok();
            }
            let now = lock(&self.lock.state).moves;
            if now == moves {
                return None;
            }
            moves = now;
        }
    }

    /// Waits until the process has no transaction open, as far as it knows, and makes the first in line the holder.
    /// False if its time is over before.
    async fn free(&self, ahead: &mut dyn Ahead) -> bool {
        let mut first = First::new(self);
        loop {
            let mut freed = pin!(self.lock.freed.notified());
            // From here on it hears of an end.
            freed.as_mut().enable();
            let left = {
                let mut state = lock(&self.lock.state);
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
            let wait = poll_fn(|cx| {
                first.is_ready(ahead.go_on(cx));
                freed.as_mut().poll(cx)
            });
            let _ = timeout(left, wait).await;
        }
    }
}
