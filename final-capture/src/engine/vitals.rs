//! What a capture knows of itself while it runs.
//!
//! Input: steps of the engine and the target. State: counts, the position, what is wrong now. Output: copies of it, and
//! a notice of each change of the state and of the position.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::watch, time::Instant};

use crate::{
    capture::{CaptureState, StopReason},
    position::Position,
    source::SourceLag,
    target::{Lot, Mark},
};

/// How many lots in hand are remembered with their time.
const LOTS: usize = 64;

/// What a capture knows of itself.
#[derive(Debug)]
pub(crate) struct Vitals {
    state: watch::Sender<CaptureState>,
    /// What is saved.
    position: watch::Sender<Option<Position>>,
    /// Until when the lease is surely ours.
    lease_end: watch::Sender<Option<Instant>>,
    numbers: Mutex<Numbers>,
}

/// Counts, and what is wrong now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) rows: u64,
    pub(crate) messages: u64,
    pub(crate) transactions: u64,
    pub(crate) schema_changes: u64,
    /// Messages that were refused and parked by this process, and those behind them.
    pub(crate) parked_total: u64,
    /// Messages that are parked now.
    pub(crate) parked: u64,
    /// Messages that are not proven yet.
    pub(crate) in_hand: u64,
    pub(crate) epoch: i64,
    pub(crate) reconnects: u64,
    /// Messages that were sent again.
    pub(crate) sent_again: u64,
    pub(crate) source_lag: SourceLag,
    pub(crate) source_trouble: Option<String>,
    pub(crate) target_trouble: Option<String>,
    /// When the last transaction that is done was committed, and when it was done.
    pub(crate) last_done: Option<(i64, SystemTime)>,
    /// Since when lots are in hand, the oldest first: when they were read, and how many.
    pub(crate) since: VecDeque<(Instant, u64)>,
}

impl Vitals {
    pub(crate) fn new() -> Self {
        Self {
            state: watch::Sender::new(CaptureState::Standby),
            position: watch::Sender::new(None),
            lease_end: watch::Sender::new(None),
            numbers: Mutex::default(),
        }
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn copy(&self) -> Numbers {
        self.numbers().clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Numbers)) {
        change(&mut self.numbers());
    }

    pub(crate) fn state(&self) -> watch::Receiver<CaptureState> {
        self.state.subscribe()
    }

    /// Changes the state. What was stopped stays so.
    pub(crate) fn set_state(&self, state: CaptureState) {
        self.state.send_if_modified(|now| {
            let is_new = *now != state && !matches!(now, CaptureState::Stopped(_));
            if is_new {
                *now = state;
            }
            is_new
        });
    }

    pub(crate) fn stop(&self, reason: StopReason) {
        self.set_state(CaptureState::Stopped(reason));
    }

    pub(crate) fn position(&self) -> watch::Receiver<Option<Position>> {
        self.position.subscribe()
    }

    pub(crate) fn set_position(&self, position: Option<Position>) {
        self.position.send_replace(position);
    }

    pub(crate) fn renewed(&self, lease_end: Option<Instant>) {
        self.lease_end.send_replace(lease_end);
    }

    /// Whether the lease is surely ours now.
    pub(crate) fn is_leased(&self) -> bool {
        self.lease_end
            .borrow()
            .is_some_and(|end| Instant::now() < end)
    }

    /// Nothing is known to be wrong with the target. A term that begins says anew what is.
    pub(crate) fn target_answers(&self) {
        self.numbers().target_trouble = None;
    }

    /// A lot was read and goes to the target.
    pub(crate) fn read(&self, lot: &Lot) {
        let mut numbers = self.numbers();
        let messages = lot.items.len() as u64;
        numbers.rows += lot.rows;
        numbers.in_hand += messages;
        if messages > 0 {
            if numbers.since.len() < LOTS {
                numbers.since.push_back((Instant::now(), messages));
            } else if let Some((_, last)) = numbers.since.back_mut() {
                *last += messages;
            }
        }
    }

    /// So many messages are proven, parked ones included, and everything up to the mark is done.
    pub(crate) fn done(&self, messages: u64, mark: &Mark) {
        let mut numbers = self.numbers();
        numbers.messages += messages;
        numbers.in_hand = numbers.in_hand.saturating_sub(messages);
        let mut left = messages;
        while let Some((_, first)) = numbers.since.front_mut() {
            if *first > left {
                *first -= left;
                break;
            }
            left -= *first;
            numbers.since.pop_front();
        }
        if let Some(at) = mark.at
            && messages > 0
        {
            numbers.last_done = Some((at, SystemTime::now()));
        }
    }

    /// Nothing is in hand any more: what was not proven is read again.
    pub(crate) fn forget_in_hand(&self) {
        let mut numbers = self.numbers();
        numbers.in_hand = 0;
        numbers.since.clear();
    }
}

impl Numbers {
    /// How long the oldest message has been in hand.
    pub(crate) fn oldest_unsent(&self) -> Option<Duration> {
        self.since.front().map(|(since, _)| since.elapsed())
    }

    /// How long after its commit the last transaction that is done was done.
    pub(crate) fn lag(&self) -> Option<Duration> {
        let (at, done) = self.last_done?;
        let at = UNIX_EPOCH.checked_add(Duration::from_micros(u64::try_from(at).ok()?))?;
        Some(done.duration_since(at).unwrap_or_default())
    }
}
