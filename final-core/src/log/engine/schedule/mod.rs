//! When the engine does what. It is pure, so a test walks through it with a clock of its own.
//!
//! Input: events of the engine, each with its time. State: for each job of the engine when it is due. Output:
//! which jobs are due now, and when the engine wakes up next.
//!
//! | job | due |
//! | --- | --- |
//! | refresh | every `poll_interval`; every 250 ms while lanes are missing; at once after a failure, a lost lane, a promotion |
//! | promote | when the first scheduled message is due, unless the last promotion found it locked or failed |
//! | commit | see [`Commits`] |
//! | read, poll | see [`Reads`] |
//!
//! Whatever happens, the next wakeup is at most `poll_interval` away, and a round that has done what was due
//! makes its next time lie in the future.

mod commits;
mod reads;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use self::{commits::Commits, reads::Reads};
use crate::{log::tuning::Tuning, runtime::backoff::Backoff};

/// How often a member refreshes that has fewer lanes than its share.
const UNSETTLED: Duration = Duration::from_millis(250);
/// The pauses after a failure.
pub(super) const PAUSES: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));

/// The times of all jobs.
#[derive(Debug)]
pub(super) struct Schedule {
    pub(super) commits: Commits,
    pub(super) reads: Reads,
    poll_interval: Duration,
    /// When the next refresh is due. Each round ends by then at the latest.
    refresh_at: Instant,
    /// When the first scheduled message is due.
    promote_at: Option<Instant>,
    /// No promotion before this: the end of the pause after the last one.
    promote_after: Instant,
    /// Rounds that have failed, in a row.
    failures: u32,
}

/// Times and facts that other parts of the engine know.
#[derive(Clone, Copy, Debug)]
pub(super) struct OtherTimes {
    /// Whether a committed row lags behind what was read.
    pub(super) lags: bool,
    /// When the next refused side effect is tried again.
    pub(super) retry_at: Option<Instant>,
    /// When a message is due that this process has scheduled.
    pub(super) alarm: Option<Instant>,
    /// When something is to be done about held messages.
    pub(super) held_at: Option<Instant>,
    /// `None` while nothing is read: the bus stops, the lease may be over, or there is no room.
    pub(super) reading: Option<Reading>,
}

/// What reading waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// When the next gap is looked for or filled.
    pub(super) gap_at: Option<Instant>,
    /// Whether any stream may have more rows.
    pub(super) can_read: bool,
    /// Whether other processes are heard, so that polling is not needed.
    pub(super) is_listening: bool,
}

impl Schedule {
    /// Everything is due at once.
    pub(super) fn new(tuning: &Tuning, now: Instant) -> Self {
        Self {
            commits: Commits::new(tuning, now),
            reads: Reads::new(tuning, now),
            poll_interval: tuning.poll_interval,
            refresh_at: now,
            promote_at: None,
            promote_after: now,
            failures: 0,
        }
    }

    pub(super) fn refresh_is_due(&self, now: Instant) -> bool {
        now >= self.refresh_at
    }

    /// Makes the next round refresh: a lane was lost, a round failed, or members came or went.
    pub(super) fn refresh_now(&mut self, now: Instant) {
        self.refresh_at = now;
    }

    /// A refresh is done. `is_content` says whether this member has its share of the lanes.
    pub(super) fn refreshed(&mut self, now: Instant, is_content: bool) {
        let pause = if is_content {
            self.poll_interval
        } else {
            UNSETTLED.min(self.poll_interval)
        };
        self.refresh_at = now + pause;
    }

    /// A refresh has told when the first scheduled message is due, if there is any.
    pub(super) fn message_due_at(&mut self, at: Option<Instant>) {
        self.promote_at = at.map(|at| at.max(self.promote_after));
    }

    pub(super) fn promotion_is_due(&self, now: Instant) -> bool {
        self.promote_at.is_some_and(|at| at <= now)
    }

    /// A promotion is done. A refresh finds out when the next message is due; it is promoted after the pause.
    pub(super) fn promoted(&mut self, now: Instant, pause: Duration) {
        self.refresh_at = now;
        self.promote_after = now + pause;
        self.promote_at = None;
    }

    /// A round has failed. Returns how many have failed in a row, and the pause before the next.
    pub(super) fn step_failed(&mut self, now: Instant) -> (u32, Duration) {
        self.failures = self.failures.saturating_add(1);
        self.refresh_at = now;
        (self.failures, PAUSES.pause(self.failures))
    }

    /// A round has succeeded. True if the one before had failed.
    pub(super) fn step_succeeded(&mut self) -> bool {
        std::mem::take(&mut self.failures) > 0
    }

    /// When the engine wakes up next, if nothing happens before: for a commit, a promotion, a gap, a page, a
    /// poll, or at the latest for the next refresh.
    pub(super) fn wake_at(&self, others: &OtherTimes) -> Instant {
        let reading = others.reading.as_ref();
        let times = [
            self.commits.next(others.retry_at, others.lags),
            self.promote_at,
            others.alarm,
            others.held_at,
            reading.and_then(|reading| reading.gap_at),
            reading.and_then(|reading| self.reads.next(reading)),
        ];
        times
            .into_iter()
            .flatten()
            .fold(self.refresh_at, Instant::min)
    }
}
