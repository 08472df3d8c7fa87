//! UUIDs that are written in a way that no index is asked for.
//!
//! Input: keys that were looked up, and the rows that were found. State: whether the table had such a UUID lately. Output:
//! the keys that are to be searched for without the index.
//!
//! A text such as `6F9619FF-8b86-d011-b42d-00cf4fc964ff` is a UUID of the walk, because its digits count there. The index
//! is asked for small letters and for capitals only. A row that was not found so must not be taken for one that is not there.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{form::Row, plan::SidePlan, side::chunk::Found};

/// How long it counts that a table had no such UUID. To look for one reads all of its index.
const KNOWN: Duration = Duration::from_secs(10 * 60);

/// What is known of the table.
#[derive(Debug, Default)]
pub(crate) struct OddKeys {
    known: Mutex<Option<(Instant, bool)>>,
}

impl OddKeys {
    /// Whether the table has such a UUID. None if that has to be looked for.
    pub(super) fn known(&self) -> Option<bool> {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .filter(|(at, _)| at.elapsed() < KNOWN)
            .map(|(_, has)| has)
    }

    pub(super) fn learn(&self, has: bool) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), has));
    }
}

/// The keys without a row, if their rows may be written in such a way.
pub(super) fn lacking(plan: &SidePlan, keys: &[Row], found: &[Found]) -> Vec<Row> {
    let family = plan.table.family;
    if plan.keys.iter().all(|key| key.odd(family).is_none()) {
        return Vec::new();
    }
    let is_lacking = |key: &&Row| !found.iter().any(|found| found.key == **key);
    keys.iter().filter(is_lacking).cloned().collect()
}
