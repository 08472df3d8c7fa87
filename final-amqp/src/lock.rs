//! Locks that outlive a panic.
//!
//! Input: a mutex. Output: its guard, also if a task has panicked with the lock.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, also where a task panicked while it had the lock.
///
/// A panic of one task is logged and the task goes on or starts again. A lock that stayed poisoned would
/// make every later task panic as well.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
