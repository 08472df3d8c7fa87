//! Side effects that the database refuses in every form.
//!
//! Input: a refused side effect with its lane. State: how often it was refused, and when it is tried again.
//! Output: the side effects that are due. Their messages stay open in their lanes meanwhile, so a crash or a
//! handover loses none of them, and the progress of all other messages is written.

use std::time::{Duration, Instant};

use super::{rows::LaneId, side_effect::SideEffect};
use crate::runtime::backoff::Backoff;

/// The pauses before a refused side effect is tried again.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// How many are tried again in one round.
const AT_ONCE: usize = 50;
/// With this many, nothing further is read: the progress lists the sequence number of each.
pub(crate) const MOST_ASIDE: usize = 1_000;

/// All side effects that are set aside.
#[derive(Debug, Default)]
pub(crate) struct SetAside(Vec<RefusedEffect>);

/// One side effect that is set aside.
#[derive(Debug)]
pub(crate) struct RefusedEffect {
    /// The lane of its message, which stays open there.
    pub(crate) lane: LaneId,
    /// What the database has refused.
    pub(crate) effect: SideEffect,
    /// How often it was refused. 0 if it was not tried yet.
    refusals: u32,
    /// When it is tried again.
    retry_at: Instant,
}

impl RefusedEffect {
    pub(crate) fn new(lane: LaneId, effect: SideEffect) -> Self {
        Self {
            lane,
            effect,
            refusals: 0,
            retry_at: Instant::now(),
        }
    }

    /// Whether it is refused for the first time.
    pub(crate) fn is_new(&self) -> bool {
        self.refusals == 0
    }
}

impl SetAside {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether reading has to wait until the database takes some of them.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= MOST_ASIDE
    }

    /// Keeps a side effect that was refused. The pause before it is due grows with each refusal.
    pub(crate) fn refused(&mut self, mut refused: RefusedEffect) {
        refused.refusals = refused.refusals.saturating_add(1);
        refused.retry_at = Instant::now() + PAUSES.pause(refused.refusals);
        self.0.push(refused);
    }

    /// Keeps a side effect that was not tried. It is due at once.
    pub(crate) fn untried(&mut self, refused: RefusedEffect) {
        self.0.push(refused);
    }

    /// Takes some of the due side effects, the longest waiting first.
    pub(crate) fn take_due(&mut self) -> Vec<RefusedEffect> {
        let now = Instant::now();
        self.0.sort_by_key(|refused| refused.retry_at);
        let due = self.0.partition_point(|refused| refused.retry_at <= now);
        self.0.drain(..due.min(AT_ONCE)).collect()
    }

    /// Takes the side effects whose lanes meet a condition.
    pub(crate) fn take_if(&mut self, mut meets: impl FnMut(LaneId) -> bool) -> Vec<RefusedEffect> {
        self.0
            .extract_if(.., |refused| meets(refused.lane))
            .collect()
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().map(|refused| refused.retry_at).min()
    }
}
