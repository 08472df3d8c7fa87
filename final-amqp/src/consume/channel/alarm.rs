//! A time that may change, or not be set.
//!
//! Input: a time, or none. State: a timer, which is made once. Output: the alarm rings at that time.

use std::pin::Pin;

use tokio::time::{Instant, Sleep, sleep_until};

/// An alarm for one task.
pub(super) struct Alarm {
    at: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl Alarm {
    /// An alarm that is not set.
    pub(super) fn new() -> Self {
        Self {
            at: None,
            timer: Box::pin(sleep_until(Instant::now())),
        }
    }

    pub(super) fn is_set(&self) -> bool {
        self.at.is_some()
    }

    /// Sets another time.
    pub(super) fn set(&mut self, at: Option<Instant>) {
        if let Some(at) = at
            && self.timer.deadline() != at
        {
            self.timer.as_mut().reset(at);
        }
        self.at = at;
    }

    /// Waits until the time. For ever if none is set.
    pub(super) async fn rings(&mut self) {
        match self.at {
            Some(_) => self.timer.as_mut().await,
            None => std::future::pending().await,
        }
    }
}
