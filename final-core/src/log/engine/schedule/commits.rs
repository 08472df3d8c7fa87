//! When the progress is written.
//!
//! Input: settlements and other changes, and the results of commits. State: since when something has changed, and
//! the pause after a failure. Output: whether a commit is due, and whether it includes lanes that only lag.
//!
//! A commit is due
//! - `commit_within` after the first change, or at once after `commit_after` settlements, or if something waits for it;
//! - when a refused side effect is to be tried again;
//! - every second while a lane lags: nothing of it was settled, but its stream was read further. Until then such
//!   a lane costs no write. A commit that includes them is a full one;
//! - in no case before the pause after a failure is over.

use std::time::{Duration, Instant};

use super::PAUSES;
use crate::log::tuning::Tuning;

/// How long lanes without changes may lag behind their stream.
const LAG: Duration = Duration::from_secs(1);

/// Since when something waits to be written, and from when on it may be.
///
/// ```text
///   nothing to write ── changed, settled ──▶ waits ── within or after is reached ──▶ due ── committed ──▶ nothing
///                                              ▲                                      │
///                                              └──────── failed: a pause ─────────────┘
/// ```
#[derive(Debug)]
pub(in crate::log::engine) struct Commits {
    /// After how many settlements a commit is due: `commit_after`.
    after: usize,
    /// How long a change may wait: `commit_within`.
    within: Duration,
    /// Since when something is to be written.
    changed_at: Option<Instant>,
    /// Whether something waits for the next commit.
    at_once: bool,
    /// Messages settled since the last commit.
    settled: usize,
    /// When lanes that only lag were written.
    full_at: Instant,
    /// The end of the pause after a failure.
    not_before: Instant,
    /// Commits that have failed, in a row.
    failures: u32,
}

impl Commits {
    pub(super) fn new(tuning: &Tuning, now: Instant) -> Self {
        Self {
            after: tuning.commit_after,
            within: tuning.commit_within,
            changed_at: None,
            at_once: false,
            settled: 0,
            full_at: now,
            not_before: now,
            failures: 0,
        }
    }

    /// There is something to write. The clock is asked for the first change only: there is one for each message.
    pub(in crate::log::engine) fn changed(&mut self, now: impl FnOnce() -> Instant) {
        self.changed_at.get_or_insert_with(now);
    }

    /// There is something to write, and something else waits for that.
    pub(in crate::log::engine) fn at_once(&mut self, now: impl FnOnce() -> Instant) {
        self.at_once = true;
        self.changed(now);
    }

    /// A message was settled.
    pub(in crate::log::engine) fn settled(&mut self, now: impl FnOnce() -> Instant) {
        self.settled += 1;
        self.changed(now);
    }

    /// Whether anything is to be written.
    pub(in crate::log::engine) fn has_changed(&self) -> bool {
        self.changed_at.is_some()
    }

    /// Whether changes have waited for long enough.
    pub(in crate::log::engine) fn changes_are_due(&self, now: Instant) -> bool {
        self.changes_due_at().is_some_and(|due| due <= now)
    }

    fn changes_due_at(&self) -> Option<Instant> {
        let within = match self.at_once {
            true => Duration::ZERO,
            false => self.within,
        };
        self.changed_at.map(|since| since + within)
    }

    /// Whether a commit is due. `lags` is asked last, because the answer takes a walk over all lanes.
    pub(in crate::log::engine) fn is_due(
        &self,
        now: Instant,
        retry_at: Option<Instant>,
        lags: impl FnOnce() -> bool,
    ) -> bool {
        now >= self.not_before
            && (self.settled >= self.after
                || self.changes_are_due(now)
                || retry_at.is_some_and(|at| at <= now)
                || self.full_is_due(now) && lags())
    }

    /// Whether a commit that is made now includes lanes that only lag.
    pub(in crate::log::engine) fn full_is_due(&self, now: Instant) -> bool {
        now >= self.full_at + LAG
    }

    /// A full commit is made.
    pub(in crate::log::engine) fn begin_full(&mut self, now: Instant) {
        self.full_at = now;
    }

    /// The database has answered a commit, whatever it said.
    pub(in crate::log::engine) fn answered(&mut self) {
        self.failures = 0;
    }

    /// Everything is written.
    pub(in crate::log::engine) fn committed(&mut self) {
        (self.settled, self.changed_at, self.at_once) = (0, None, false);
    }

    /// A commit has failed. Returns how many have failed in a row.
    pub(in crate::log::engine) fn failed(&mut self, now: Instant) -> u32 {
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + PAUSES.pause(self.failures);
        self.failures
    }

    /// When the next commit is due. `None` if there is nothing to write.
    pub(super) fn next(&self, retry_at: Option<Instant>, lags: bool) -> Option<Instant> {
        let full = lags.then(|| self.full_at + LAG);
        let due = [self.changes_due_at(), full, retry_at]
            .into_iter()
            .flatten()
            .min()?;
        Some(due.max(self.not_before))
    }
}
