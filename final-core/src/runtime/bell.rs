//! The bell: tells one task that something is due now, and when the next thing is due.
//!
//! Input: rings ("look now"), nudges ("your own plan changed") and durations ("something is due after so
//! long"). State: whether the bell was rung, and the earliest time that was named. Output: the task wakes, and
//! asks [`Bell::take_ring`] and [`Bell::take_alarm`] for the reason.
//!
//! The log wakes many members at once and therefore has its own way to ring them, but the same [`Alarm`].

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::lock::lock;

/// What is added to a wait for a time that the database's clock decides.
///
/// Our clock measures the wait and the database's clock decides what is due. Without the margin a task
/// could ask a moment too early, find nothing, and wait for another reason to ask.
pub(crate) const CLOCK_MARGIN: Duration = Duration::from_millis(2);

/// Wakes one task.
///
/// ```text
///   ring ───────────▶ rung, task wakes ── take_ring ──▶ quiet
///   nudge ──────────▶ task wakes
///   due_in(wait) ───▶ alarm set; the task wakes if it is earlier than before
///                       └── its time comes, take_alarm ──▶ no alarm
/// ```
///
/// A ring that comes while the task does not wait is kept: its next wait ends at once.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    notify: Notify,
    rung: AtomicBool,
    alarm: Alarm,
}

/// The earliest time at which something is due.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Mutex<Option<Instant>>);

impl Bell {
    /// Tells the task that something is due now.
    pub(crate) fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    /// Wakes the task without a ring, so that it plans anew when to wake next.
    pub(crate) fn nudge(&self) {
        self.notify.notify_one();
    }

    /// Tells the task that something is due after `wait`.
    pub(crate) fn due_in(&self, wait: Duration) {
        if self.alarm.due_in(wait) {
            self.nudge();
        }
    }

    /// Waits until the task is woken. Only one task may wait.
    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }

    /// Whether the bell was rung since the last call.
    pub(crate) fn take_ring(&self) -> bool {
        self.rung.swap(false, Ordering::AcqRel)
    }

    /// The earliest time for which [`due_in`](Self::due_in) was called.
    pub(crate) fn alarm(&self) -> Option<Instant> {
        self.alarm.at()
    }

    /// Ends the alarm if its time has come. True if it had.
    pub(crate) fn take_alarm(&self) -> bool {
        self.alarm.take(Instant::now())
    }
}

impl Alarm {
    /// Notes that something is due after `wait`. True if nothing was due earlier.
    pub(crate) fn due_in(&self, wait: Duration) -> bool {
        let at = Instant::now() + wait + CLOCK_MARGIN;
        let mut alarm = lock(&self.0);
        let is_earliest = alarm.is_none_or(|earlier| at < earlier);
        if is_earliest {
            *alarm = Some(at);
        }
        is_earliest
    }

    /// When something is due.
    pub(crate) fn at(&self) -> Option<Instant> {
        *lock(&self.0)
    }

    /// Ends the alarm if its time has come at `now`. True if it had.
    pub(crate) fn take(&self, now: Instant) -> bool {
        lock(&self.0).take_if(|at| *at <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    #[test]
    fn a_ring_that_nobody_waits_for_is_kept() {
        let bell = Bell::default();
        bell.ring();
        assert!(bell.woken().now_or_never().is_some());
        assert!(bell.woken().now_or_never().is_none());
        assert!(bell.take_ring());
        assert!(!bell.take_ring());
    }

    #[test]
    fn a_nudge_wakes_without_a_ring() {
        let bell = Bell::default();
        bell.nudge();
        assert!(bell.woken().now_or_never().is_some());
        assert!(!bell.take_ring());
    }

    #[test]
    fn only_a_time_earlier_than_all_others_wakes() {
        let bell = Bell::default();
        bell.due_in(SOON);
        assert!(bell.woken().now_or_never().is_some());
        let first = bell.alarm();
        bell.due_in(SOON * 2);
        assert!(bell.woken().now_or_never().is_none());
        assert_eq!(bell.alarm(), first);
        bell.due_in(Duration::ZERO);
        assert!(bell.woken().now_or_never().is_some());
        assert!(bell.alarm() < first);
    }

    #[test]
    fn an_alarm_ends_when_its_time_has_come_and_not_before() {
        let alarm = Alarm::default();
        let before = Instant::now();
        assert!(alarm.due_in(SOON));
        assert!(!alarm.take(before + SOON));
        assert!(
            alarm
                .at()
                .is_some_and(|at| at >= before + SOON + CLOCK_MARGIN)
        );
        assert!(alarm.take(Instant::now() + SOON + CLOCK_MARGIN));
        assert_eq!(alarm.at(), None);
    }
}
