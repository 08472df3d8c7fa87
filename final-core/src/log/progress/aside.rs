//! Messages that could not be put away, whatever was tried: they stay open, and are tried again.

use std::time::{Duration, Instant};

use crate::log::tables::{extras::Extra, lanes::LaneId};
use crate::runtime::backoff::Backoff;

/// The pauses of a message that is set aside.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// How many are tried again at once.
const AT_ONCE: usize = 50;

/// What is set aside.
#[derive(Debug, Default)]
pub(crate) struct Aside(Vec<Waiting>);

/// One message that is set aside.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) lane: LaneId,
    pub(crate) extra: Extra,
    /// How often it was refused.
    refusals: u32,
    at: Instant,
}

impl Waiting {
    pub(crate) fn new(lane: LaneId, extra: Extra) -> Self {
        Self {
            lane,
            extra,
            refusals: 0,
            at: Instant::now(),
        }
    }

    pub(crate) fn is_new(&self) -> bool {
        self.refusals == 0
    }
}

impl Aside {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes one that was refused.
    pub(crate) fn refused(&mut self, mut waiting: Waiting) {
        waiting.refusals = waiting.refusals.saturating_add(1);
        waiting.at = Instant::now() + PAUSES.pause(waiting.refusals);
        self.0.push(waiting);
    }

    /// Takes one that was not tried.
    pub(crate) fn untried(&mut self, waiting: Waiting) {
        self.0.push(waiting);
    }

    /// Some of those that are to be tried again now, the longest waiting first.
    pub(crate) fn take_due(&mut self) -> Vec<Waiting> {
        let now = Instant::now();
        self.0.sort_by_key(|waiting| waiting.at);
        let due = self.0.partition_point(|waiting| waiting.at <= now);
        self.0.drain(..due.min(AT_ONCE)).collect()
    }

    /// Those that meet a condition.
    pub(crate) fn take_if(&mut self, mut is_meant: impl FnMut(LaneId) -> bool) -> Vec<Waiting> {
        self.0
            .extract_if(.., |waiting| is_meant(waiting.lane))
            .collect()
    }

    /// When one is to be tried again.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().map(|waiting| waiting.at).min()
    }
}
