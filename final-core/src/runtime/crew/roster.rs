//! Who is at work, so that what hangs can be named and aborted.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::task::AbortHandle;

/// The tasks that have not ended, in the order they began.
#[derive(Default)]
pub(super) struct Roster(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    next: u64,
    /// The handle is missing for the moment between taking a place and being spawned.
    present: BTreeMap<u64, (Arc<str>, Option<AbortHandle>)>,
}

/// A task's place on the roster. Dropped, with the task, it is free.
pub(super) struct Place {
    number: u64,
    name: Arc<str>,
    roster: Arc<Roster>,
}

impl Roster {
    /// Takes a place. Before the task is spawned, so that a short one cannot leave before it came.
    pub(super) fn enter(roster: &Arc<Self>, name: Arc<str>) -> Place {
        let mut entries = roster.lock();
        let number = entries.next;
        entries.next += 1;
        entries.present.insert(number, (Arc::clone(&name), None));
        drop(entries);
        Place {
            number,
            name,
            roster: Arc::clone(roster),
        }
    }

    /// Adds how to abort the task of that place, if it is still there.
    pub(super) fn seat(&self, number: u64, handle: AbortHandle) {
        if let Some((_, seat)) = self.lock().present.get_mut(&number) {
            *seat = Some(handle);
        }
    }

    /// Aborts everybody, and says who that was.
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

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.roster.lock().present.remove(&self.number);
    }
}
