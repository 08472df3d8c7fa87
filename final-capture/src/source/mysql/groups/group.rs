//! An open transaction, and which of its events count.
//!
//! Input: savepoints, and that it goes back to one. State: how many events have come, and which of them are undone.
//! Output: whether an event counts, once the end is known.

use std::{ops::Range, sync::Arc};

use super::super::{raw::RawEvent, wire::CannotRead};
use crate::{position::SourcePoint, source::Transaction};

/// How a transaction has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Committed,
    RolledBack,
    Prepared,
}

/// A large transaction whose end is known.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: Arc<str>,
    pub(super) ending: Ending,
    pub(super) undone: Vec<Range<u64>>,
}

#[derive(Debug)]
pub(super) enum Way {
    /// Its events are kept.
    Held { events: Vec<RawEvent>, bytes: usize },
    /// Only its end is looked for.
    Sought,
    /// Its end is known.
    Known(Known),
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: Arc<str>,
    pub(super) at: i64,
    pub(super) after: SourcePoint,
    /// One statement, and then it is over.
    pub(super) standalone: bool,
    pub(super) way: Way,
    /// How many events have come.
    pub(super) count: u64,
    /// Savepoints with the count where they were set.
    pub(super) savepoints: Vec<(String, u64)>,
    /// The events that savepoints have undone.
    pub(super) undone: Vec<Range<u64>>,
}

/// How many savepoints and undone ranges of one transaction are kept.
const MOST_SAVEPOINTS: usize = 100_000;

impl Group {
    pub(super) fn transaction(&self) -> Transaction {
        Transaction {
            id: Arc::clone(&self.id),
            at: self.at,
            after: self.after.clone(),
        }
    }

    pub(super) fn savepoint(&mut self, name: String) -> Result<(), CannotRead> {
        // One with the same name replaces the older one.
        self.savepoints
            .retain(|(older, _)| !older.eq_ignore_ascii_case(&name));
        if self.savepoints.len() >= MOST_SAVEPOINTS {
            return Err(CannotRead(format!(
                "transaction {} has more than {MOST_SAVEPOINTS} savepoints",
                self.id
            )));
        }
        self.savepoints.push((name, self.count));
        Ok(())
    }

    pub(super) fn roll_back_to(&mut self, name: &str) -> Result<(), CannotRead> {
        let found = self
            .savepoints
            .iter()
            .rposition(|(older, _)| older.eq_ignore_ascii_case(name));
        let Some((at, &(_, since))) = found.and_then(|at| Some((at, self.savepoints.get(at)?)))
        else {
            return Err(CannotRead(format!(
                "transaction {} goes back to a savepoint that it has not set",
                self.id
            )));
        };
        self.savepoints.truncate(at + 1);
        // Ranges inside of the new one are part of it.
        self.undone.retain(|range| range.start < since);
        if self.undone.len() >= MOST_SAVEPOINTS {
            return Err(CannotRead(format!(
                "transaction {} goes back to savepoints more than {MOST_SAVEPOINTS} times",
                self.id
            )));
        }
        if since < self.count {
            self.undone.push(since..self.count);
        }
        Ok(())
    }
}

/// Whether a number is in one of the ranges, which are in their order.
pub(super) fn is_in(ranges: &[Range<u64>], count: u64) -> bool {
    let at = ranges.partition_point(|range| range.end <= count);
    ranges.get(at).is_some_and(|range| range.contains(&count))
}
