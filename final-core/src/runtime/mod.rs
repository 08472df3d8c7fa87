//! What outbox, log, relay and consuming share at run time, and what knows nothing of messages.
//!
//! [`crew`] runs background tasks, [`finishing`] runs work that must not stop half-way, [`bell`] wakes a
//! task, [`backoff`] says how long to wait before another try, and [`counter`] counts for `Bus::stats`.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) mod backoff;
pub(crate) mod bell;
pub(crate) mod counter;
pub(crate) mod crew;
pub(crate) mod finishing;

/// Locks a mutex whose holder may have panicked.
///
/// Use it where every change of what the mutex holds is one step, so that a panic leaves nothing half done.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
