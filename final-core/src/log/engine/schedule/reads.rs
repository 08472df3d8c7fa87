//! When pages are read, and when the log is polled for messages of other processes.
//!
//! Input: the number of rows of the last page, and announcements. State: the pause before the next page, and the
//! pause of polling. Output: whether a page may be read now, and whether every stream is to be read by poll.
//!
//! ```text
//!   not polling ─ rows that this process has not announced ─▶ every 5 ms
//!        ▲                                                       │ nothing found: twice the pause
//!        └───────────── the pause is `poll_interval` ◀───────────┘
//! ```
//!
//! A refresh looks for new messages too, every `poll_interval`. So polling only goes on while other processes
//! publish, and does not go on at all while they are heard by NOTIFY.

use std::time::{Duration, Instant};

use super::Reading;
use crate::log::tuning::Tuning;

/// The pause between two pages while messages come one by one.
const PACE: Duration = Duration::from_millis(2);
/// The pause while they come in bulk: they are then read by the dozen.
const STEADY_PACE: Duration = Duration::from_millis(5);
/// A page with this many rows means that messages come in bulk.
const STEADY: usize = 8;
/// The pause of polling after it has found something.
const FIRST_POLL: Duration = Duration::from_millis(5);

/// The pauses of reading. A page that is announced is read soon; a page that nothing has announced is found by
/// a poll or by the next refresh.
#[derive(Debug)]
pub(in crate::log::engine) struct Reads {
    poll_interval: Duration,
    /// The end of the pause after the last page.
    read_at: Instant,
    /// When the next poll is due, while the log is polled.
    poll_at: Instant,
    /// The pause between polls. As long as `poll_interval`, it means that nothing is polled.
    poll_pause: Duration,
    /// Whether this process has announced messages since the last page.
    was_announced: bool,
}

impl Reads {
    pub(super) fn new(tuning: &Tuning, now: Instant) -> Self {
        Self {
            poll_interval: tuning.poll_interval,
            read_at: now,
            poll_at: now,
            poll_pause: tuning.poll_interval,
            was_announced: false,
        }
    }

    /// This process has announced messages.
    pub(in crate::log::engine) fn announced(&mut self) {
        self.was_announced = true;
    }

    /// Whether this process has announced messages since the last page. The next page begins.
    pub(in crate::log::engine) fn take_announced(&mut self) -> bool {
        std::mem::take(&mut self.was_announced)
    }

    /// Whether the pause after the last page is over.
    pub(in crate::log::engine) fn is_due(&self, now: Instant) -> bool {
        now >= self.read_at
    }

    /// Whether the log is polled for messages of other processes.
    pub(super) fn polls(&self, is_listening: bool) -> bool {
        self.poll_pause < self.poll_interval && !is_listening
    }

    /// Whether a poll is due.
    pub(in crate::log::engine) fn poll_is_due(&self, now: Instant, is_listening: bool) -> bool {
        self.polls(is_listening) && now >= self.poll_at
    }

    /// All streams were read, and gave so many rows. `polls_on` if it was a poll, or if other processes have
    /// published some of them.
    pub(in crate::log::engine) fn has_read(&mut self, now: Instant, rows: usize, polls_on: bool) {
        if rows > 0 {
            self.read_at = now + if rows < STEADY { PACE } else { STEADY_PACE };
        }
        if polls_on {
            self.poll_pause = if rows > 0 {
                FIRST_POLL
            } else {
                (self.poll_pause * 2).min(self.poll_interval)
            };
            self.poll_at = now + self.poll_pause;
        }
    }

    /// When something is to be read next. `None` if nothing is before an event.
    pub(super) fn next(&self, reading: &Reading) -> Option<Instant> {
        let page = reading.can_read.then_some(self.read_at);
        // A poll reads a page, so it waits for the pause after the last one too.
        let poll = self
            .polls(reading.is_listening)
            .then(|| self.poll_at.max(self.read_at));
        [page, poll].into_iter().flatten().min()
    }
}
