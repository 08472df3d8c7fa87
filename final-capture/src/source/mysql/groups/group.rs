//! An open transaction.

use std::{ops::Range, sync::Arc};

use super::{
    super::{raw::RawEvent, wire::CannotRead},
    savepoints::Savepoints,
};
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
    pub(super) savepoints: Savepoints,
}

impl Group {
    pub(super) fn transaction(&self) -> Transaction {
        Transaction {
            id: Arc::clone(&self.id),
            at: self.at,
            after: self.after.clone(),
        }
    }
    pub(super) fn savepoint(&mut self, name: &str) -> Result<(), CannotRead> {
        let set = self.savepoints.set(name, self.count);
        set.map_err(|why| self.cannot(&why))
    }

    pub(super) fn roll_back_to(&mut self, name: &str) -> Result<(), CannotRead> {
        let undone = self.savepoints.roll_back_to(name, self.count);
        undone.map_err(|why| self.cannot(&why))
    }

    fn cannot(&self, CannotRead(why): &CannotRead) -> CannotRead {
        CannotRead(format!("transaction {}: {why}", self.id))
    }
}
