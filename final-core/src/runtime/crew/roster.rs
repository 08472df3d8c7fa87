//! The roster: which tasks run, so that a task that hangs can be named and aborted.
//!
//! Input: a name and an abort handle for each task that starts, and the end of each task. Output: the names of
//! the tasks that still run, once they are aborted.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::task::AbortHandle;

use crate::lock::lock;

/// The tasks that have not ended, in the order they began.
#[derive(Default)]
pub(super) struct Roster(Mutex<RosterEntries>);

#[derive(Default)]
struct RosterEntries {
    next: u64,
    /// The handle is missing between entering the roster and being spawned.
    present: BTreeMap<u64, (Arc<str>, Option<AbortHandle>)>,
}

/// A task's place on the roster. The task holds it, so it is free when the task is dropped.
pub(super) struct RosterPlace {
    number: u64,
    name: Arc<str>,
    roster: Arc<Roster>,
}

impl Roster {
    /// Takes a place for a task before it is spawned, so that a short task cannot leave before it has entered.
    pub(super) fn enter(roster: &Arc<Self>, name: Arc<str>) -> RosterPlace {
        let mut entries = roster.lock();
        let number = entries.next;
        entries.next += 1;
        entries.present.insert(number, (Arc::clone(&name), None));
        drop(entries);
        RosterPlace {
            number,
            name,
            roster: Arc::clone(roster),
        }
    }

    /// Adds the abort handle of the task at this place, if the task has not ended.
    pub(super) fn seat(&self, number: u64, handle: AbortHandle) {
        if let Some((_, seat)) = self.lock().present.get_mut(&number) {
            *seat = Some(handle);
        }
    }

    /// Aborts all tasks, and returns their names.
    pub(super) fn abort_all(&self) -> Vec<Arc<str>> {
        self.lock()
            .present
            .values()
            .map(|(name, handle)| {
                if let Some(handle) = handle {
                    handle.abort();
                }
                Arc::clone(name)
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, RosterEntries> {
        lock(&self.0)
    }
}

impl RosterPlace {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for RosterPlace {
    fn drop(&mut self) {
        self.roster.lock().present.remove(&self.number);
    }
}
