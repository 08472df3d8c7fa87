//! The time, as a caller reads it: a test can set it.

use std::{
    fmt,
    time::{Instant, SystemTime},
};

/// Tells the time. Circuits go by `now`, signatures and dates by `wall`.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The running clock, which is never set.
    fn now(&self) -> Instant;
    /// The clock on the wall.
    fn wall(&self) -> SystemTime;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}
