//! The monotonic clock of rights, which a test can put forward.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A clock that starts at zero. Clones are the same clock.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    start: Instant,
    /// Milliseconds by which a test has put it forward.
    ahead: Arc<AtomicU64>,
    /// Where a test has stopped it.
    #[cfg(test)]
    stopped: Arc<std::sync::OnceLock<Duration>>,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            ahead: Arc::default(),
            #[cfg(test)]
            stopped: Arc::default(),
        }
    }

    /// How long it has run.
    pub(super) fn now(&self) -> Duration {
        let run = self.start.elapsed();
        #[cfg(test)]
        let run = self.stopped.get().copied().unwrap_or(run);
        run + Duration::from_millis(self.ahead.load(Ordering::Relaxed))
    }

    /// From now on it goes only as far as it is put forward.
    #[cfg(test)]
    pub(super) fn stop(&self) {
        let _ = self.stopped.set(self.start.elapsed());
    }

    #[cfg(test)]
    pub(super) fn put_forward(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).expect("a sane time");
        self.ahead.fetch_add(by, Ordering::Relaxed);
    }
}
